// The page: its parts from the report's data, and the tabs that open one scene at a time.

const report = JSON.parse(document.getElementById("report").textContent);
let open = null;

function fillTabs(tabs, show) {
  const made = report.scenes.map((scene, i) => el("button", {
    type: "button", role: "tab", id: `tab-${i}`, "aria-controls": "scene", text: scene.name, title: scene.name, onclick: () => show(i),
  }));
  tabs.append(...made);
  tabs.hidden = made.length < 2;
  tabs.addEventListener("keydown", (event) => {
    const now = made.indexOf(document.activeElement);
    const next = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: made.length - 1 }[event.key];
    if (next === undefined || now < 0) return;
    event.preventDefault();
    const index = (next + made.length) % made.length;
    made[index].focus();
    show(index);
  });
  return made;
}

function start() {
  fillHeader(report);
  document.getElementById("tables").append(...report.tables.map(table));
  if (report.plane) document.getElementById("tables").append(plane(report.plane));
  document.getElementById("footer").append(...colophon(report));
  if (report.scenes.length === 0) return;
  const root = document.getElementById("scene");
  const bar = openBar(() => open);
  const tabs = fillTabs(document.getElementById("tabs"), show);

  function show(index) {
    if (root.dataset.scene === String(index)) return;
    open?.close();
    root.dataset.scene = index;
    if (tabs.length > 1) {
      root.setAttribute("role", "tabpanel");
      root.removeAttribute("aria-label");
      root.setAttribute("aria-labelledby", `tab-${index}`);
    }
    tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", String(i === index));
      tab.tabIndex = i === index ? 0 : -1;
    });
    open = openScene(report.scenes[index], report, root, bar);
  }

  show(0);
  listenToKeys(() => open, bar);
}

start();
