// The head of the page: what was found, first of all, and the pictures whose style was taken.

function stylePicture({ name, image, text }) {
  return el("figure", {}, ...(image ? [el("img", { src: image, alt: text || name })] : []),
    el("figcaption", {}, el("b", { text: name }), ...(text ? [el("span", { text })] : [])));
}

function fillHeader(report) {
  const [verdict, ...others] = report.findings;
  const summary = document.getElementById("summary");
  document.title = report.title;
  summary.append(el("p", { class: "subtitle", text: report.subtitle }), el("h1", { text: report.title }));
  if (verdict) summary.append(el("p", { class: "verdict", text: verdict }));
  if (others.length) summary.append(el("ul", { class: "findings" }, ...others.map((text) => el("li", { text }))));
  document.getElementById("styles").append(...report.styles.map(stylePicture));
}
