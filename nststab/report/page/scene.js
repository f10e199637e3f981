// One open scene: its clips, their curves and figures, all of them at the same frame.

function decoded(base64) {
  const text = atob(base64.trim());
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** Opens a scene in `root`. There is never more than one: `close` gives its video back. */
function openScene(scene, report, root, bar) {
  const everything = new Set(scene.clips.keys());
  const view = { frame: -1, visible: new Set(everything), solo: null, heat: bar.heat, other: null, split: 0.5, marks: [] };
  const chips = el("div", { class: "chips" });
  const message = el("p", { class: "alert", role: "alert", hidden: true });
  const grid = el("div", { class: "panels" });
  const charts = el("div", { class: "charts" });
  const stage = el("div", { class: "stage" }, grid, charts);
  const top = el("div", { class: "top" }, ...heading(scene, report), chips, ...notes(scene, report));
  root.replaceChildren(top, message, stage, ...stills(scene, showMarks));
  document.documentElement.dataset.frame = "";

  const panels = openPanels(scene, report.measures, grid, view, { video: () => player.video, available, onsolo, onwipe });
  const curves = openCurves(scene, report.measures, charts, view, (frame) => seek(frame));
  const player = openPlayer(scene, new Blob([decoded(document.getElementById(scene.video).textContent)], { type: "video/mp4" }), {
    onframe, onstate: () => bar.follow(scene, Math.max(view.frame, 0), player.playing), onerror,
  });
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
    const beside = stage.clientWidth >= 1000 && !alone && report.measures.length > 0;
    return { width: stage.clientWidth - (beside ? 408 : 0), height: innerHeight - barHeight - top.offsetHeight - 24 };
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
    stage.classList.toggle("beside", view.solo === null && report.measures.length > 0);
    top.classList.toggle("alone", view.solo !== null);
    grid.classList.toggle("alone", view.solo !== null);
    grid.classList.toggle("wiping", view.other !== null);
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
    const more = alone ? [wipeChoice(), el("button", { type: "button", class: "chip plain", text: "All clips", onclick: () => solo(null) })] : [];
    return [el("span", { class: "chips-label", text: alone ? "Alone" : "Clips" }), ...names, ...more];
  }

  function wipeChoice() {
    const choice = el("select", { onchange: () => { wipeWith(choice.value === "" ? null : Number(choice.value)); chips.querySelector("select").focus(); } },
      el("option", { value: "", text: "no other" }),
      ...scene.clips.map((clip, i) => el("option", { value: i, text: clip.name, disabled: i === view.solo })));
    choice.value = view.other ?? "";
    return el("label", { class: "wipe" }, el("span", { text: "Wipe with" }), choice);
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
    if (index === null) view.other = null;
    else if (index === view.other) view.other = view.solo;
    const enlarged = view.solo === null && index !== null;
    view.solo = index;
    update();
    if (enlarged && stage.getBoundingClientRect().bottom > innerHeight - document.getElementById("bar").offsetHeight) scrollToClips();
  }

  function onsolo(index) {
    if (view.other === null) solo(view.solo === null ? index : null);
  }

  function onwipe(share) {
    view.split = clamp(share, 0, 1);
    panels.update();
  }

  function wipeWith(index) {
    view.other = index;
    view.split = 0.5;
    update();
  }

  /** By default with the input, or the input with the clip after it. */
  function toggleWipe() {
    if (view.solo === null || everything.size < 2) return;
    wipeWith(view.other === null ? Number(view.solo === 0) : null);
  }

  function seek(frame) {
    player.pause();
    player.seek(frame);
  }

  function showMarks(marks) {
    view.marks = marks;
    seek(marks[marks.length - 1].frame);
    panels.update();
    scrollToClips();
  }

  /** As high on the screen as the room for the panels is reckoned. */
  function scrollToClips() {
    top.scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  }

  return {
    seek,
    step: (count) => player.step(count),
    toggle: () => player.toggle(),
    setSpeed: (speed) => player.setSpeed(speed),
    setHeat: (share) => { view.heat = share; panels.update(); },
    solo,
    toggleWipe,
    moveWipe: (share) => { if (view.other !== null) onwipe(view.split + share); },
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

/** Its name, unless tabs or the title show it already. */
function heading(scene, report) {
  const shown = report.scenes.length > 1 || scene.name === report.title;
  return [el("h2", { text: scene.name, class: shown ? "only-heard" : null })];
}

function notes(scene, report) {
  const style = report.styles.length > 1 && scene.style !== null ? `in the style of ${report.styles[scene.style].name}` : "";
  const text = [style, scene.note].filter(Boolean).join("; ");
  return text ? [el("p", { class: "note", text })] : [];
}
