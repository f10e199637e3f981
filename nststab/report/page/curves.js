// The curves: one chart a measure, frame by frame, linked both ways to the frame on show.

const MARGIN = { left: 46, right: 10, top: 10, bottom: 20 };

/** Round figures that divide a range into about `count` parts. */
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-6); i * step <= high + step * 1e-6; i += 1) found.push(Number((i * step).toPrecision(12)));
  return found;
}

/** The ends of the vertical axis. SSIM ends at 1 and begins below the lowest value, what has no upper end begins at 0. */
function range(measure, curves) {
  const values = curves.flat().filter((value) => value !== null);
  if (values.length === 0) return null;
  if (measure.better === "higher") {
    const low = Math.min(...values);
    return [low < 0 ? Math.floor(low * 10) / 10 : Math.max(0, Math.floor(low * 10 - 0.3) / 10), 1];
  }
  return [0, Math.max(...values) * 1.06 || 1];
}

/** The path of a curve, broken where nothing could be measured; a value between two gaps is a dot. */
function path(values, x, y) {
  let text = "";
  values.forEach((value, i) => {
    if (value === null) return;
    const begins = i === 0 || values[i - 1] === null;
    const ends = i + 1 === values.length || values[i + 1] === null;
    text += `${begins ? "M" : "L"}${x(i).toFixed(1)} ${y(value).toFixed(1)}${begins && ends ? "h0.01" : ""}`;
  });
  return text;
}

function makeChart(scene, measure, view, { onseek, onhover }) {
  const count = scene.times.length;
  const plot = el("div", { class: "plot" });
  const readout = el("div", { class: "readout", hidden: true });
  const direction = `${measure.better} is steadier`;
  const root = el("figure", { class: "chart" },
    el("figcaption", {}, el("b", { text: measure.name }),
      el("span", { text: measure.unit ? `${measure.unit}; ${direction}` : direction })), plot, readout);
  const curve = (clip) => clip.curves[measure.key] ?? [];
  const axis = range(measure, scene.clips.map(curve));
  let geometry = null;

  function render() {
    const width = plot.clientWidth;
    const height = plot.clientHeight;
    if (axis === null) return plot.replaceChildren(el("p", { class: "nothing", text: "Nothing could be measured." }));
    if (width < 80 || height < 40) return undefined;
    const [low, high] = axis;
    const right = width - MARGIN.right;
    const bottom = height - MARGIN.bottom;
    const x = (frame) => MARGIN.left + (count < 2 ? 0 : (frame / (count - 1)) * (right - MARGIN.left));
    const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - MARGIN.top);
    const line = (name, x1, y1, x2, y2) => svg("line", { class: name, x1, y1, x2, y2 });
    const marks = [];
    for (const value of ticks(low, high, height > 120 ? 4 : 2)) {
      marks.push(line("grid", MARGIN.left, y(value), right, y(value)),
        svg("text", { class: "tick", x: MARGIN.left - 6, y: y(value) + 4, "text-anchor": "end", text: value }));
    }
    const frames = ticks(1, count, Math.max(2, Math.min(8, width / 90))).filter((value) => value % 1 === 0 && value > 0);
    for (const value of frames) marks.push(svg("text", { class: "tick", x: x(value - 1), y: height - 4, "text-anchor": "middle", text: value }));
    marks.push(svg("text", { class: "tick", x: MARGIN.left - 6, y: height - 4, "text-anchor": "end", text: "frame" }));
    for (const shot of scene.shots.filter((first) => first > 0)) marks.push(line("cut", x(shot - 0.5), MARGIN.top, x(shot - 0.5), bottom));
    const lines = scene.clips.map((clip) => svg("path", { class: `curve series-${clip.series}`, d: path(curve(clip), x, y) }));
    const dots = scene.clips.map((clip) => svg("circle", { class: `dot series-${clip.series}`, r: 3.5 }));
    const pointer = line("pointer", 0, MARGIN.top, 0, bottom);
    const playhead = line("playhead", 0, MARGIN.top - 4, 0, bottom);
    const names = scene.clips.map((clip) => clip.name).join(", ");
    // the first clip, the input, is drawn last: the others are read against it
    plot.replaceChildren(svg("svg", { width, height, role: "img", "aria-label": `${measure.name}, frame by frame: ${names}` },
      ...marks, pointer, ...lines.slice(1), lines[0], playhead, ...dots));
    geometry = { x, y, right, lines, dots, pointer, playhead };
    return follow();
  }

  function follow() {
    if (geometry === null) return;
    const { x, y, lines, dots, playhead } = geometry;
    const at = x(Math.max(view.frame, 0));
    playhead.setAttribute("x1", at);
    playhead.setAttribute("x2", at);
    root.dataset.frame = view.frame;
    scene.clips.forEach((clip, i) => {
      const value = curve(clip)[view.frame] ?? null;
      const hidden = !view.visible.has(i) && view.solo !== i;
      lines[i].toggleAttribute("hidden", hidden);
      for (const drawn of [lines[i], dots[i]]) drawn.classList.toggle("faint", view.solo !== null && view.solo !== i);
      dots[i].toggleAttribute("hidden", hidden || value === null);
      dots[i].setAttribute("cx", at);
      dots[i].setAttribute("cy", value === null ? 0 : y(value));
    });
  }

  /** The figures of all clips at a frame beside the pointer, in the chart that it is over; a line in the others. */
  function hover(frame, own) {
    readout.hidden = frame === null || !own;
    if (geometry === null) return;
    geometry.pointer.classList.toggle("on", frame !== null);
    if (frame === null) return;
    const at = geometry.x(frame);
    geometry.pointer.setAttribute("x1", at);
    geometry.pointer.setAttribute("x2", at);
    if (!own) return;
    readout.replaceChildren(el("p", { text: `${frameName(frame)}, ${scene.times[frame].toFixed(2)} s` }),
      ...scene.clips.map((clip) => el("p", {}, clipName(clip), el("b", { text: figure(measure.key, curve(clip)[frame]) }))));
    const leftwards = at > (geometry.right + MARGIN.left) / 2;
    readout.style.left = leftwards ? "auto" : `${at + 12}px`;
    readout.style.right = leftwards ? `${root.clientWidth - at + 12}px` : "auto";
  }

  function frameOf(event) {
    const left = plot.getBoundingClientRect().left + MARGIN.left;
    const share = (event.clientX - left) / (plot.clientWidth - MARGIN.left - MARGIN.right);
    return clamp(Math.round(share * (count - 1)), 0, count - 1);
  }

  plot.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    plot.setPointerCapture(event.pointerId);
    onseek(frameOf(event));
  });
  plot.addEventListener("pointermove", (event) => {
    onhover(frameOf(event), measure);
    if (plot.hasPointerCapture(event.pointerId)) onseek(frameOf(event));
  });
  for (const name of ["pointerleave", "pointercancel"]) plot.addEventListener(name, () => onhover(null, measure));
  return { measure, root, plot, render, follow, hover };
}

/** The charts of all measures in `root`. */
function openCurves(scene, measures, root, view, onseek) {
  const onhover = (frame, measure) => charts.forEach((chart) => chart.hover(frame, chart.measure === measure));
  const charts = measures.map((measure) => makeChart(scene, measure, view, { onseek, onhover }));
  const sizes = new ResizeObserver(() => charts.forEach((chart) => chart.render()));
  root.replaceChildren(...charts.map((chart) => chart.root));
  charts.forEach((chart) => sizes.observe(chart.plot));
  return {
    update: () => charts.forEach((chart) => chart.follow()),
    close: () => sizes.disconnect(),
  };
}
