"use strict";
function element(tag, text, ...children) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}
function table(heads, rows) {
  const made = element("table");
  made.createTHead().append(element("tr", "", ...heads.map(text => {
    const cell = element("th", text);
    cell.scope = "col";
    return cell;
  })));
  made.createTBody().append(...rows.map(row => element("tr", "", ...row.map(text => element("td", text)))));
  const scroll = element("div", "", made);
  scroll.className = "scroll";
  return scroll;
}
function typeOf(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" or ");
  if (schema.type === "array") return `list of ${typeOf(schema.items)}`;
  if (schema.additionalProperties && schema.additionalProperties.type) return `object of ${typeOf(schema.additionalProperties)}`;
  return schema.format || schema.type || "any";
}
function content(of) {
  return Object.entries((of && of.content) || {}).map(([kind, {schema}]) => schema ? `${kind}: ${typeOf(schema)}` : kind);
}
function operation(path, method, said) {
  const section = element("section", "", element("h2", `${method.toUpperCase()} ${path}`), element("p", said.summary));
  if (said.description) section.append(element("p", said.description));
  if (said.parameters) {
    section.append(table(["parameter", "type"], said.parameters.map(one => [one.name, typeOf(one.schema)])));
  }
  if (said.requestBody) section.append(element("p", `Body: ${content(said.requestBody).join("; ")}`));
  section.append(table(["status", "meaning", "content"],
    Object.entries(said.responses).map(([status, answer]) => [status, answer.description, content(answer).join("; ")])));
  return section;
}
function schema(name, said) {
  const rows = Object.entries(said.properties || {}).map(([field, of]) => [field, typeOf(of), of.description || ""]);
  const section = element("section", "", element("h2", name));
  if (said.description) section.append(element("p", said.description));
  section.append(table(["field", "type", "meaning"], rows));
  return section;
}
async function begin() {
  const place = document.getElementById("operations");
  const home = new URL("./", location.href).href;
  for (const origin of document.querySelectorAll(".origin")) origin.textContent = home;
  try {
    const api = await (await fetch("openapi.json")).json();
    for (const [path, methods] of Object.entries(api.paths)) {
      for (const [method, said] of Object.entries(methods)) place.append(operation(path, method, said));
    }
    for (const [name, said] of Object.entries(api.components.schemas)) place.append(schema(name, said));
  } catch {
    place.textContent = "The server cannot be reached.";
  }
}
const ready = begin();
