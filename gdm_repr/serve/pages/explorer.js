// The page: which image is looked at, its three pictures, and the tool that edits it.

import { Refused, get, imageOfStore, latentsOfFile, latentsOfStore, picture, post } from "./api.js";
import { asCommand, asPython } from "./recipes.js";
import { TOOLS } from "./tools.js";

export const $ = (id) => document.getElementById(id);
export const QUICK = 12; // steps while a slider is dragged
const NPY = "application/x-npy";
const PAGE = 24; // pictures of a store at a time
const TARGETS = { a: "image", b: "second image", plus: "+ group", minus: "- group" };
const FROM = { store: "store", file: "file", sample: "seed" };

// All that the page knows. An image: { kind, name, z, url, file?, item?, seed? }.
export const state = {
  models: [], stores: [], model: null, a: null, b: null, plus: [], minus: [], target: "a",
  tool: "elements", first: 0, edit: null,
};
window.gdm = { state, times: [] }; // for whoever measures

export const element = (name, options = {}, ...children) => {
  const made = Object.assign(document.createElement(name), options);
  made.append(...children);
  return made;
};

// ---- what is said -------------------------------------------------------------------------------

let hiding;
export function say(text, bad = false) {
  $("status").textContent = text;
  $("status").className = text ? (bad ? "shown bad" : "shown") : "";
  clearTimeout(hiding);
  if (text) hiding = setTimeout(() => say(""), bad ? 9000 : 3000);
}

// Run something a person asked for; say what went wrong.
export const doing = async (work, text = "") => {
  if (text) say(text);
  try {
    const made = await work();
    if (text && $("status").textContent === text) say("");
    return made;
  } catch (error) {
    if (error.name === "AbortError") return undefined;
    say(error.message, true);
    if (!(error instanceof Refused)) throw error;
    return undefined;
  }
};

// ---- the model ----------------------------------------------------------------------------------

export const asked = (more = {}) => ({ model: state.model.name, ...more });
export const bands = () => state.model.bands;
export const shape = () => [1, ...state.model.latents];
export const storeOf = (model) => state.stores.filter((each) => each.model === model);
export const currentStore = () => state.stores.find((each) => each.name === $("store").value);

// Nested lists (1, C, d), as JSON bodies have latents.
export function nested(z) {
  const [channels, d] = state.model.latents;
  return Array.from({ length: channels }, (_, c) => Array.from(z.subarray(c * d, (c + 1) * d)));
}

// Go through the numbers of some bands: places in z.
export function* places(names) {
  const [channels, d] = state.model.latents;
  const wanted = new Set(names.map((name) => bands().indexOf(name)));
  for (let c = 0; c < channels; c++) {
    const groups = state.model.groups[state.model.groups.length === 1 ? 0 : c];
    for (let i = 0; i < d; i++) if (wanted.has(groups[i])) yield c * d + i;
  }
}

// ---- pictures -----------------------------------------------------------------------------------

const urls = new Map();
export function show(id, source) {
  const image = $(id);
  if (urls.has(id)) URL.revokeObjectURL(urls.get(id));
  urls.delete(id);
  if (!source) return image.removeAttribute("src");
  if (source instanceof Blob) urls.set(id, URL.createObjectURL(source));
  image.src = urls.get(id) ?? source;
}

// Follow a slider: one request at a time, and of those that come meanwhile the latest.
export class Follow {
  constructor(box, make) {
    this.box = box; // of the tool: what comes when another is open is not shown
    this.make = make; // (steps, signal) => a Blob
    this.next = null;
    this.running = null;
  }

  quick() { this.ask(Math.max(QUICK, bands().length)); }

  exact() { this.ask(undefined); }

  ask(steps) {
    const began = performance.now();
    if (this.running && steps === undefined) this.running.abort(); // what is exact comes first
    this.next = { steps, began };
    if (!this.running) this.run();
  }

