// The tools: each opens in a box, edits the chosen image, and says what it did as a recipe.
//
// open(box) returns { recipe(), latents()?, second()?, groups()? }: what was done, the edited
// latents, and what to do when a second image or a group of images was chosen.

import { get, picture, post } from "./api.js";
import {
  $, Follow, aim, asked, bands, currentStore, decoded, doing, element, nested, places, say, shape, show, state, storeOf,
} from "./explorer.js";

const NPY = "application/x-npy";
const percent = (value) => `${Math.round(100 * value)} %`;
const said = (lines, bad = false) => element("div", { className: bad ? "said bad" : "said" }, ...lines.map((text) => element("p", { textContent: text })));
const button = (textContent, onclick, className = "") => element("button", { type: "button", textContent, onclick, className });

function select(label, values, onchange) {
  const made = element("select", { onchange });
  made.append(...values.map(([value, text]) => new Option(text ?? value, value)));
  return [made, element("label", {}, `${label} `, made)];
}

function slider(title, note, { min, max, step = 0.05, value = 0 }, follow, moved) {
  const input = element("input", { type: "range", min, max, step, value, ariaLabel: title });
  const output = element("output", { textContent: signed(value) });
  const set = () => { output.textContent = signed(input.valueAsNumber); moved(input.valueAsNumber); };
  input.oninput = () => { set(); follow.quick(); };
  input.onchange = () => { set(); follow.exact(); };
  const reset = button("↺", () => { input.value = value; set(); follow.exact(); });
  reset.title = reset.ariaLabel = `Reset ${title}`;
  const name = element("span", { className: "name", textContent: title }, element("small", { textContent: note }));
  return element("div", { className: "slider" }, name, input, output, reset);
}

const signed = (value) => (value > 0 ? "+" : "") + value.toFixed(2);

function checks(names, chosen, onchange) {
  const boxes = names.map((name) => element("input", { type: "checkbox", value: name, checked: chosen.includes(name), onchange }));
  const made = element("div", { className: "checks" }, ...boxes.map((box) => element("label", {}, box, box.value)));
  return [() => boxes.filter((box) => box.checked).map((box) => box.value), made];
}

const figure = (source, caption, onclick) => {
  const image = element("img", { src: source, alt: caption });
  if (onclick) image.onclick = onclick;
  return element("figure", {}, image, element("figcaption", { textContent: caption }));
};

// ---- elements -----------------------------------------------------------------------------------

const ranks = new Map(); // by model
const FIRST = 8; // elements that are offered

function openElements(box) {
  const shifts = new Map();
  const edited = () => {
    const z = state.a.z.slice();
    const [channels, d] = state.model.latents;
    for (const [name, shift] of shifts) {
      const [index, channel] = name.split(":").map(Number);
      for (let c = 0; c < channels; c++) if (channel === undefined || c === channel) z[c * d + index] += shift;
    }
    return z;
  };
  const follow = new Follow(box, (steps, signal) => decoded(edited(), steps, signal));
  const note = element("p", { className: "quiet", textContent: "Looking for the elements that matter" });
  const list = element("div");
  const add = (name, text) => list.append(slider(`Element ${name}`, text, { min: -4, max: 4 }, follow, (value) => {
    if (value) shifts.set(name, value);
    else shifts.delete(name);
  }));
  const other = element("input", { type: "number", min: 0, max: state.model.latents[1] - 1, step: 1, ariaLabel: "Element" });
  const more = button("Add", () => {
    if (other.value === "" || !other.checkValidity()) return say(`There are elements 0 to ${state.model.latents[1] - 1}`, true);
    return add(String(Number(other.value)), "");
  });
  box.append(note, list, element("div", { className: "row" }, element("label", {}, "Another element ", other), more));
  const { name } = state.model;
  doing(async () => {
    if (!ranks.has(name)) ranks.set(name, await get("v1/elements", asked()));
    const found = ranks.get(name);
    const null_ = found.null === null ? "" : ` A random direction has ${found.null.toFixed(3)}.`;
    note.textContent = `By effect, ${found.unit} (${found.source}).${null_} Sliders shift by stds of N(0, 1).`;
    for (const each of found.elements.slice(0, FIRST)) {
      const moves = each.factors.length ? `; moves ${each.factors.slice(0, 3).join(", ")}` : "";
      add(each.element, `${each.effect.toFixed(3)} [${each.low.toFixed(3)}, ${each.high.toFixed(3)}]${moves}`);
    }
  });
  return { latents: edited, recipe: () => ({ kind: "set", shifts: [...shifts] }) };
}

