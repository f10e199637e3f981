// One hidden video with all clips of a scene, moved frame by frame. A frame counts as shown once `onframe` has drawn it.

const STALE = 250; // ms after which a seek without a callback for its frame is believed to be done
const SETTLING = 80; // ms from the end of a seek until its frame can be drawn, where there are no such callbacks

/** The frame on show at a time in seconds: the last that has begun. */
function frameBegun(times, time) {
  let frame = 0;
  while (frame + 1 < times.length && times[frame + 1] <= time) frame += 1;
  return frame;
}

/** The frame that begins nearest to a time: what browsers tell of a frame is its begin, give or take rounding. */
function frameNearest(times, time) {
  const frame = frameBegun(times, time);
  return frame + 1 < times.length && times[frame + 1] - time < time - times[frame] ? frame + 1 : frame;
}

/** Opens a scene's video, a Blob; `onframe(frame)` draws it, `onstate()` follows play and pause, `onerror()` comes once. */
function openPlayer({ times, end }, blob, { onframe, onstate, onerror }) {
  const url = URL.createObjectURL(blob);
  const video = el("video", { class: "atlas", playsinline: true, loop: true, preload: "auto", tabindex: "-1", "aria-hidden": "true" });
  const exact = "requestVideoFrameCallback" in video;
  const listening = new AbortController();
  const on = (name, listener) => video.addEventListener(name, listener, { signal: listening.signal });
  let shown = -1; // drawn last
  let target = 0; // asked for last
  let goal = -1; // of the seek under way, or -1
  let told = -1; // the frame that the browser has last told of since that seek began
  let broken = false;
  let timer = 0;

  function middle(frame) {
    return (times[frame] + (times[frame + 1] ?? end)) / 2;
  }

  function show(frame) {
    shown = frame;
    onframe(frame);
  }

  function go() {
    clearTimeout(timer);
    goal = target;
    told = -1;
    video.currentTime = middle(goal);
  }

  function arrived(frame) {
    clearTimeout(timer);
    const again = target !== goal;
    goal = -1;
    show(frame);
    if (again) go();
  }

  function seek(frame) {
    target = clamp(frame, 0, times.length - 1);
    if (broken) show(target);
    else if (goal < 0 && target !== shown && video.readyState > 0) go();
  }

  function presented(_, { mediaTime }) {
    if (listening.signal.aborted) return;
    const frame = frameNearest(times, mediaTime);
    told = frame;
    if (goal < 0) {
      if (!video.paused) target = frame;
      show(frame);
    } else if (frame === goal && !video.seeking) {
      arrived(frame);
    }
    video.requestVideoFrameCallback(presented);
  }

  function followClock() {
    if (listening.signal.aborted) return;
    const frame = frameBegun(times, video.currentTime);
    if (!video.paused && goal < 0) {
      target = frame;
      show(frame);
    }
    requestAnimationFrame(followClock);
  }

  function fail() {
    if (broken) return;
    broken = true;
    onerror();
    show(target);
    onstate();
  }

  // phones load a first frame only when it is asked for; others may tell of it before it can be drawn
  for (const name of ["loadedmetadata", "loadeddata"]) on(name, () => { if (goal < 0) go(); });
  on("seeked", () => {
    if (goal < 0) return;
    if (told === goal) arrived(goal);
    else timer = setTimeout(() => { if (goal >= 0) arrived(told < 0 ? goal : told); }, exact ? STALE : SETTLING);
  });
  on("play", onstate);
  on("pause", () => {
    onstate();
    if (goal < 0 && shown >= 0) go(); // the browser may already be a frame further than what was drawn
  });
  on("error", fail);
  video.muted = true;
  video.src = url;
  document.body.append(video);
  if (exact) video.requestVideoFrameCallback(presented);
  else followClock();

  return {
    video,
    seek,
    step: (count) => { video.pause(); seek(target + count); },
    toggle: () => {
      if (broken) return;
      if (video.paused) video.play().catch((error) => { if (error.name === "NotSupportedError") fail(); });
      else video.pause();
    },
    pause: () => video.pause(),
    setSpeed: (speed) => { video.defaultPlaybackRate = video.playbackRate = speed; },
    get playing() { return !video.paused; },
    get broken() { return broken; },
    close: () => {
      listening.abort();
      clearTimeout(timer);
      video.pause();
      video.removeAttribute("src");
      video.load();
      video.remove();
      URL.revokeObjectURL(url);
    },
  };
}