  async run() {
    while (this.next) {
      const { steps, began } = this.next;
      this.next = null;
      this.running = new AbortController();
      const done = await doing(() => this.make(steps, this.running.signal));
      this.running = null;
      if (!done || !this.box.isConnected) continue;
      show("edited", done);
      await $("edited").decode().catch(() => {});
      window.gdm.times.push({ exact: steps === undefined, ms: performance.now() - began });
      $("edited-note").textContent = steps === undefined ? "exact" : "preview";
    }
  }
}

// Decode latents that a tool made of the image's.
export const decoded = (z, steps, signal) =>
  post("v1/decode", asked({ steps }), { z, shape: shape() }, "image/png", signal);

// ---- choosing an image --------------------------------------------------------------------------

async function take(kind, given) {
  const image = { kind, ...given };
  const { target } = state;
  await doing(async () => {
    if (kind === "store") {
      [image.z, image.original] = await Promise.all([latentsOfStore(image.store, image.name), imageOfStore(image.store, image.name)]);
    }
    if (kind === "file") {
      image.original = await post("v1/prepare", asked(), image.file, "image/png");
      image.z = await latentsOfFile(asked(), image.file);
    }
    if (kind === "sample") image.z = await latentsOfSample(image.seed);
    image.url = await decoded(image.z);
    if (target === "b" && state.a) {
      state.b = image;
      state.edit?.second?.();
    } else {
      state.a = image;
      await showImage();
    }
  }, kind === "file" ? "Encoding" : "");
}

// Latents of a seed, from the service: the page draws no numbers of its own.
const latentsOfSample = (seed) => post("v1/sample", asked({ seed, latents: true }), undefined, NPY);

async function showImage() {
  const { a } = state;
  show("original", a.original ?? a.url);
  show("reconstruction", a.url);
  show("edited", a.url);
  const stands = { store: "not at hand: its reconstruction", sample: `drawn, seed ${a.seed}` }[a.kind];
  $("original-note").textContent = a.original ? (a.item ? describe(a.item) : a.name) : stands;
  $("edited-note").textContent = "";
  $("errors").replaceChildren();
  $("errors-said").textContent = "Errors by band";
  $("errors-box").hidden = a.kind === "sample";
  openTool(state.tool);
  if ($("errors-box").open) await showErrors();
}

const describe = (item) => {
  const short = (value) => (typeof value === "number" ? Number(value.toPrecision(3)) : value);
  const labels = Object.entries(item.labels).map(([name, value]) => `${name} ${short(value)}`);
  const part = item.held_out === null ? [] : [item.held_out ? "held out" : "in training"];
  return [item.id, ...labels.slice(0, 3), ...part].join(" · ");
};

async function showErrors() {
  const { a } = state;
  if (!a || a.kind === "sample" || $("errors").childElementCount) return;
  await doing(async () => {
    const found = a.kind === "file"
      ? (await post("v1/reconstruct", asked(), a.file)).errors
      : (await get(`v1/stores/${encodeURIComponent(a.store)}/latents`, { ids: a.name })).errors;
    if (a !== state.a) return;
    const rows = [["Latents, by the solver's steps", "latent_error"], ["Pixels, encoded and decoded again", "round_trip_error"]];
    const table = element("table", {}, element("tr", {}, element("th", { textContent: "RMS error" }), ...["all", ...bands()].map((name) => element("th", { className: "n", textContent: name }))));
    for (const [title, name] of rows) {
      if (!found[name]) continue;
      const values = [found[name][0], ...(found[`${name}_by_group`]?.[0] ?? [])];
      table.append(element("tr", {}, element("td", { textContent: title }), ...values.map((value) => element("td", { className: "n", textContent: value.toPrecision(2) }))));
    }
    const none = element("p", { className: "quiet", textContent: "The store has none of this image." });
    $("errors").replaceChildren(table.rows.length > 1 ? table : none);
  }, "Measuring errors");
}

// ---- the store ----------------------------------------------------------------------------------

