// The head of the page: what was found, first of all, and the pictures whose style was taken.

function stylePicture({ name, image, text }) {
  return el("figure", {}, ...(image ? [el("img", { src: image, alt: text || name })] : []),
    el("figcaption", {}, el("b", { text: name }), ...(text ? [el("span", { text })] : [])));
}

/** A sentence with its minus signs, and with units that stay in the line of their figure. */
function typeset(text) {
  return text.replace(/(^|[\s(])-(?=\d)/g, "$1\u2212").replace(/(\d) (?=(dB|%|s|ms|PSNR|SSIM)\b|%)/g, "$1\u00a0");
}

function fillHeader(report) {
  const [verdict, ...others] = report.findings;
  const summary = document.getElementById("summary");
  document.title = report.title;
  summary.append(el("div", { class: "titles" }, el("h1", { text: report.title }), el("p", { class: "subtitle", text: report.subtitle })));
  if (verdict) summary.append(el("p", { class: "verdict", text: typeset(verdict) }));
  if (others.length) summary.append(el("ul", { class: "findings" }, ...others.map((text) => el("li", { text: typeset(text) }))));
  document.getElementById("styles").append(...report.styles.map(stylePicture));
}