// ---- mix ----------------------------------------------------------------------------------------

function second(text) {
  const box = element("div", { className: "row" });
  const fill = () => {
    const shown = state.b ? [figureOf(state.b)] : [element("span", { className: "quiet", textContent: text })];
    box.replaceChildren(...shown, button(state.b ? "Choose another" : "Choose a second image", () => { aim("b"); say("Now choose an image"); }));
  };
  fill();
  return [box, fill];
}

const figureOf = (image) => {
  const made = figure(URL.createObjectURL(image.url), image.name);
  made.className = "film";
  made.style.maxWidth = "7rem";
  return made;
};

function openMix(box) {
  const [other, fill] = second("Bands of a second image take the place of the first's.");
  const edited = () => {
    const z = state.a.z.slice();
    if (state.b) for (const i of places(taken())) z[i] = state.b.z[i];
    return z;
  };
  const follow = new Follow(box, (steps, signal) => decoded(edited(), steps, signal));
  const [taken, bandsBox] = checks(bands(), bands().slice(0, 1), () => state.b && follow.exact());
  box.append(other, element("p", { className: "quiet", textContent: "From the second image:" }), bandsBox);
  if (state.b) follow.exact();
  return {
    second: () => { fill(); aim("a"); follow.exact(); },
    latents: edited,
    recipe: () => ({ kind: "mix", bands: taken() }),
  };
}

// ---- vary ---------------------------------------------------------------------------------------

function openVary(box) {
  const [kept, bandsBox] = checks(bands(), bands().slice(0, 1), () => draw());
  const seed = element("input", { type: "number", min: 0, value: 0, step: 1, ariaLabel: "Seed", onchange: () => draw() });
  const grid = element("div", { className: "strip" });
  const fixed = () => kept().join("+") || "none";
  let mine = 0;
  const draw = () => doing(async () => {
    const now = ++mine;
    const body = { operation: "vary", z: [nested(state.a.z)], fixed: [fixed()], n: 8, seed: Number(seed.value) || 0 };
    const made = await post("v1/edit", asked(), body);
    if (now !== mine || !box.isConnected) return;
    grid.replaceChildren(...made.images.map((image, i) => figure(picture(image), `seed ${body.seed + i}`, () => show("edited", picture(image)))));
    show("edited", picture(made.images[0]));
  }, "Drawing");
  box.append(
    element("p", { className: "quiet", textContent: "Kept; all other bands are drawn anew:" }), bandsBox,
    element("div", { className: "row" }, element("label", {}, "First seed ", seed), button("Draw others", () => { seed.value = Number(seed.value) + 8; draw(); })), grid,
  );
  draw();
  return { recipe: () => ({ kind: "vary", fixed: fixed(), seed: Number(seed.value) || 0 }) };
}

// ---- film ---------------------------------------------------------------------------------------

const FRAMES = 24;

function openFilm(box) {
  const [other, fill] = second("The film goes from the first image to the second.");
  const [moved, bandsBox] = checks(bands(), bands(), () => make());
  const image = element("img", { alt: "the film" });
  const film = element("figure", { className: "film" }, image);
  const place = element("input", { type: "range", min: 0, max: FRAMES - 1, value: 0, ariaLabel: "Place in the film" });
  const run = button("Play", () => play());
  const keep = button("Save film (GIF)", () => doing(async () => {
    const blob = await post("v1/edit", asked(), body(), "image/gif");
    const link = element("a", { href: URL.createObjectURL(blob), download: "film.gif" });
    link.click();
  }, "Making the film"));
  const controls = element("div", { className: "row" }, run, place, keep);
  const body = () => ({ operation: "interpolate", z: [nested(state.a.z), nested(state.b.z)], bands: [moved().join("+")], n: FRAMES });
  let frames = [];
  let timer = null;
  const showFrame = () => { if (frames.length) { image.src = frames[place.value]; show("edited", frames[place.value]); } };
  const stop = () => { clearInterval(timer); timer = null; run.textContent = "Play"; };
  const play = () => {
    if (timer) return stop();
    run.textContent = "Stop";
    let forth = 1;
    timer = setInterval(() => {
      if (!film.isConnected) return stop();
      if (Number(place.value) + forth < 0 || Number(place.value) + forth >= frames.length) forth = -forth;
      place.value = Number(place.value) + forth;
      showFrame();
    }, 80);
  };
  let mine = 0;
  const make = () => doing(async () => {
    const ready = state.b && moved().length;
    controls.hidden = film.hidden = !ready;
    if (!ready) return;
    const now = ++mine;
    const made = await post("v1/edit", asked(), body());
    if (now !== mine || !box.isConnected) return;
    frames = made.images.map(picture);
    place.value = 0;
    showFrame();
    if (!timer && !matchMedia("(prefers-reduced-motion: reduce)").matches) play();
  }, state.b ? "Making the film" : "");
  place.oninput = () => { stop(); showFrame(); };
  box.append(other, element("p", { className: "quiet", textContent: "Bands that move; the others stay the first's:" }), bandsBox, film, controls);
  make();
  return { second: () => { fill(); aim("a"); make(); }, recipe: () => ({ kind: "interpolate", bands: moved(), n: FRAMES }) };
}