function options(select, values, chosen) {
  select.replaceChildren(...values.map(([value, text]) => new Option(text, value, false, value === chosen)));
}

function openStore() {
  const store = currentStore();
  const known = store ? Object.entries(store.labels).filter(([, values]) => values) : [];
  $("label-field").hidden = $("value-field").hidden = !known.length;
  options($("label"), [["", "any"], ...known.map(([name]) => [name, name])]);
  openLabel();
}

function openLabel() {
  const values = currentStore()?.labels[$("label").value] ?? [];
  $("value-field").hidden = !$("label").value;
  options($("value"), values.map((value) => [value, value]));
  state.first = 0;
  fill();
}

let filling = 0;
async function fill() {
  const store = currentStore();
  if (!store) return;
  const mine = ++filling;
  const label = $("label").value;
  const found = await doing(() => get(`v1/stores/${encodeURIComponent(store.name)}/items`, {
    first: state.first, n: PAGE, text: $("text").value, pictures: true,
    ...(label && { label, value: $("value").value }),
  }));
  if (!found || mine !== filling) return;
  $("grid").replaceChildren(...found.items.map((item) => {
    const image = element("img", { src: picture(item.image), alt: "" });
    const button = element("button", { type: "button", title: describe(item), ariaLabel: describe(item) }, image);
    button.dataset.id = item.id;
    button.onclick = () => choose(store, item);
    return button;
  }));
  const last = Math.min(state.first + PAGE, found.total);
  $("place").textContent = found.total ? `${state.first + 1}–${last} of ${found.total.toLocaleString()}` : "no such image";
  $("back").disabled = state.first === 0;
  $("on").disabled = last >= found.total;
  mark();
}

function choose(store, item) {
  if (state.target === "plus" || state.target === "minus") {
    const list = state[state.target];
    const there = list.indexOf(item.id);
    if (there >= 0) list.splice(there, 1);
    else list.push(item.id);
    const other = state.target === "plus" ? state.minus : state.plus;
    if (other.includes(item.id)) other.splice(other.indexOf(item.id), 1);
    mark();
    state.edit?.groups?.();
    return;
  }
  take("store", { store: store.name, name: item.id, item }).then(mark);
}

function mark() {
  for (const button of $("grid").children) {
    const { id } = button.dataset;
    const chosen = [state.a, state.b].some((image) => image?.kind === "store" && image.name === id);
    button.classList.toggle("chosen", chosen);
    button.classList.toggle("plus", state.plus.includes(id));
    button.classList.toggle("minus", state.minus.includes(id));
  }
}

// ---- segments -----------------------------------------------------------------------------------

function segments(box, names, chosen, pick) {
  const isRadio = box.getAttribute("role") === "radiogroup";
  const mark = isRadio ? "aria-checked" : "aria-selected";
  box.replaceChildren(...Object.entries(names).map(([name, text]) => {
    const button = element("button", { type: "button", textContent: text });
    button.setAttribute("role", isRadio ? "radio" : "tab");
    button.setAttribute(mark, name === chosen);
    button.dataset.name = name;
    button.onclick = () => {
      for (const other of box.children) other.setAttribute(mark, other === button);
      pick(name);
    };
    return button;
  }));
}

export function aim(target) {
  state.target = target;
  for (const button of $("target").children) button.setAttribute("aria-checked", button.dataset.name === target);
}

function openFrom(from) {
  for (const name of Object.keys(FROM)) $(`from-${name}`).hidden = name !== from;
}

function openTool(name) {
  state.tool = name;
  for (const button of $("tools").children) button.setAttribute("aria-selected", button.dataset.name === name);
  $("copied").hidden = true;
  $("tool").replaceChildren();
  show("edited", state.a?.url);
  $("edited-note").textContent = "";
  state.edit = null;
  if (!state.a) return;
  const box = element("div");
  $("tool").append(box);
  state.edit = TOOLS[name].open(box) ?? {};
}

