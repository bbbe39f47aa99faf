"use strict";
function value(row, column) {
  const text = row.cells[column].textContent.trim();
  const number = parseFloat(text.replace(/,/g, ""));
  return text === "\u2013" || text === "" ? null : Number.isNaN(number) ? text.toLowerCase() : number;
}
function compare(one, other) {
  if (one === null || other === null) return (one === null) - (other === null);
  if (typeof one === typeof other) return one < other ? -1 : one > other ? 1 : 0;
  return typeof one === "number" ? -1 : 1;
}
function sortBy(table, header, column) {
  const down = header.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  const rows = Array.from(table.tBodies[0].rows);
  rows.sort((a, b) => {
    const [x, y] = [value(a, column), value(b, column)];
    return x === null || y === null || !down ? compare(x, y) : compare(y, x);
  });
  table.tBodies[0].append(...rows);
}
for (const table of document.querySelectorAll("table.sortable")) {
  Array.from(table.tHead.rows[0].cells).forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = header.textContent;
    button.addEventListener("click", () => sortBy(table, header, column));
    header.replaceChildren(button);
  });
  if (!table.dataset.filter || table.tBodies[0].rows.length < 15) continue;
  const label = document.createElement("label");
  const input = document.createElement("input");
  input.type = "search";
  label.append(table.dataset.filter + " ", input);
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase();
    for (const row of table.tBodies[0].rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
  });
  table.closest(".scroll").before(label);
}
