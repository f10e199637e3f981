// The panels: each clip's rectangle of the video on its own canvas, with its name and its present figures.

const GAP = 12; // pixels between panels, as in the style sheet
const CAPTION = 52; // pixels below a picture, about

/** Columns and width of panels: about as large as they can be and still all in sight, rather beside than below each other. */
function bestGrid(count, width, height, ratio) {
  if (width < 600) {
    const columns = (count <= 2 && ratio > 1) || ratio > 2.5 ? 1 : Math.min(2, count);
    return { columns, size: (width - GAP * (columns - 1)) / columns };
  }
  const sizes = [];
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const wide = (width - GAP * (columns - 1)) / columns;
    const high = ((height - GAP * (rows - 1)) / rows - CAPTION) * ratio;
    sizes.push(Math.max(Math.min(wide, high), Math.min(wide, 220)));
  }
  const index = sizes.findLastIndex((size) => size >= 0.78 * Math.max(...sizes));
  return { columns: index + 1, size: sizes[index] };
}

function makePanel(clip, number, measures, onclick) {
  const canvas = el("canvas", { role: "img", "aria-label": clip.name });
  const outline = el("i", { class: "outline", hidden: true });
  const divider = el("i", { class: "divider", hidden: true });
  const sides = [el("span", { class: "side" }), el("span", { class: "side", text: clip.name })];
  const picture = el("button", { type: "button", class: "picture", onclick }, canvas, outline, divider, ...sides);
  const values = measures.map(() => el("dd"));
  const figures = el("dl", {}, ...measures.map((measure, i) =>
    el("div", {}, el("dt", { text: SHORT[measure.key] ?? measure.name, title: measure.name }), values[i])));
  const root = el("figure", { class: `panel series-${clip.series}` }, picture,
    el("figcaption", {}, el("div", { class: "told" },
      el("span", { class: "key", text: number + 1, "aria-hidden": "true" }), clipName(clip), figures)));
  return { clip, root, canvas, outline, divider, sides, picture, values, context: canvas.getContext("2d") };
}

/** The panels of a scene in `root`. `view` tells what to show: visible, solo, other, split, heat, marks; `available()` the room. */
function openPanels(scene, measures, root, view, { video, available, onsolo, onwipe }) {
  const ratio = (scene.width * scene.aspect) / scene.height;
  const panels = scene.clips.map((clip, i) => makePanel(clip, i, measures, () => onsolo(i)));
  const sizes = new ResizeObserver((entries) => { entries.forEach(fit); redraw(); });
  let frame = -1;
  root.replaceChildren(...panels.map((panel) => panel.root));
  for (const panel of panels) {
    panel.picture.style.setProperty("--ratio", ratio);
    for (const name of ["pointerdown", "pointermove"]) {
      panel.picture.addEventListener(name, (event) => {
        const box = panel.canvas.getBoundingClientRect();
        if (view.other !== null) onwipe((event.clientX - box.left) / box.width);
      });
    }
    sizes.observe(panel.canvas);
  }

  /** As many pixels as the screen has there, so that nothing is scaled twice. */
  function fit({ target, contentRect }) {
    if (contentRect.width === 0) return; // hidden: it may come back in this size
    const scale = window.devicePixelRatio || 1;
    target.width = Math.round(contentRect.width * scale);
    target.height = Math.round(contentRect.height * scale);
  }

  function isShown(index) {
    return view.solo === null ? view.visible.has(index) : view.solo === index;
  }

  function paint({ canvas, context }, clip, share) {
    const { width, height } = canvas;
    context.imageSmoothingQuality = "high";
    context.globalAlpha = 1;
    context.drawImage(video(), ...clip.rect, 0, 0, width, height);
    if (clip.heat !== null && share > 0) {
      context.globalAlpha = share;
      context.drawImage(video(), ...clip.heat, 0, 0, width, height);
    }
  }

  /** The other clip on the left of the divider. */
  function paintOver(panel, other) {
    const { canvas, context } = panel;
    context.save();
    context.beginPath();
    context.rect(0, 0, Math.round(view.split * canvas.width), canvas.height);
    context.clip();
    paint(panel, other, view.heat);
    context.restore();
  }

  function redraw() {
    if (frame < 0 || video().readyState < 2) return false;
    panels.forEach((panel, i) => {
      if (!isShown(i)) return;
      paint(panel, panel.clip, view.heat);
      if (view.other !== null) paintOver(panel, scene.clips[view.other]);
    });
    return true;
  }

  function markAt(panel) {
    const mark = view.marks.find((candidate) => candidate.frame === frame);
    panel.outline.hidden = mark === undefined;
    if (mark === undefined) return;
    const [x, y, width, height] = mark.box;
    const share = (value, whole) => `${(100 * value) / whole}%`;
    panel.outline.style.left = share(x, scene.width);
    panel.outline.style.top = share(y, scene.height);
    panel.outline.style.width = share(width, scene.width);
    panel.outline.style.height = share(height, scene.height);
  }

  /** Follow `view`: which panels there are, how large, and what they show. */
  function update() {
    const shown = panels.filter((_, i) => isShown(i)).length;
    const room = available(view.solo !== null);
    const { columns, size } = bestGrid(shown, room.width, room.height, ratio);
    root.style.setProperty("--columns", columns);
    root.style.setProperty("--size", `${Math.floor(size)}px`);
    panels.forEach((panel, i) => {
      panel.root.hidden = !isShown(i);
      for (const part of [panel.divider, ...panel.sides]) part.hidden = view.other === null;
      panel.divider.style.left = `${100 * view.split}%`;
      panel.sides[0].textContent = scene.clips[view.other ?? i].name;
      panel.picture.setAttribute("aria-label",
        view.solo === null ? `Show ${panel.clip.name} alone` : `${panel.clip.name}: show all clips again`);
      markAt(panel);
    });
    redraw();
  }

  /** Draw the frame that the video shows; false where the video has none. */
  function show(index) {
    frame = index;
    for (const panel of panels) {
      measures.forEach((measure, i) => {
        panel.values[i].textContent = figure(measure.key, panel.clip.curves[measure.key]?.[frame]);
      });
      markAt(panel);
    }
    return redraw();
  }

  return { show, update, close: () => sizes.disconnect() };
}
