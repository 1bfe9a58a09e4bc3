// The outlines of masks, which the slice, the cuts and the maps share.

import { outlines, plane } from "./data.js";

/** Draw the outlines of all masks in one plane of the volume on the ink of a picture, w x h CSS pixels. */
export function drawOutlines(state, g, picture, kind, index, w, h) {
  const [S, H, W] = state.volume, size = { slice: [W, H], coronal: [W, S], sagittal: [H, S] }[kind];
  const draw = (name, { data }) => state.classes.forEach(({ colour }, k) => {
    const find = () => outlines(plane(data, state.volume, kind, index), ...size, k + 1);
    drawLines(g, picture, state.cached(`${name} ${kind} ${index} ${k}`, find), w, h, name, colour);
  });
  if (state.shown.prediction) {
    const { prediction } = state.arrays, before = state.trained.prediction;
    if (state.before) draw("trained", before);
    else draw("prediction", prediction);
    if (!state.before && prediction !== before && Object.keys(state.changes).length) draw("before", before);
  }
  if (state.shown.label && state.arrays.label) draw("label", state.arrays.label);
}

function drawLines(g, picture, lines, w, h, name, colour) {
  if (!lines.length) return;
  const path = new Path2D();
  for (const line of lines) {
    for (let i = 0; i < line.length; i += 2) {
      const [x, y] = picture.place(line[i], line[i + 1], w, h);
      if (i) path.lineTo(x, y);
      else path.moveTo(x, y);
    }
    path.closePath();
  }
  g.setLineDash(name === "before" ? [1.5, 2.5] : []);
  g.strokeStyle = "rgb(0 0 0 / 60%)"; // a dark rim keeps light lines legible on light tissue
  g.lineWidth = name === "label" ? 2.6 : 3;
  g.stroke(path);
  g.strokeStyle = name === "label" ? "#ffffff" : colour;
  g.lineWidth = name === "label" ? 1.3 : 1.7;
  g.stroke(path);
  g.setLineDash([]);
}