// ---- the page -----------------------------------------------------------------------------------

function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function copy(text) {
  $("copied").hidden = false;
  $("copied").textContent = text;
  try {
    await navigator.clipboard.writeText(text);
    say("Copied");
  } catch {
    getSelection().selectAllChildren($("copied"));
    say("Press Ctrl+C to copy it");
  }
}

async function openModel() {
  state.model = state.models.find((each) => each.name === $("model").value);
  state.a = state.b = null;
  state.plus = [];
  state.minus = [];
  const stores = storeOf(state.model.name);
  options($("store"), stores.map((each) => [each.name, `${each.name} (${each.images.toLocaleString()})`]));
  const from = { ...FROM };
  if (!stores.length) delete from.store;
  const first = stores.length ? "store" : "sample";
  segments($("from"), from, first, openFrom);
  openFrom(first);
  const targets = stores.length ? TARGETS : { a: TARGETS.a, b: TARGETS.b };
  segments($("target"), targets, "a", (name) => { state.target = name; });
  state.target = "a";
  for (const id of ["original", "reconstruction", "edited"]) show(id, null);
  if (!stores.length) return take("sample", { seed: 0, name: "seed 0" });
  openStore();
  const { items } = await get(`v1/stores/${encodeURIComponent(stores[0].name)}/items`, { n: 1 });
  return items.length ? take("store", { store: stores[0].name, name: items[0].id, item: items[0] }).then(mark) : undefined;
}

async function start() {
  [state.models, state.stores] = [await get("v1/models"), await get("v1/stores")];
  options($("model"), state.models.map((each) => [each.name, each.name]));
  const { pages } = await get("v1/reports");
  const links = pages.slice(0, 1).map((page) => element("a", { href: `reports/${page}`, target: "_blank", textContent: "Reports" }));
  $("links").prepend(...links);
  state.reports = pages;
  segments($("tools"), Object.fromEntries(Object.entries(TOOLS).map(([name, { title }]) => [name, title])), state.tool, openTool);

  $("model").onchange = () => doing(openModel);
  $("store").onchange = openStore;
  $("label").onchange = openLabel;
  $("value").onchange = () => { state.first = 0; fill(); };
  let typing;
  $("text").oninput = () => { clearTimeout(typing); typing = setTimeout(() => { state.first = 0; fill(); }, 250); };
  $("back").onclick = () => { state.first = Math.max(0, state.first - PAGE); fill(); };
  $("on").onclick = () => { state.first += PAGE; fill(); };
  $("draw").onclick = () => take("sample", { seed: Number($("seed").value) || 0, name: `seed ${Number($("seed").value) || 0}` });
  const takeFile = (file) => file && take("file", { file, name: file.name });
  $("file").onchange = () => { takeFile($("file").files[0]); $("file").value = ""; };
  for (const kind of ["dragenter", "dragover"]) $("drop").addEventListener(kind, (event) => { event.preventDefault(); $("drop").classList.add("over"); });
  for (const kind of ["dragleave", "drop"]) $("drop").addEventListener(kind, (event) => { event.preventDefault(); $("drop").classList.remove("over"); });
  $("drop").addEventListener("drop", (event) => takeFile(event.dataTransfer.files[0]));
  addEventListener("paste", (event) => takeFile([...event.clipboardData.files][0]));
  $("errors-box").ontoggle = () => $("errors-box").open && showErrors();
  $("copy-command").onclick = () => copy(asCommand());
  $("copy-python").onclick = () => copy(asPython());
  $("save-picture").onclick = () => doing(async () => save(await (await fetch($("edited").src)).blob(), "edited.png"));
  $("save-latents").onclick = () => doing(async () => {
    const { asNpy } = await import("./api.js");
    const z = (await state.edit?.latents?.()) ?? state.a.z;
    save(new Blob([asNpy(z, shape())]), "latents.npy");
  });
  await openModel();
}

doing(start);
