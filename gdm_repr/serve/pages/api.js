// Asking the service: JSON, PNG and .npy, as any other client does.

const NPY = "application/x-npy";
const $key = () => document.getElementById("ask-key");

export class Refused extends Error {}

async function ask(path, options = {}) {
  for (let tried = 0; ; tried++) {
    let answer;
    try {
      answer = await fetch(path, options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refused("The service does not answer; is it still running?");
    }
    if (answer.status === 401) {
      await askKey();
      continue;
    }
    if (answer.status === 429 && tried < 3) {
      await new Promise((go) => setTimeout(go, 1000 * Number(answer.headers.get("Retry-After") ?? 1)));
      continue;
    }
    if (!answer.ok) {
      const said = await answer.json().catch(() => ({}));
      throw new Refused(typeof said.detail === "string" ? said.detail : answer.statusText);
    }
    return answer;
  }
}

function askKey() {
  const dialog = $key();
  if (!dialog.open) dialog.showModal();
  return new Promise((go) => {
    dialog.addEventListener("close", () => {
      const key = encodeURIComponent(document.getElementById("key").value);
      document.cookie = `gdm-key=${key}; SameSite=Strict; path=${location.pathname}`;
      go();
    }, { once: true });
  });
}

const query = (options) => {
  const given = Object.entries(options).filter(([, value]) => value !== undefined && value !== "");
  return given.length ? "?" + new URLSearchParams(given) : "";
};

export const get = async (path, options = {}) => (await ask(path + query(options))).json();

// The body: a Blob of an image, { z, shape } as .npy, or anything else as JSON.
export async function post(path, options, body, accept = "application/json", signal = undefined) {
  const headers = { Accept: accept };
  if (body instanceof Blob) {
    const form = new FormData();
    form.append("images", body);
    body = form;
  } else if (body?.z instanceof Float32Array) {
    headers["Content-Type"] = NPY;
    body = asNpy(body.z, body.shape);
  } else if (body !== undefined) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(body);
  }
  const answer = await ask(path + query(options), { method: "POST", headers, body, signal });
  if (accept === NPY) return fromNpy(await answer.arrayBuffer());
  return accept === "application/json" ? answer.json() : answer.blob();
}

export const latentsOfFile = (options, file) => post("v1/encode", options, file, NPY);
export async function latentsOfStore(store, id) {
  const path = `v1/stores/${encodeURIComponent(store)}/latents` + query({ ids: id });
  return fromNpy(await (await ask(path, { headers: { Accept: NPY } })).arrayBuffer());
}

// The image itself, where the service has it at hand; null where it has not.
export async function imageOfStore(store, id) {
  const path = `v1/stores/${encodeURIComponent(store)}/images` + query({ ids: id });
  try {
    return await (await ask(path, { headers: { Accept: "image/png" } })).blob();
  } catch (error) {
    if (error instanceof Refused) return null;
    throw error;
  }
}

export function asNpy(values, shape) {
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': (${shape.join(", ")},), }`;
  const header = text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11) + "\n";
  const bytes = new Uint8Array(10 + header.length + values.byteLength);
  bytes.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, header.length & 255, header.length >> 8]);
  bytes.set(new TextEncoder().encode(header), 10);
  bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), 10 + header.length);
  return bytes;
}

export function fromNpy(buffer) {
  const length = new DataView(buffer).getUint16(8, true);
  const header = new TextDecoder().decode(new Uint8Array(buffer, 10, length));
  if (!header.includes("'<f4'")) throw new Refused("the service answered with other numbers");
  return new Float32Array(buffer.slice(10 + length));
}

export const picture = (base64) => `data:image/png;base64,${base64}`;
