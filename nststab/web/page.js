// The page: where frames come from, what is shown of them, and the controls. The network runs in worker.js.

import { PHOTOGRAPH, hasStrokes, strokeAt, stylesOf } from "./look.js";

const find = id => document.getElementById(id);
const view = find("view"), pen = view.getContext("2d", { alpha: false });
const taken = document.createElement("canvas"), takenPen = taken.getContext("2d", { willReadFrequently: true });
const painted = document.createElement("canvas"), paintedPen = painted.getContext("2d");
const worker = new Worker("worker.js", { type: "module" });

let models = [], model; // model: the one that is open
let gpu; // null where there is none, or it failed
let source; // { element, width, height, stop, mirrored }
let strokeChosen = false;
let ready = false, busy = false, paused = false, reset = false, fresh = false;
let camera, recorder, latest = null, measured = []; // camera: the id of the last one

function say(text, isError = false) {
  find("status").textContent = text;
  find("status").classList.toggle("error", isError);
}

function chosen(id) {
  return find(id).selectedOptions[0]?.textContent;
}

function look() {
  const part = find("other").disabled ? 0 : Number(find("mix").value), styles = {};
  if (part < 1) styles[chosen("style")] = 1 - part;
  if (part > 0) styles[chosen("other")] = (styles[chosen("other")] ?? 0) + part;
  return { styles, stroke: 2 ** Number(find("stroke").value), strength: Number(find("strength").value) };
}

// Frames

function show() {
  const { width, height } = taken, wipe = Math.round(Number(find("wipe").value) * width);
  if (view.width !== width || view.height !== height) Object.assign(view, { width, height });
  pen.drawImage(painted, 0, 0);
  if (wipe > 0) {
    pen.drawImage(taken, 0, 0, wipe, height, 0, 0, wipe, height);
    pen.fillStyle = "#fff";
    pen.fillRect(wipe - 1, 0, 2, height);
  }
}

function take() {
  if (!ready || busy || paused || !source || !fresh) return;
  const side = Number(find("size").value), scale = Math.min(1, side / Math.max(source.width, source.height));
  const width = Math.max(1, Math.round(source.width * scale)), height = Math.max(1, Math.round(source.height * scale));
  if (latest === null || latest.width !== width || latest.height !== height) reset = true;
  if (taken.width !== width || taken.height !== height) {
    Object.assign(taken, { width, height });
    Object.assign(painted, { width, height });
  }
  takenPen.imageSmoothingQuality = "high";
  takenPen.setTransform(source.mirrored ? -1 : 1, 0, 0, 1, source.mirrored ? width : 0, 0);
  takenPen.drawImage(source.element, 0, 0, width, height);
  const { data } = takenPen.getImageData(0, 0, width, height);
  latest = { width, height };
  busy = true;
  fresh = source.still;
  worker.postMessage({ rgba: data, width, height, look: look(), reset }, [data.buffer]);
  reset = false;
}

function tell({ milliseconds, flicker }) {
  const now = performance.now();
  measured = [...measured.filter(one => now - one.now < 2000), { now, milliseconds, flicker }];
  const mean = values => values.reduce((sum, value) => sum + value, 0) / values.length;
  const steady = measured.map(one => one.flicker).filter(value => value !== null);
  const seconds = (now - measured[0].now) / 1000;
  find("fps").textContent = measured.length > 1 ? ((measured.length - 1) / seconds).toFixed(1) : "–";
  find("time").textContent = mean(measured.map(one => one.milliseconds)).toFixed(0);
  find("flicker").textContent = steady.length ? mean(steady).toFixed(2) : "–";
  find("figures").hidden = false;
}

worker.onmessage = ({ data }) => {
  if (data.note) return say(data.note);
  if (data.error) {
    if (ready) gpu = null; // it loaded, and failed at a frame
    busy = ready = false;
    model = undefined;
    return say(`${data.error}; another style or size loads the network again.`, true);
  }
  if (data.opened) {
    ready = true;
    reset = true;
    say(`Runs by ${data.opened}${crossOriginIsolated ? "" : "; served with the headers of `nststab web --serve` it could use all threads"}.`);
  } else {
    paintedPen.putImageData(new ImageData(data.painted, data.width, data.height), 0, 0);
    show();
    tell(data);
    busy = false;
    if (source) document.documentElement.dataset.frames++;
  }
  take();
};
worker.onerror = event => say(event.message || "The browser cannot run the network.", true);

// Sources

function close() {
  if (recorder) recorder.stop();
  source?.stop();
  source = undefined;
  document.documentElement.dataset.frames = 0;
  find("start").hidden = false;
  for (const id of ["pause", "record", "stop"]) find(id).disabled = true;
  find("turn").hidden = true;
  find("figures").hidden = true;
}

function begin(next) {
  close();
  source = next;
  latest = null;
  measured = [];
  setPaused(false);
  find("start").hidden = true;
  for (const id of ["pause", "record", "stop"]) find(id).disabled = false;
  find("record").disabled = typeof MediaRecorder === "undefined";
  fresh = true;
  if (!next.still) watch(next);
  take();
}

// Takes the newest frame whenever the network is free: what comes in between is dropped.
function watch(one) {
  const next = () => {
    if (source !== one) return;
    fresh = true;
    take();
    one.element.requestVideoFrameCallback ? one.element.requestVideoFrameCallback(next) : requestAnimationFrame(next);
  };
  next();
}

