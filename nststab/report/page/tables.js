// Tables, settings and versions: what the figures are and how they were made.

/** A wide table scrolls in its own box, which the keyboard reaches. */
function table({ title, columns, rows, note }) {
  const head = el("tr", {}, ...columns.map((text) => el("th", { scope: "col", text })));
  const body = rows.map(([name, ...values]) =>
    el("tr", {}, el("th", { scope: "row", text: name }), ...values.map((text) => el("td", { text }))));
  const box = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title || "Table" },
    el("table", {}, el("thead", {}, head), el("tbody", {}, ...body)));
  return el("section", { class: "table" }, ...(title ? [el("h3", { text: title })] : []), box,
    ...(note ? [el("p", { class: "caption", text: note })] : []));
}

/** Stability against style loss, a picture. */
function plane(image) {
  const alt = "SSIM of corresponding patches against style loss, one point a clip; the table above has the figures";
  return el("section", { class: "plane" }, el("h3", { text: "Stability against style" }), el("img", { src: image, alt }),
    el("p", { class: "caption", text: "Steadier is up, more in the style is left. A clip at the right is steady because it is hardly in the style." }));
}

function setting(value) {
  if (value === null) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (Array.isArray(value)) return value.map(setting).join(", ");
  if (typeof value === "object") return Object.entries(value).map(([key, own]) => `${key} ${setting(own)}`).join(", ");
  return String(value);
}

function pairs(title, values) {
  const rows = Object.entries(values).map(([name, value]) =>
    el("div", {}, el("dt", { text: name.replaceAll("_", " ") }), el("dd", { text: setting(value) })));
  return rows.length ? [el("section", {}, el("h3", { text: title }), el("dl", {}, ...rows))] : [];
}

/** What stands at the end: left out, command, settings, versions. */
function colophon(report) {
  const parts = [];
  if (report.left_out.length) {
    parts.push(el("section", { class: "left-out" }, el("h3", { text: "Left out of this file" }),
      el("ul", {}, ...report.left_out.map((text) => el("li", { text })))));
  }
  if (report.command) {
    parts.push(el("section", { class: "command" }, el("h3", { text: "Made by" }),
      el("pre", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Command" }, el("code", { text: report.command }))));
  }
  parts.push(el("div", { class: "made" }, ...pairs("Settings", report.settings), ...pairs("Versions", report.versions)));
  return parts;
}
