// The bar that stays in sight: it moves whichever scene is open, and shows where that is.

const SPEEDS = ["0.1", "0.25", "0.5", "1", "2"];

/** The bar. `current()` gives the open scene. */
function openBar(current) {
  const byId = (id) => document.getElementById(id);
  const [bar, scrubber, play, position, speed, heat] = ["bar", "scrubber", "play", "position", "speed", "heat"].map(byId);
  let lastHeat = 0.7;
  byId("first").addEventListener("click", () => current().seek(0));
  byId("last").addEventListener("click", () => current().seek(Infinity));
  byId("back").addEventListener("click", () => current().step(-1));
  byId("forward").addEventListener("click", () => current().step(1));
  play.addEventListener("click", () => current().toggle());
  scrubber.addEventListener("input", () => current().seek(scrubber.valueAsNumber));
  speed.addEventListener("change", () => current().setSpeed(Number(speed.value)));
  heat.addEventListener("input", () => current().setHeat(heat.valueAsNumber / 100));
  byId("help").addEventListener("click", () => byId("keys").showModal());
  // the page ends above the bar
  new ResizeObserver(() => document.documentElement.style.setProperty("--bar", `${bar.offsetHeight}px`)).observe(bar);

  return {
    get speed() { return Number(speed.value); },
    get heat() { return byId("heat-control").hidden ? 0 : heat.valueAsNumber / 100; },
    faster: (steps) => {
      speed.value = SPEEDS[clamp(SPEEDS.indexOf(speed.value) + steps, 0, SPEEDS.length - 1)];
      current().setSpeed(Number(speed.value));
    },
    toggleHeat: () => {
      if (byId("heat-control").hidden) return;
      const now = heat.valueAsNumber / 100;
      if (now > 0) lastHeat = now;
      heat.value = now > 0 ? 0 : 100 * lastHeat;
      current().setHeat(heat.valueAsNumber / 100);
    },
    /** Fit a scene that has just been opened. */
    open: (scene) => {
      bar.hidden = false;
      byId("heat-control").hidden = scene.clips.every((clip) => clip.heat === null);
      scrubber.max = scene.times.length - 1;
      const share = (frame) => (scene.times.length < 2 ? 0 : frame / (scene.times.length - 1));
      byId("cuts").replaceChildren(...scene.shots.filter((first) => first > 0).map((first) => {
        const mark = el("i");
        mark.style.setProperty("--at", share(first));
        return mark;
      }));
    },
    /** Show the frame and whether the clips play. */
    follow: (scene, frame, playing) => {
      scrubber.value = frame;
      const time = `${scene.times[frame].toFixed(2)} s`;
      const count = scene.times.length;
      position.replaceChildren(el("b", { text: frame + 1 }), ` / ${count}`, el("span", { text: time }));
      scrubber.setAttribute("aria-valuetext", `${frameName(frame)} of ${count}, ${time}`);
      scrubber.style.setProperty("--done", count < 2 ? 0 : frame / (count - 1));
      play.classList.toggle("playing", playing);
      play.setAttribute("aria-label", playing ? "Pause" : "Play");
    },
  };
}