async function video(setup, stop, mirrored) {
  const element = Object.assign(document.createElement("video"), { muted: true, loop: true, playsInline: true });
  setup(element);
  await element.play();
  const close = () => { element.pause(); stop(); };
  begin({
    element,
    get width() { return element.videoWidth; }, // which change when a phone is turned
    get height() { return element.videoHeight; },
    stop: close,
    still: false,
    mirrored,
  });
}

async function cameras() {
  return (await navigator.mediaDevices.enumerateDevices()).filter(device => device.kind === "videoinput");
}

// Opens the camera of an id, or that which looks at the user. What was open is closed: many phones open no two at once.
async function openCamera(id) {
  close();
  let stream;
  const stop = () => stream?.getTracks().forEach(track => track.stop());
  try {
    const which = id ? { deviceId: { exact: id } } : { facingMode: "user" };
    stream = await navigator.mediaDevices.getUserMedia({ video: { ...which, width: { ideal: 1280 } } });
    const { deviceId, facingMode } = stream.getVideoTracks()[0].getSettings();
    camera = deviceId;
    await video(element => { element.srcObject = stream; }, stop, facingMode !== "environment");
    find("turn").hidden = (await cameras()).length < 2;
  } catch (error) {
    stop();
    say(`The camera cannot be used: ${error.message}`, true);
  }
}

async function turn() {
  const all = await cameras(), now = all.findIndex(one => one.deviceId === camera);
  await openCamera(all[(now + 1) % all.length].deviceId);
}

async function openFile(file) {
  if (!file) return;
  const address = URL.createObjectURL(file);
  try {
    if (file.type.startsWith("image/")) {
      const element = await createImageBitmap(file);
      URL.revokeObjectURL(address);
      begin({ element, width: element.width, height: element.height, stop: () => element.close(), still: true });
    } else {
      await video(element => { element.src = address; }, () => URL.revokeObjectURL(address), false);
    }
  } catch {
    say(`${file.name} is no video or picture that this browser can read.`, true);
  }
}

// Controls

function setPaused(value) {
  paused = value;
  find("pause").textContent = paused ? "Go on" : "Pause";
  if (source?.element instanceof HTMLVideoElement) paused ? source.element.pause() : source.element.play();
  if (!paused) take();
}

function record() {
  if (recorder) return recorder.stop();
  const kind = ["video/mp4", "video/webm"].find(one => MediaRecorder.isTypeSupported(one)), parts = [];
  recorder = new MediaRecorder(view.captureStream(), { mimeType: kind, videoBitsPerSecond: 8e6 });
  recorder.ondataavailable = event => parts.push(event.data);
  recorder.onstop = () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(parts, { type: kind }));
    link.download = `nststab.${kind.split("/")[1]}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    recorder = undefined;
    find("record").textContent = "Record";
    find("record").setAttribute("aria-pressed", "false");
  };
  recorder.start(1000);
  find("record").textContent = "Stop and save";
  find("record").setAttribute("aria-pressed", "true");
}

function fill(select, names) {
  select.replaceChildren(...names.map(name => new Option(name)));
}

// Until the visitor chooses a stroke, it is that of the painting at the size of the frame, as everywhere in nststab.
function fitStroke() {
  if (!strokeChosen) find("stroke").value = Math.log2(strokeAt(Number(find("size").value), model.rows, chosen("style")));
}

// Opens the network of the chosen style, where it is another one, and shows the controls that it has.
function choose() {
  const wanted = models[find("style").value];
  if (wanted === model) return;
  model = wanted;
  ready = false;
  say("Loading the network…");
  const names = stylesOf(model.rows), able = {
    mix: names.length > 1,
    stroke: hasStrokes(model.rows),
    strength: model.rows.includes(PHOTOGRAPH),
  };
  fitStroke();
  fill(find("other"), names);
  for (const [what, can] of Object.entries(able)) {
    for (const label of document.querySelectorAll(`[data-needs="${what}"]`)) {
      label.hidden = !can;
      label.querySelector("input, select").disabled = !can;
    }
  }
  worker.postMessage({ open: model, gpu: Boolean(gpu) });
}

function wipeTo(event) {
  if (!source || (event.type === "pointermove" && !event.buttons)) return;
  const box = view.getBoundingClientRect(), scale = Math.min(box.width / view.width, box.height / view.height);
  const left = box.left + (box.width - view.width * scale) / 2;
  find("wipe").value = Math.min(1, Math.max(0, (event.clientX - left) / (view.width * scale)));
  show();
}

find("camera").onclick = () => openCamera();
find("file").onchange = event => { openFile(event.target.files[0]); event.target.value = ""; };
find("turn").onclick = turn;
find("pause").onclick = () => setPaused(!paused);
find("record").onclick = record;
find("stop").onclick = close;
find("style").onchange = choose;
find("size").onchange = () => { choose(); fitStroke(); take(); };
find("stroke").oninput = () => { strokeChosen = true; };
find("wipe").oninput = () => { if (latest) show(); };
find("controls").onsubmit = event => event.preventDefault();
view.onpointerdown = view.onpointermove = wipeTo;
for (const kind of ["dragover", "dragleave", "drop"]) {
  addEventListener(kind, event => {
    event.preventDefault();
    find("stage").classList.toggle("over", kind === "dragover");
    if (kind === "drop") openFile(event.dataTransfer.files[0]);
  });
}

gpu = await navigator.gpu?.requestAdapter().catch(() => null);
models = await (await fetch("models.json")).json();
find("style").replaceChildren(...models.flatMap((one, number) => stylesOf(one.rows).map(name => new Option(name, number))));
choose();
