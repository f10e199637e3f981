// Which weights of a network's rows draw a look: as nststab/networks/rows.py.

export const PHOTOGRAPH = "photograph";

function parted(row) {
  const at = row.lastIndexOf("@");
  return at < 0 ? [row, 1] : [row.slice(0, at), Number(row.slice(at + 1))];
}

export function stylesOf(rows) {
  return [...new Set(rows.filter(row => row !== PHOTOGRAPH).map(row => parted(row)[0]))];
}

// Whether a style has rows of several strokes.
export function hasStrokes(rows) {
  return rows.filter(row => row !== PHOTOGRAPH).length > stylesOf(rows).length;
}

// The stroke that draws a style as its painting at a longest side of `side` does.
export function strokeAt(side, rows, style) {
  const sizes = rows.map(parted).filter(([name]) => name === style).map(([, size]) => Math.log2(size));
  const low = Math.min(...sizes), high = Math.max(...sizes);
  return low === high ? 1 : 2 ** (2 * (Math.min(Math.max(Math.log2(side), low), high) - low) / (high - low) - 1);
}

// styles: parts by name; stroke: from 0.5 to 2.
export function weights(rows, styles, stroke = 1) {
  const result = new Float32Array(rows.length);
  const whole = Object.values(styles).reduce((sum, part) => sum + part, 0);
  for (const [style, part] of Object.entries(styles)) {
    const own = rows.map((row, number) => [number, ...parted(row)]).filter(([, name]) => name === style);
    for (const [number, share] of bySize(own.map(([number, , size]) => [number, Math.log2(size)]), stroke)) {
      result[number] += part / whole * share;
    }
  }
  return result;
}

function bySize(sizes, stroke) {
  const order = sizes.toSorted((a, b) => a[1] - b[1]);
  const low = order[0][1], high = order.at(-1)[1];
  const wanted = low + (high - low) * (Math.log2(stroke) + 1) / 2;
  for (let k = 0; k + 1 < order.length; k++) {
    const [below, first] = order[k], [above, second] = order[k + 1];
    if (first <= wanted && wanted <= second) {
      const share = (wanted - first) / (second - first);
      return [[below, 1 - share], [above, share]];
    }
  }
  return [[order[0][0], 1]];
}
