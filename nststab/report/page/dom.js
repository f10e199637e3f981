// Elements and figures. Texts come from the names of strangers' files, so they are only ever set as text.

/** An element with attributes ("text" sets its text, "onclick" and the like listen) and children. */
function el(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same for what SVG draws. */
function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "text") made.textContent = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/** The name of a clip behind a mark in its colour; a long one is cut off and told in full by its title. */
function clipName(clip) {
  return el("span", { class: `clip-name series-${clip.series}`, title: clip.name },
    el("i", { class: "swatch" }), el("span", { text: clip.name }));
}

const DIGITS = { ssim: 3, warp: 4, change: 1, psnr: 1 };
const SHORT = { ssim: "SSIM", warp: "warp", change: "change" };

/** A figure for people, a dash for what could not be measured. */
function figure(key, value) {
  return value === null || value === undefined ? "–" : value.toFixed(DIGITS[key] ?? 2);
}

/** Frames are counted from one where people read them, as the files of a folder of frames are. */
function frameName(frame) {
  return `frame ${frame + 1}`;
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}
