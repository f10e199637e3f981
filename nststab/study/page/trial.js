// One pair: two clips in step with their input and style, and a row of answers for each question.

const SIDES = { a: "A", s: "About the same", b: "B" };

/** A clip's rectangle of the video on a canvas of as many pixels as the screen has there. */
function view(rect, label, role) {
  const canvas = el("canvas", { role: "img", "aria-label": label });
  const context = canvas.getContext("2d");
  return {
    rect,
    canvas,
    root: el("figure", { class: role }, el("figcaption", { text: label }), canvas),
    fit: () => {
      const scale = window.devicePixelRatio || 1;
      const [width, height] = [Math.round(canvas.clientWidth * scale), Math.round(canvas.clientHeight * scale)];
      if (width > 0 && (canvas.width !== width || canvas.height !== height)) Object.assign(canvas, { width, height });
    },
    draw: (video) => {
      context.imageSmoothingQuality = "high";
      context.drawImage(video, ...rect, 0, 0, canvas.width, canvas.height);
    },
  };
}

/** The answers to one question, as radio buttons; `onanswer()` follows a choice. */
function question(key, text, onanswer) {
  const inputs = Object.entries(SIDES).map(([value]) => el("input", { type: "radio", name: key, value, disabled: true, onchange: onanswer }));
  const labels = Object.values(SIDES).map((side, i) => el("label", { class: i === 1 ? "same" : null }, inputs[i], el("span", { text: side })));
  const root = el("fieldset", { class: "question" }, el("legend", { text }), el("div", { class: "choices" }, ...labels));
  return {
    root,
    get choice() { return inputs.find((input) => input.checked)?.value ?? ""; },
    set choice(value) {
      const input = inputs.find((one) => one.value === value);
      if (input.disabled) return;
      input.checked = true;
      onanswer();
    },
    set open(open) { for (const input of inputs) input.disabled = !open; },
  };
}

/** Shows a pair in `root`: `trial` is its scene and two rectangles. `ondone(answer)` comes when all is answered. */
function openTrial(study, trial, video, root, { title, share, ondone, onstop, onbroken }) {
  const [number, left, right] = trial;
  const scene = study.scenes[number];
  const style = scene.style === null ? null : study.styles[scene.style];
  const views = [view(scene.rects[left], "A", "clip"), view(scene.rects[right], "B", "clip"), view(scene.rects[0], "Original", "small")];
  const questions = study.questions.map(([key, text]) => question(key, text, update));
  const play = el("button", { type: "button", class: "round", onclick: () => player.toggle() });
  const again = el("button", { type: "button", class: "plain", text: "Restart", onclick: restart });
  const hint = el("p", { class: "hint", "aria-live": "polite" });
  const next = el("button", { type: "button", class: "primary", text: "Next pair", disabled: true, onclick: submit });
  const bar = el("i", { class: "done" });
  let began;
  let watched = false;
  let last = -1;
  let replays = 0;
  let sent = false;

  root.replaceChildren(
    el("header", { class: "progress" }, el("h1", { text: title }), el("button", { type: "button", class: "plain", text: "Stop here", onclick: onstop }),
      el("div", { class: "track", "aria-hidden": "true" }, bar)),
    el("div", { class: "pair" }, views[0].root, views[1].root),
    el("div", { class: "beside" }, views[2].root,
      ...(style ? [el("figure", { class: "small style" }, el("figcaption", { text: "Style" }), el("img", { src: style.image, alt: "The picture whose style was taken" }))] : [])),
    el("div", { class: "player" }, play, again, hint),
    el("form", { class: "questions", onsubmit: (event) => event.preventDefault() }, ...questions.map((one) => one.root),
      el("div", { class: "send" }, el("p", { class: "keys" }, ...keysOf(["A", "S", "B"]), " answer · ", ...keysOf(["↑"]), " back · ", ...keysOf(["Enter"]), " next · ", ...keysOf(["Space"]), " play · ", ...keysOf(["R"]), " restart"), next)));
  bar.style.setProperty("--done", share);
  const ratio = (scene.width * scene.aspect) / scene.height;
  root.style.setProperty("--ratio", ratio);
  root.classList.toggle("tall", ratio < 1);

  const sizes = new ResizeObserver(redraw);
  const player = openPlayer(scene, video, { onframe, onstate, onerror: onbroken });
  for (const one of views) sizes.observe(one.canvas);
  player.video.addEventListener("playing", () => { began = performance.now(); }, { once: true });
  player.video.play().catch(() => {}); // where that waits for a touch, the button is there
  onstate();
  update();

  function onframe(frame) {
    if (frame < last) { // it was seen to its end, and begins again
      replays += watched ? 1 : 0;
      watched = true;
      update();
    } else if (frame === scene.times.length - 1) {
      watched = true;
      update();
    }
    last = frame;
    redraw();
    document.documentElement.dataset.frame = frame; // for whoever waits for all canvases
  }

  function redraw() {
    if (last < 0 || player.video.readyState < 2) return;
    for (const one of views) {
      one.fit();
      one.draw(player.video);
    }
  }

  function onstate() {
    play.textContent = player.playing ? "Pause" : "Play";
    play.classList.toggle("playing", player.playing);
  }

  function restart() {
    replays += watched ? 1 : 0;
    last = -1;
    player.seek(0);
    player.video.play().catch(() => {});
  }

  function current() {
    return questions.find((one) => !one.choice) ?? null;
  }

  function update() {
    const open = current();
    for (const one of questions) {
      one.open = watched;
      one.root.classList.toggle("current", watched && one === open);
    }
    next.disabled = open !== null;
    hint.textContent = watched ? "" : "Watch both to the end once; then answer.";
  }

  function submit() {
    if (current() !== null || sent) return;
    sent = true;
    const choices = questions.map((one) => one.choice).join("");
    ondone({ choices, milliseconds: Math.round(performance.now() - began), replays });
  }

  return {
    answer: (value) => { const open = current() ?? questions.at(-1); open.choice = value; },
    /** Take the last answer back. */
    back: () => {
      const given = questions.findLast((one) => one.choice);
      for (const input of given?.root.querySelectorAll("input") ?? []) input.checked = false;
      update();
    },
    submit,
    restart,
    toggle: () => player.toggle(),
    reopen: () => { sent = false; },
    close: () => {
      sizes.disconnect();
      player.close();
    },
  };
}

function keysOf(names) {
  return names.flatMap((name, i) => [...(i ? [" "] : []), el("kbd", { text: name })]);
}
