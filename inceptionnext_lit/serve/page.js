"use strict";
const AT_ONCE = 4; // requests
const LARGEST_MASK = 1024; // pixels of a side
const MOST_CLASSES = 8; // with bars
const TRIES = 30; // of an image, while the server is busy
const byId = id => document.getElementById(id);
const waiting = []; // cards to label
let running = 0, sent = 0, done = 0;
let model = {class_words: {}, heat_map: false, multi_label: false, limits: {}};

function percent(value) {
  return `${(100 * value).toFixed(1)} %`;
}
function readable(name) {
  const word = (model.class_words[name] || "").split(",")[0];
  return word ? `${word} (${name})` : name;
}
function say(text) {
  byId("status").textContent = text;
}
function sleep(seconds) {
  return new Promise(resolve => setTimeout(resolve, 1000 * seconds));
}
async function reason(response) {
  try {
    return (await response.json()).detail;
  } catch {
    return `The server answered ${response.status}.`;
  }
}

// Send an image; while the server is busy, wait as long as it says.
async function post(path, file) {
  const type = file.type.startsWith("image/") ? file.type : "application/octet-stream";
  for (let tries = 1; ; tries += 1) {
    const response = await fetch(path, {method: "POST", body: file, headers: {"Content-Type": type}});
    if (response.status !== 503 || tries === TRIES) return response;
    say("The server is busy; waiting.");
    await sleep(Number(response.headers.get("Retry-After")) || 1);
  }
}

function addCard(file) {
  const card = byId("card").content.firstElementChild.cloneNode(true);
  card.file = file;
  card.querySelector("h2").textContent = file.name || "pasted image";
  const image = card.querySelector("img");
  image.addEventListener("load", () => { if (image.naturalWidth < 128) image.style.imageRendering = "pixelated"; });
  image.addEventListener("error", () => {
    const place = image.parentElement;
    place.classList.add("none");
    place.textContent = "no preview";
  });
  image.src = card.address = URL.createObjectURL(file);
  card.querySelector(".explain").addEventListener("click", () => toggleMap(card));
  byId("results").append(card);
  return card;
}

function mark(card) {
  const limit = Number(byId("limit").value) / 100;
  card.querySelector(".flag").hidden = !card.row || (card.row.probability ?? card.row.confidence) >= limit;
}

function answer(row) {
  if (row.areas) return `Confidence ${percent(row.confidence)}`;
  const names = row.label === "" ? [] : model.multi_label ? row.label.split("|") : [row.label];
  const text = names.map(readable).join(", ") || "no label";
  return model.multi_label ? text : `${text}, ${percent(row.probability)}`;
}

function color(name) {
  const [red, green, blue] = model.palette[model.class_names.indexOf(name)];
  return `rgb(${red}, ${green}, ${blue})`;
}

// Lay the mask over the image: black, which is the background, stays clear.
async function showMask(card, row) {
  const image = new Image();
  image.src = `data:image/png;base64,${row.mask}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  const scale = Math.min(1, LARGEST_MASK / Math.max(image.naturalWidth, image.naturalHeight));
  canvas.width = Math.max(1, Math.round(scale * image.naturalWidth));
  canvas.height = Math.max(1, Math.round(scale * image.naturalHeight));
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let place = 0; place < pixels.data.length; place += 4) {
    if (!pixels.data[place] && !pixels.data[place + 1] && !pixels.data[place + 2]) pixels.data[place + 3] = 0;
  }
  context.putImageData(pixels, 0, 0);
  canvas.className = "mask";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Mask: ${largest(row).map(([name, share]) => `${readable(name)} ${percent(share)}`).join(", ")}`);
  card.querySelector(".picture").append(canvas);
  const button = card.querySelector(".toggle");
  button.hidden = false;
  button.addEventListener("click", () => {
    canvas.hidden = !canvas.hidden;
    button.setAttribute("aria-pressed", String(!canvas.hidden));
  });
}

function largest(row) {
  const found = Object.entries(row.top5 || row.areas);
  return row.top5 ? found : found.filter(([, share]) => share >= 0.0005).sort((a, b) => b[1] - a[1]).slice(0, MOST_CLASSES);
}