// ---- direction ----------------------------------------------------------------------------------

function openDirection(box) {
  const [store] = storeOf(state.model.name);
  if (!store) return void box.append(said(["A direction is learned from the labels of a store; this model has none here."]));
  const labels = Object.entries(store.labels).filter(([name, values]) => store.numbers.includes(name) || values?.length > 1);
  const GROUPS = " "; // the two picked groups
  const names = [...labels.map(([name]) => [name, name]), [GROUPS, "two picked groups"]];
  const [label, labelBox] = select("Label", names, () => openLabel());
  const [value, valueBox] = select("Value", []);
  const [band, bandBox] = select("Band", bands().map((name) => [name, name]));
  const picked = element("p", { className: "quiet" });
  const result = element("div");
  const countGroups = () => { picked.textContent = `Picked: ${state.plus.length} +, ${state.minus.length} -. Choose "+ group" or "- group" at the left, then images of the store.`; };
  const openLabel = () => {
    const groups = label.value === GROUPS;
    valueBox.hidden = groups;
    picked.hidden = !groups;
    countGroups();
    if (groups) aim("plus");
    const halves = store.numbers.includes(label.value) ? [new Option("upper half", "median")] : [];
    value.replaceChildren(...halves, ...(store.labels[label.value] ?? []).map((each) => new Option(each, each)));
  };
  let learned = null;
  let amount = 0;
  const body = () => ({ operation: "direction", z: [nested(state.a.z)], learned, amounts: [amount] });
  const follow = new Follow(box, (steps, signal) => post("v1/edit", asked({ steps }), body(), "image/png", signal));
  const learn = () => doing(async () => {
    const groups = label.value === GROUPS;
    const wanted = {
      store: groups ? currentStore().name : store.name, band: band.value,
      ...(groups ? { positive: state.plus, negative: state.minus } : { label: label.value, value: value.value }),
    };
    const found = await post("v1/directions", asked(), wanted);
    learned = wanted;
    amount = 0;
    const way = slider(`To ${found.positive}`, "in stds of the images along it", { min: -5, max: 5 }, follow, (now) => { amount = now; });
    result.replaceChildren(said(found.said, !found.better_than_chance), way);
  }, "Learning");
  box.append(element("div", { className: "fields" }, labelBox, valueBox, bandBox, button("Learn", learn, "main")), picked, result);
  openLabel();
  return {
    groups: countGroups,
    latents: async () => (learned ? post("v1/edit", asked({ latents: true }), body(), NPY) : state.a.z),
    recipe: () => ({ kind: "direction", learned, amount }),
  };
}

// ---- neighbours ---------------------------------------------------------------------------------

