// One open scene: its clips, their curves and figures, all of them at the same frame.

/** Opens a scene in `root`. There is never more than one: `close` gives its video back. */
function openScene(scene, report, root, bar) {
  const everything = new Set(scene.clips.keys());
  const view = { frame: -1, visible: new Set(everything), solo: null, heat: bar.heat, wipe: null, marks: [] };
  const chips = el("div", { class: "chips" });
  const message = el("p", { class: "alert", role: "alert", hidden: true });
  const grid = el("div", { class: "panels" });
  const charts = el("div", { class: "charts" });
  const stage = el("div", { class: "stage" }, grid, charts);
  root.replaceChildren(heading(scene, report), chips, message, stage, ...stills(scene, showMarks));
  document.documentElement.dataset.frame = "";

  const panels = openPanels(scene, report.measures, grid, view, { video: () => player.video, available, onsolo, onwipe });
  const curves = openCurves(scene, report.measures, charts, view, (frame) => seek(frame));
  const player = openPlayer(scene, { onframe, onstate: () => bar.follow(scene, Math.max(view.frame, 0), player.playing), onerror });
  const width = new ResizeObserver(() => panels.update());
  player.setSpeed(bar.speed);
  bar.open(scene);
  bar.follow(scene, 0, false);
  update();
  width.observe(stage);
  addEventListener("resize", panels.update);

  /** The room for panels: beside the charts where there is enough of it, and above the bar. */
  function available(alone) {
    const barHeight = document.getElementById("bar").offsetHeight;
    const beside = stage.clientWidth >= 1000 && !alone;
    return { width: stage.clientWidth - (beside ? 384 : 0), height: innerHeight - barHeight - chips.offsetHeight - 40 };
  }

  function onframe(frame) {
    view.frame = frame;
    const drawn = panels.show(frame);
    curves.update();
    bar.follow(scene, frame, player.playing);
    if (drawn || player.broken) document.documentElement.dataset.frame = frame; // for whoever waits for all canvases
  }

  function onerror() {
    message.textContent = "This browser could not play the clips, which are H.264 in MP4. Curves, pictures and tables below work without them.";
    message.hidden = false;
    stage.classList.add("broken");
  }

  function update() {
    stage.classList.toggle("alone", view.solo !== null);
    chips.replaceChildren(...makeChips());
    panels.update();
    curves.update();
  }

  /** The names of the clips: they hide and show one, and while one is alone they swap it for another. */
  function makeChips() {
    const alone = view.solo !== null;
    const names = scene.clips.map((clip, i) => el("button", {
      type: "button", class: "chip", "aria-pressed": String(alone ? view.solo === i : view.visible.has(i)),
      title: alone ? `Show ${clip.name} alone (${i + 1})` : `Show or hide ${clip.name}`,
      onclick: () => { if (alone) solo(i); else hideOrShow(i); focusChip(i); },
    }, clipName(clip)));
    const more = [];
    if (alone && view.solo > 0) more.push(el("button", { type: "button", class: "chip plain", "aria-pressed": String(view.wipe !== null), text: `Wipe with ${scene.clips[0].name}`, onclick: toggleWipe }));
    if (alone) more.push(el("button", { type: "button", class: "chip plain", text: "All clips", onclick: () => solo(null) }));
    return [el("span", { class: "chips-label", text: alone ? "Alone" : "Clips" }), ...names, ...more];
  }

  function focusChip(index) {
    chips.querySelectorAll("button")[index].focus();
  }

  function hideOrShow(index) {
    if (!view.visible.delete(index)) view.visible.add(index);
    if (view.visible.size === 0) view.visible = new Set(everything);
    update();
  }

  function solo(index) {
    if (index !== null && !everything.has(index)) return;
    view.solo = index;
    if (index === null || index === 0) view.wipe = null;
    update();
  }

  function onsolo(index) {
    if (view.wipe === null) solo(view.solo === null ? index : null);
  }

  function onwipe(share) {
    view.wipe = share;
    panels.update();
  }

  function toggleWipe() {
    if (view.solo === null || view.solo === 0) return;
    view.wipe = view.wipe === null ? 0.5 : null;
    update();
  }

  function seek(frame) {
    player.pause();
    player.seek(frame);
  }

  function showMarks(marks) {
    view.marks = marks;
    seek(marks[marks.length - 1].frame);
    panels.update();
    chips.scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  }

  return {
    seek,
    step: (count) => player.step(count),
    toggle: () => player.toggle(),
    setSpeed: (speed) => player.setSpeed(speed),
    setHeat: (share) => { view.heat = share; panels.update(); },
    solo,
    toggleWipe,
    /** Back to all clips, without outlines. */
    reset: () => { view.marks = []; solo(null); },
    close: () => {
      removeEventListener("resize", panels.update);
      width.disconnect();
      panels.close();
      curves.close();
      player.close();
    },
  };
}

function heading(scene, report) {
  const style = scene.style === null ? null : report.styles[scene.style];
  const notes = [style && report.styles.length > 1 ? `in the style of ${style.name}` : "", scene.note].filter(Boolean);
  const name = report.scenes.length > 1 ? "" : scene.name;
  return el("div", { class: "heading" }, el("h2", { text: name || scene.name, class: name ? null : "only-heard" }),
    ...(notes.length ? [el("p", { text: notes.join("; ") })] : []));
}
