const [left, right, split, stage] = ["left", "right", "split", "stage"].map((id) => document.getElementById(id));
const images = JSON.parse(document.getElementById("data").textContent).pictures.map(({ label, image }) => {
  for (const menu of [left, right]) menu.append(new Option(label));
  const shown = Object.assign(new Image(), { src: image, alt: label });
  stage.append(shown);
  return shown;
});

function show() {
  images.forEach((image, index) => {
    const above = index === left.selectedIndex;
    image.style.visibility = above || index === right.selectedIndex ? "visible" : "hidden";
    image.style.zIndex = above ? 1 : 0;
    image.style.clipPath = above && left.selectedIndex !== right.selectedIndex ? `inset(0 ${100 - split.value}% 0 0)` : "none";
  });
}

right.selectedIndex = Math.min(1, images.length - 1);
for (const input of [left, right, split]) input.addEventListener("input", show);
stage.addEventListener("pointermove", (event) => {
  const box = images[0].getBoundingClientRect();
  split.value = (100 * (event.clientX - box.left)) / box.width;
  show();
});
stage.addEventListener("click", () => stage.classList.toggle("large"));
show();
