// The keys. What has keys of its own (tabs, lists, boxes that scroll) keeps them.

function listenToKeys(current, bar) {
  const keys = document.getElementById("keys");
  const actions = {
    " ": () => current().toggle(),
    ArrowLeft: (event) => current().step(event.shiftKey ? -10 : -1),
    ArrowRight: (event) => current().step(event.shiftKey ? 10 : 1),
    Home: () => current().seek(0),
    End: () => current().seek(Infinity),
    "[": () => bar.faster(-1),
    "]": () => bar.faster(1),
    h: () => bar.toggleHeat(),
    w: () => current().toggleWipe(),
    ",": () => current().moveWipe(-0.05),
    ".": () => current().moveWipe(0.05),
    Escape: () => current().reset(),
    "?": () => keys.showModal(),
  };
  for (let number = 1; number <= 7; number += 1) actions[number] = () => current().solo(number - 1);

  // a button that was clicked does not hold the focus, so that the space bar still plays
  document.addEventListener("mousedown", (event) => {
    if (event.target.closest("button")) event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action || !current() || keys.open || event.ctrlKey || event.metaKey || event.altKey) return;
    if (keepsKey(event.target, event.key)) return;
    event.preventDefault();
    action(event);
  });
}

/** Whether the element that has the focus does something of its own by this key. */
function keepsKey(target, key) {
  if (target.matches("select")) return !"[]".includes(key);
  if (key === " ") return target.closest("button, summary, a") !== null;
  return /^(Arrow|Home|End)/.test(key) && target.closest("#heat, [role=tablist], .scroll") !== null;
}
