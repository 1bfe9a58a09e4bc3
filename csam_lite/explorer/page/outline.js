// The outlines of masks, which the slice, the cuts and the maps share.

import { outlines, plane } from "./data.js";

/** Draw the outlines of all masks in one plane (W x H) of the volume on the ink of a picture, w x h CSS pixels. */
export function drawOutlines(state, g, picture, kind, index, W, H, w, h) {
  const draw = (name, { data }) => drawMask(state, g, picture, plane(data, state.volume, kind, index), `${name} ${kind} ${index}`, W, H, w, h, name);
  if (state.shown.prediction) {
    const { prediction } = state.arrays, before = state.trained.prediction;
    draw("prediction", prediction);
    if (prediction !== before && Object.keys(state.changes).length) draw("before", before);
  }
  if (state.shown.label && state.arrays.label) draw("label", state.arrays.label);
}

function drawMask(state, g, picture, mask, key, W, H, w, h, style) {
  state.classes.forEach(({ colour }, k) => {
    const lines = state.cached(`${key} ${k}`, () => outlines(mask, W, H, k + 1));
    if (!lines.length) return;
    const path = new Path2D();
    for (const line of lines) {
      for (let i = 0; i < line.length; i += 2) path[i ? "lineTo" : "moveTo"](...picture.place(line[i], line[i + 1], w, h));
      path.closePath();
    }
    g.setLineDash(style === "before" ? [1.5, 2.5] : []);
    g.strokeStyle = "rgb(0 0 0 / 60%)"; // a dark rim keeps light lines legible on light tissue
    g.lineWidth = style === "label" ? 2.6 : 3;
    g.stroke(path);
    g.strokeStyle = style === "label" ? "#ffffff" : colour;
    g.lineWidth = style === "label" ? 1.3 : 1.7;
    g.stroke(path);
  });
  g.setLineDash([]);
}
