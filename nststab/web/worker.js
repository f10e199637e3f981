// Runs the network, beside the page: a frame and a look in, the painted frame and how much it flickers out.

import * as ort from "./runtime/ort.webgpu.min.mjs";
import { PHOTOGRAPH, weights } from "./look.js";

ort.env.logLevel = "error";
ort.env.wasm.wasmPaths = new URL("runtime/", import.meta.url).href;
ort.env.wasm.numThreads = self.crossOriginIsolated ? navigator.hardwareConcurrency : 1;

let model, session, engine;
let state; // what the network sees of the last frame, (N, 3, H, W)
let before; // the last frame and what was made of it, for the flicker

async function open(wanted, useGpu) {
  const previous = session;
  session = state = before = undefined;
  await previous?.release();
  const file = new Uint8Array(await (await fetch(wanted.file)).arrayBuffer());
  if (useGpu) {
    try {
      session = await ort.InferenceSession.create(file, { executionProviders: ["webgpu"] });
      engine = "WebGPU";
    } catch (error) {
      self.postMessage({ note: `WebGPU cannot run this network: ${error.message}` });
    }
  }
  if (!session) {
    session = await ort.InferenceSession.create(file, { executionProviders: ["wasm"] });
    const threads = ort.env.wasm.numThreads;
    engine = `WebAssembly, ${threads} thread${threads > 1 ? "s" : ""}`;
  }
  model = wanted;
  return engine;
}

function planes(rgba) {
  const count = rgba.length / 4, result = new Float32Array(3 * count);
  for (let k = 0, at = 0; k < count; k++, at += 4) {
    result[k] = rgba[at] / 255;
    result[count + k] = rgba[at + 1] / 255;
    result[2 * count + k] = rgba[at + 2] / 255;
  }
  return result;
}

// As nststab.methods.feed_forward.paint: below full strength the photograph's own row is drawn, too.
async function paint(frame, height, width, look) {
  const single = frame.length, rows = model.rows;
  if (state && (state.height !== height || state.width !== width)) state = undefined;
  const mixed = rows.length > 1 && look.strength < 1 && rows.includes(PHOTOGRAPH);
  if (mixed && look.strength === 0) {
    state = undefined;
    return frame;
  }
  const count = mixed ? 2 : 1;
  const feeds = { frame: tensor(repeated([frame, frame], count), count, height, width) };
  if (model.recurrent) {
    const data = state?.data ?? new Float32Array(single);
    feeds.previous = tensor(repeated([data.subarray(0, single), data.subarray(data.length - single)], count), count, height, width);
  }
  if (rows.length > 1) {
    const photograph = rows.map(row => Number(row === PHOTOGRAPH));
    const style = weights(rows, look.styles, look.stroke).map((part, k) =>
      mixed ? look.strength * part + (1 - look.strength) * photograph[k] : part);
    feeds.style = new ort.Tensor("float32", repeated([style, photograph], count), [count, rows.length]);
  }
  const made = await session.run(feeds);
  state = made.state && { data: made.state.data, height, width };
  const stylized = made.stylized.data;
  if (!mixed) return stylized;
  return frame.map((own, k) => stylized[k] + (1 - look.strength) * (own - stylized[single + k]));
}

function repeated(parts, count) {
  const all = new Float32Array(count * parts[0].length);
  for (let k = 0; k < count; k++) all.set(parts[k], k * parts[0].length);
  return all;
}

function tensor(data, count, height, width) {
  return new ort.Tensor("float32", data, [count, 3, height, width]);
}

// The mean change of the painted frame, in levels, where the input stands still (to 2 levels).
function flicker(frame, painted) {
  let sum = 0, count = 0;
  if (before?.frame.length === frame.length) {
    for (let k = 0; k < frame.length; k++) {
      if (Math.abs(frame[k] - before.frame[k]) <= 2 / 255) {
        sum += Math.abs(painted[k] - before.painted[k]);
        count++;
      }
    }
  }
  before = { frame, painted };
  return count ? 255 * sum / count : null;
}

async function answer({ open: wanted, gpu, reset, rgba, height, width, look }) {
  if (wanted) return { opened: await open(wanted, gpu) };
  if (reset) state = before = undefined;
  const started = performance.now(), frame = planes(rgba);
  const painted = await paint(frame, height, width, look);
  const count = height * width, result = new Uint8ClampedArray(rgba.buffer);
  for (let k = 0, at = 0; k < count; k++, at += 4) {
    result[at] = 255 * painted[k]; // which rounds and clamps
    result[at + 1] = 255 * painted[count + k];
    result[at + 2] = 255 * painted[2 * count + k];
  }
  return { painted: result, height, width, flicker: flicker(frame, painted), milliseconds: performance.now() - started };
}

let queue = Promise.resolve();
self.onmessage = ({ data }) => {
  queue = queue.then(() => answer(data)).then(
    made => self.postMessage(made, made.painted ? [made.painted.buffer] : []),
    error => self.postMessage({ error: error.message ?? String(error) }),
  );
};