function openNeighbours(box) {
  const stores = storeOf(state.model.name);
  if (!stores.length) return void box.append(said(["Neighbours are looked for in a store; this model has none here."]));
  const [store, storeBox] = select("Store", stores.map((each) => [each.name, each.name]), () => find());
  const result = element("div");
  const find = () => doing(async () => {
    const { a } = state;
    const own = a.kind === "store" && a.store === store.value;
    const body = { store: store.value, n: 5, pictures: true, ...(own ? { ids: [a.name] } : { z: [nested(a.z)] }) };
    const found = await post("v1/neighbours", asked(), body);
    if (a !== state.a || !box.isConnected) return;
    result.replaceChildren(...found.flatMap((each) => {
      const [first] = each.neighbours;
      const part = first.held_out === null ? "" : first.held_out ? " It was held out." : " It is a training image.";
      const lines = [
        each.near_duplicate
          ? `Band ${each.band}: a near-duplicate, at ${first.distance.toFixed(2)}.${part}`
          : `Band ${each.band}: the nearest image is at ${first.distance.toFixed(2)}, no near-duplicate.${part}`,
        ...(each.of ? [
          `${percent(each.closer)} of ${each.of} of the store's own images have as near a neighbour.`,
          `Their nearest others are at ${each.typical.toFixed(2)} (median).`,
        ] : []),
      ];
      const strip = element("div", { className: "strip" }, ...each.neighbours.map((one) => figure(picture(one.image), `${one.distance.toFixed(2)} · ${one.id}`)));
      return [said(lines, each.near_duplicate), strip];
    }), element("p", { className: "quiet", textContent: "Distances are RMS over a band's numbers; two independent images have about 1.41." }));
  }, "Looking for neighbours");
  box.append(stores.length > 1 ? storeBox : "", result);
  find();
  return { recipe: () => ({ kind: "neighbours", store: store.value }) };
}

// ---- two models ---------------------------------------------------------------------------------

function openCompare(box) {
  const others = state.models.filter((each) => each.name !== state.model.name);
  if (!others.length) return void box.append(said(["One model is served. Name another at the start: --checkpoint a=runs/a --checkpoint b=runs/b."]));
  const [other, otherBox] = select("Beside", others.map((each) => [each.name, each.name]), () => compare());
  const result = element("div");
  const compare = () => doing(async () => {
    const { a } = state;
    const file = a.file ?? a.original ?? a.url; // at worst the reconstruction stands for it
    const both = [state.model, others.find((each) => each.name === other.value)];
    const found = await Promise.all(both.map((each) => post("v1/reconstruct", { model: each.name }, file)));
    if (a !== state.a || !box.isConnected) return;
    const cards = found.map((one, i) => {
      const caption = `${both[i].name}: round trip ${one.errors.round_trip_error[0].toPrecision(2)}, latents ${one.errors.latent_error[0].toPrecision(2)}`;
      const rows = one.bands.map((name, j) => element("tr", {}, element("td", { textContent: name }), ...["latent_error", "round_trip_error"].map((kind) => element("td", { className: "n", textContent: one.errors[`${kind}_by_group`][0][j].toPrecision(2) }))));
      const head = element("tr", {}, ...["Band", "Latents", "Pixels"].map((textContent, j) => element("th", { textContent, className: j ? "n" : "" })));
      const made = figure(picture(one.images[0]), caption);
      made.append(element("table", {}, head, ...rows));
      return made;
    });
    const stands = a.original ? [] : [element("p", { className: "quiet", textContent: `The image is ${state.model.name}'s reconstruction, which favours that model.` })];
    result.replaceChildren(...stands, element("div", { className: "tiles" }, ...cards));
  }, "Encoding by both");
  box.append(otherBox, result);
  compare();
  return { recipe: () => ({ kind: "compare", other: other.value }) };
}

// ---- reports ------------------------------------------------------------------------------------

function openReports(box) {
  if (!state.reports.length) return void box.append(said(["No analyses are shown. Name their folder at the start: --reports runs/digits/analysis."]));
  const title = (page) => page.replace(/\/?(report|index)\.html$/, "").replaceAll("_", " ") || "all analyses";
  box.append(element("ul", {}, ...state.reports.map((page) => element("li", {}, element("a", { href: `reports/${page}`, target: "_blank", textContent: title(page) })))));
  return { recipe: () => ({ kind: "reports" }) };
}

export const TOOLS = {
  elements: { title: "Elements", open: openElements },
  mix: { title: "Mix", open: openMix },
  vary: { title: "Vary", open: openVary },
  film: { title: "Film", open: openFilm },
  direction: { title: "Direction", open: openDirection },
  neighbours: { title: "Neighbours", open: openNeighbours },
  compare: { title: "Two models", open: openCompare },
  reports: { title: "Reports", open: openReports },
};
