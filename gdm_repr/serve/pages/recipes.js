// What was done, as a command and as Python.

import { state } from "./explorer.js";

const quoted = (text) => (/^[\w./:=,+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);
const string = (text) => JSON.stringify(text);
const storePlace = (name) => state.stores.find((each) => each.name === name).place;
const OUT = "--out edited";

// Where the image comes from, as an edit's options.
function source({ a, b } = state) {
  if (a.kind === "sample") return null;
  const items = [a, b].filter(Boolean).map((image) => image.name).join(",");
  const from = a.kind === "store" ? `--latents ${quoted(storePlace(a.store))}` : "--data FOLDER-OF-THE-FILE";
  return `--checkpoint ${quoted(state.model.place)} ${from} --items ${quoted(items)}`;
}

const alone = () => source({ a: state.a });

const COMMANDS = {
  set: ({ shifts }) => shifts.length && `gdm-repr edit set ${alone()} --elements ${shifts.map(([name]) => name).join(",")} --values=${shifts.map(([, shift]) => shift).join(",")} --shift --together ${OUT}`,
  mix: ({ bands }) => state.b && bands.length && `gdm-repr edit mix ${alone()} --references ${quoted(state.b.name)} --bands ${bands.join("+")} ${OUT}`,
  vary: ({ fixed, seed }) => `gdm-repr edit vary ${alone()} --fixed ${fixed} --n 8 --seed ${seed} ${OUT}`,
  interpolate: ({ bands, n }) => state.b && bands.length && `gdm-repr edit interpolate ${source()} --bands ${bands.join("+")} --n ${n} ${OUT}`,
  direction: ({ learned, amount }) => learned?.label && `gdm-repr edit direction ${alone()} --label ${quoted(learned.label)} --value ${quoted(learned.value)} --bands ${learned.band} --amounts=${amount} ${OUT}`,
  neighbours: () => `gdm-repr neighbours ${alone()} --n 5 --out neighbours`,
};

export function asCommand() {
  const recipe = state.edit?.recipe?.() ?? {};
  const same = !state.b || state.b.kind === state.a.kind;
  if (state.a.kind === "sample") return `gdm-repr sample --checkpoint ${quoted(state.model.place)} --n 1 --seed ${state.a.seed} --out drawn`;
  const made = same && COMMANDS[recipe.kind]?.(recipe);
  return made || "# No command does just this; it can be copied as Python.";
}

function latents(image, name) {
  if (image.kind === "store") {
    return [`store = open_store(${string(storePlace(image.store))})`, `${name} = torch.from_numpy(store.z([store.ids.index(${string(image.name)})]))`];
  }
  if (image.kind === "file") return [`${name} = model.latents(Image.open(${string(image.name)}))`];
  return [`${name} = model.noise(1, seed=${image.seed})`];
}

const EDITS = {
  set: ({ shifts }) => shifts.map(([name, shift]) => {
    const [index, channel] = name.split(":");
    return `z[:, ${channel ?? ":"}, ${index}] += ${shift}`;
  }),
  mix: ({ bands }) => (state.b ? [
    ...latents(state.b, "other"),
    `mask = band_mask(${string(bands.join("+") || "none")}, model.grouping, model.shape[0])`,
    "z = mix(z, other, mask)",
  ] : []),
  vary: ({ fixed, seed }) => [
    `mask = ~band_mask(${string(fixed)}, model.grouping, model.shape[0])`,
    `z = vary(z, mask, model.noise(8, seed=${seed})).flatten(0, 1)`,
  ],
  interpolate: ({ bands, n }) => (state.b ? [
    ...latents(state.b, "other"),
    `mask = band_mask(${string(bands.join("+"))}, model.grouping, model.shape[0])`,
    `z = interpolate(z, other, mask, torch.linspace(0, 1, ${n}).tolist())[0]`,
  ] : []),
  direction: ({ learned, amount }) => (learned ? [
    `latents = open_store(${string(storePlace(learned.store))})`,
    learned.label
      ? `kinds = label_contrast(latents, ${string(learned.label)}, ${string(learned.value)})`
      : `kinds = picked_contrast(latents, ${JSON.stringify(learned.positive)}, ${JSON.stringify(learned.negative)})`,
    `direction = learn_from_store(latents, kinds, model.grouping, ${string(learned.band)})`,
    `z = move(z, direction, [${amount}])[:, 0]`,
  ] : []),
  neighbours: ({ store }) => [`found = nearest(open_store(${string(storePlace(store))}), z[0])`],
};

const IMPORTS = {
  mix: ["from gdm_repr.edit.operations import mix", "from gdm_repr.masks import band_mask"],
  vary: ["from gdm_repr.edit.operations import vary", "from gdm_repr.masks import band_mask"],
  interpolate: ["from gdm_repr.edit.operations import interpolate", "from gdm_repr.masks import band_mask"],
  direction: ["from gdm_repr.edit.contrast import label_contrast, picked_contrast", "from gdm_repr.edit.direction import learn_from_store, move"],
  neighbours: ["from gdm_repr.latents.neighbours import nearest"],
};

export function asPython() {
  const recipe = state.edit?.recipe?.() ?? {};
  const images = [state.a, state.b].filter(Boolean);
  const stores = images.some((image) => image.kind === "store") || ["neighbours", "direction"].includes(recipe.kind);
  const imports = [
    "import torch", ...(images.some((image) => image.kind === "file") ? ["from PIL import Image"] : []),
    "from gdm_repr import GDM", ...(stores ? ["from gdm_repr.latents import open_store"] : []), ...(IMPORTS[recipe.kind] ?? []),
  ];
  return [
    ...imports, "", `model = GDM.from_pretrained(${string(state.model.place)})`, ...latents(state.a, "z"),
    ...(EDITS[recipe.kind]?.(recipe) ?? []), "x = model.decode(z)  # (B, C, H, W) in [-1, 1]",
  ].join("\n");
}
