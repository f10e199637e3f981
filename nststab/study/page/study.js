// The way through a study: welcome, one pair after the other, thanks.

const study = JSON.parse(document.getElementById("study").textContent);
const store = study.sheets ? packedStore(study) : servedStore(study);
const page = document.getElementById("page");
const alertBox = document.getElementById("alert");
const RETRY = 3000; // ms
const videos = new Map(); // by scene: the promise of its Blob
let open = null;

function tell(text) {
  alertBox.textContent = text;
  alertBox.hidden = text === "";
}

function show(...parts) {
  open?.close();
  open = null;
  delete document.documentElement.dataset.frame;
  page.className = "text";
  page.replaceChildren(...parts);
  scrollTo(0, 0);
}

/** Tries until it works: a server that is started again, or a network that comes back, loses nothing. */
async function persistently(work) {
  for (;;) {
    try {
      const result = await work();
      tell("");
      return result;
    } catch (error) {
      if (error instanceof Refused) throw error;
      tell("The study cannot be reached. Nothing is lost: this page goes on as soon as it can.");
      await new Promise((resolve) => setTimeout(resolve, RETRY));
    }
  }
}

function videoOf(scene) {
  if (!videos.has(scene)) {
    videos.set(scene, persistently(async () => {
      const response = await fetch(`media/${study.scenes[scene].media}`);
      if (!response.ok) throw new Error(response.statusText);
      return new Blob([await response.arrayBuffer()], { type: "video/mp4" });
    }));
  }
  return videos.get(scene);
}

function welcome() {
  const count = study.pairs;
  const kept = study.sheets
    ? "Your answers stay in this browser until you hand them in as a code at the end."
    : "Each answer is stored at once; you can stop at any time, and come back in this browser.";
  show(
    el("h1", { text: "Which of two clips?" }),
    el("p", { class: "lead", text: `You will see ${count} pairs of clips that were painted in the style of a picture, side by side, and answer ${study.questions.length === 2 ? "two" : "three"} questions about each. It takes about ${study.minutes} minute${study.minutes === 1 ? "" : "s"}.` }),
    el("ol", { class: "asked" }, ...study.questions.map(([, text]) => el("li", { text }))),
    el("p", { text: "There is no right answer but what you see. “About the same” is an answer like the others. A clip flickers where things change from moment to moment though nothing in the original does." }),
    el("p", { class: "warning" }, el("b", { text: "Some clips flicker. " }), "Please do not take part if flickering pictures can harm you, as with photosensitive epilepsy."),
    el("p", { text: `Kept are your answers, how long you looked and how often you replayed, under a random number. No name, no address, nothing else. ${kept}` }),
    el("div", { class: "send" }, el("button", { type: "button", class: "primary", text: "Begin", onclick: () => { persistently(store.begin).then(proceed); } })));
}

function thanks(finished) {
  const code = store.code();
  const begin = () => {
    if (code && !confirm("Was the code handed in? It is not shown again.")) return;
    store.forget();
    welcome();
  };
  const another = el("button", { type: "button", class: "plain", text: "Begin for another person", onclick: begin });
  const more = el("button", { type: "button", class: code ? "plain" : "primary", text: "Go on", onclick: () => { persistently(store.resume).then(proceed); } });
  show(
    el("h1", { text: finished ? "Thank you" : "Stopped" }),
    el("p", { class: "lead", text: finished ? "That was the last pair." : "You can go on whenever you like, in this browser." }),
    ...(code ? handIn(code) : [el("p", { text: "Your answers are stored. You may close this page." })]),
    el("div", { class: "send" }, another, ...(finished ? [] : [more])));
}

function handIn(code) {
  const text = el("textarea", { readonly: true, rows: "4", "aria-label": "Your code", onfocus: () => text.select() }, code);
  const done = el("span", { class: "hint", role: "status" });
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(code);
      done.textContent = "Copied.";
    } catch {
      text.focus();
      done.textContent = "Now copy what is marked.";
    }
  };
  const file = URL.createObjectURL(new Blob([`${code}\n`], { type: "text/plain" }));
  return [
    el("p", { text: "Please hand in this code to whoever asked you to take part: copy it, or save it as a file." }),
    text,
    el("div", { class: "send" }, done, el("a", { class: "button", href: file, download: `answers-${code.split(".")[2]}.txt`, text: "Save as a file" }),
      el("button", { type: "button", class: "primary", text: "Copy", onclick: copy })),
  ];
}

/** The next pair that is not answered yet, or the welcome to someone who is not known. */
async function proceed(state) {
  if (state === null) return welcome();
  const { trials, answered } = state;
  const done = new Set(answered);
  const place = trials.findIndex((_, i) => !done.has(i));
  if (place < 0) return thanks(true);
  const trial = trials[place];
  const video = await videoOf(trial[0]);
  const following = trials.find((_, i) => i > place && !done.has(i));
  if (following) videoOf(following[0]);
  show();
  page.className = "trial";
  const title = `Pair ${done.size + 1} of ${trials.length}`;
  document.title = title;
  open = openTrial(study, trial, video, page, {
    title,
    share: done.size / trials.length,
    onstop: () => thanks(false),
    onbroken: () => tell("This browser cannot play the clips, which are H.264 in MP4. Please take another one."),
    ondone: async (answer) => {
      try {
        await persistently(() => store.answer(place, answer));
      } catch (error) {
        tell(error.message); // it was refused
        open?.reopen();
        return;
      }
      await proceed(await persistently(store.resume));
    },
  });
}

const KEYS = { a: (now) => now.answer("a"), s: (now) => now.answer("s"), b: (now) => now.answer("b"), r: (now) => now.restart(),
  Enter: (now) => now.submit(), ArrowUp: (now) => now.back(), " ": (now) => now.toggle() };

document.addEventListener("keydown", (event) => {
  const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action || !open || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target.closest("button, a") && [" ", "Enter"].includes(event.key)) return; // its own
  event.preventDefault();
  action(open);
});

persistently(store.resume).then(proceed);