function fill(card, row) {
  card.row = row;
  card.querySelector(".answer").textContent = answer(row);
  for (const [name, value] of largest(row)) {
    const [item, label, number, track, bar] = ["li", "span", "span", "span", "span"].map(tag => document.createElement(tag));
    label.textContent = readable(name);
    number.className = "percent";
    number.textContent = percent(value);
    track.className = "track";
    bar.className = "fill";
    bar.style.width = `${100 * value}%`;
    if (row.areas) bar.style.background = color(name);
    track.append(bar);
    item.append(label, number, track);
    card.querySelector(".bars").append(item);
  }
  mark(card);
  if (row.mask) showMask(card, row);
  card.querySelector(".explain").hidden = !model.heat_map;
}

function fail(card, text) {
  card.classList.add("failed");
  card.querySelector(".answer").textContent = text;
  card.querySelector(".bars").remove();
}

async function label(card) {
  try {
    const response = await post("predict", card.file);
    if (response.ok) fill(card, (await response.json())[0]);
    else fail(card, await reason(response));
  } catch {
    fail(card, "The server cannot be reached.");
  }
  done += 1;
  const last = card.querySelector(".answer").textContent;
  say(sent === 1 ? last : `${done} of ${sent} images done. ${done === sent ? "" : "The last: " + last}`.trim());
}

function next() {
  while (running < AT_ONCE && waiting.length) {
    running += 1;
    label(waiting.shift()).finally(() => { running -= 1; next(); });
  }
}

function take(files) {
  if (!files.length) {
    say("There is no image in it; choose, drop or paste image files.");
    return;
  }
  if (done === sent) sent = done = 0;
  for (const file of files) {
    sent += 1;
    waiting.push(addCard(file));
  }
  byId("clear").hidden = false;
  next();
}

async function toggleMap(card) {
  const button = card.querySelector(".explain"), map = card.querySelector(".map");
  const opens = button.getAttribute("aria-expanded") === "false";
  button.setAttribute("aria-expanded", String(opens));
  map.hidden = !opens;
  if (!opens || map.childElementCount) return;
  map.textContent = "Drawing …";
  const best = Object.keys(card.row.top5)[0];
  try {
    const response = await post(`explain?target=${encodeURIComponent(best)}`, card.file);
    if (!response.ok) throw new Error(await reason(response));
    const image = document.createElement("img");
    const empty = response.headers.has("X-Empty-Map");
    image.alt = `Heat map: what speaks for ${readable(best)}${empty ? "; it is empty" : ""}`;
    image.src = URL.createObjectURL(await response.blob());
    const note = document.createElement("p");
    note.className = "note";
    note.textContent = empty ? `Nothing speaks for ${readable(best)}.` : `Bright: what speaks for ${readable(best)} (Grad-CAM).`;
    map.replaceChildren(image, note);
    say(image.alt);
  } catch (error) {
    map.textContent = error.message;
    say(error.message);
  }
}

function clear() {
  for (const card of byId("results").children) URL.revokeObjectURL(card.address);
  waiting.length = sent = done = 0;
  byId("results").replaceChildren();
  byId("clear").hidden = true;
  say("Removed.");
  byId("files").focus();
}

async function begin() {
  try {
    model = await (await fetch("metadata")).json();
  } catch {
    byId("model").textContent = "The server cannot be reached.";
    return;
  }
  byId("model").textContent = `${model.model}, ${model.num_classes.toLocaleString("en")} classes`;
  if (model.task === "segmentation") {
    document.title = document.querySelector("h1").textContent = "Segment images";
    document.body.classList.add("segments");
  }
  if (model.unsure_below !== null) byId("limit").value = String(+(100 * model.unsure_below).toFixed(6));
}

byId("files").addEventListener("change", event => {
  take([...event.target.files]);
  event.target.value = "";
});
byId("limit").addEventListener("input", () => [...byId("results").children].forEach(mark));
byId("clear").addEventListener("click", clear);
addEventListener("paste", event => {
  if (event.target !== byId("limit")) take([...event.clipboardData.files]);
});
addEventListener("dragover", event => {
  event.preventDefault();
  byId("drop").classList.add("over");
});
addEventListener("dragleave", event => {
  if (event.relatedTarget === null) byId("drop").classList.remove("over");
});
addEventListener("drop", event => {
  event.preventDefault();
  byId("drop").classList.remove("over");
  take([...event.dataTransfer.files]);
});
const ready = begin();
