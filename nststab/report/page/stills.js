// Crops, occlusions and failures: still pictures beside each other, each with a way to its place in the clips.

const LARGEST = 240; // pixels of a picture's width, and
const ENLARGED = 4; // times: beyond that, its own pixels are all that one sees

/** Pictures side by side as large as there is room, by whole pixels of the screen: then they need no smoothing. */
function fitStrip(strip) {
  if (strip.clientWidth === 0) { // its scene has been left
    strips.unobserve(strip);
    return;
  }
  const images = [...strip.querySelectorAll("img")];
  const aspect = Number(strip.closest(".stills").dataset.aspect); // of a pixel
  const own = aspect * Math.max(...images.map((image) => image.naturalWidth));
  if (!(own > 0)) return;
  const step = Math.max(2, Math.round(window.devicePixelRatio || 1));
  const room = (strip.clientWidth - 3 * (images.length - 1)) / images.length / own;
  const scale = Math.min(room, ENLARGED, LARGEST / own);
  for (const image of images) {
    image.style.width = `${own * (scale < 1 ? scale : Math.floor(scale * step) / step)}px`;
    image.style.aspectRatio = (image.naturalWidth * aspect) / image.naturalHeight;
    image.classList.toggle("enlarged", scale >= 1);
  }
}

const strips = new ResizeObserver((entries) => entries.forEach((entry) => fitStrip(entry.target)));

function stripOf(pictures) {
  const strip = el("div", { class: "strip" }, ...pictures);
  strip.addEventListener("load", () => fitStrip(strip), true);
  strips.observe(strip);
  return strip;
}

function still(uri, label) {
  return el("img", { src: uri, alt: label });
}

function labelled(picture, text) {
  return el("div", { class: "labelled" }, picture, el("span", { text }));
}

function measured(name, text) {
  return el("div", {}, el("dt", { text: name }), el("dd", { text }));
}

function cell(clip, pictures, figures) {
  return el("div", { class: `cell series-${clip.series}` }, clipName(clip), stripOf(pictures),
    figures.length ? el("dl", {}, ...figures) : "");
}

function group(title, text, marks, cells, onshow) {
  const show = el("button", { type: "button", class: "link", text: "Show in the clips", onclick: () => onshow(marks) });
  const made = el("article", { class: "still" }, el("header", {}, el("h4", { text: title }), show),
    ...(text ? [el("p", { text })] : []), el("div", { class: "cells" }, ...cells));
  made.style.setProperty("--count", cells.length);
  return made;
}

function crop(scene, found, onshow) {
  const { frame, boxes } = found;
  const marks = [{ frame: frame - 1, box: boxes[0] }, { frame, box: boxes[1] }];
  const cells = found.cells.map((one) => {
    const clip = scene.clips[one.clip];
    return cell(clip, [still(one.previous, `${clip.name}, ${frameName(frame - 1)}`), still(one.current, `${clip.name}, ${frameName(frame)}`)],
      [measured("PSNR", `${figure("psnr", one.psnr)} dB`), measured("SSIM", figure("ssim", one.ssim))]);
  });
  const title = `${found.kind === "least" ? "Least" : "Most"} stable patch: frames ${frame} and ${frame + 1}`;
  return group(title, "", marks, cells, onshow);
}

function occlusion(scene, found, onshow) {
  const names = ["before", "hidden", "back"];
  const marks = found.frames.map((frame) => ({ frame, box: found.box }));
  const cells = found.cells.map((one) => {
    const clip = scene.clips[one.clip];
    const pictures = one.pictures.map((uri, i) => labelled(still(uri, `${clip.name}, ${names[i]}`), names[i]));
    return cell(clip, pictures, [measured("change", `${figure("change", one.change)} levels`)]);
  });
  return group(`Frames ${found.frames.map((frame) => frame + 1).join(", ")}`, "", marks, cells, onshow);
}

function failure(scene, found, onshow) {
  const { frame, box } = found;
  const marks = [{ frame: frame - 1, box }, { frame, box }];
  const cells = found.cells.map((one) => {
    const clip = scene.clips[one.clip];
    return cell(clip, [still(one.previous, `${clip.name}, ${frameName(frame - 1)}`), still(one.current, `${clip.name}, ${frameName(frame)}`)], []);
  });
  const flow = el("div", { class: "cell" }, el("span", { class: "clip-name", text: "flow and its mask" }),
    stripOf([still(found.flow, "flow, in colours of its direction"), still(found.mask, "mask, white where the flow is trusted")]));
  const text = `The input itself, moved by this flow, misses by ${found.error.toFixed(1)} levels of 255 in the box.`;
  return group(`Frames ${frame} and ${frame + 1}`, text, marks, [flow, ...cells], onshow);
}

const KINDS = [
  ["crops", "The same place in consecutive frames", crop,
    "The same piece of the scene in two frames that follow each other. Look for strokes that move, appear or vanish between the left and the right picture, where the input’s pair hardly differs."],
  ["occlusions", "Hidden, and seen again", occlusion,
    "Something is seen, then hidden, then seen again. A method that remembers only the frame before may paint it anew: compare the first picture with the last."],
  ["failures", "Where optical flow fails", failure,
    "Here the flow is trusted and wrong. A method that is tied to flow carries strokes to the wrong place; one that needs none does not."],
];

/** The figures of a scene; `onshow(marks)` leads to the clips: frames and the box in each. */
function stills(scene, onshow) {
  return KINDS.filter(([key]) => scene[key].length > 0).map(([key, title, make, text]) =>
    el("section", { class: `stills ${key}`, "data-aspect": scene.aspect }, el("h3", { text: title }), el("p", { class: "caption", text }),
      ...scene[key].map((found) => make(scene, found, onshow))));
}
