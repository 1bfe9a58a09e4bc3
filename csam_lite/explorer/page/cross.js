// The cross, one point of the volume, as lines in the slice, the maps and the cuts.

/** Lines through the point x, y of the ink, w x h CSS pixels; where y is null, one upright line. */
export function drawCross(g, x, y, w, h) {
  const upright = y === null ? [[x, 0, x, h]] : [[x, 0, x, y - 8], [x, y + 8, x, h]];
  const level = y === null ? [] : [[0, y, x - 8, y], [x + 8, y, w, y]];
  g.strokeStyle = "rgb(255 255 255 / 55%)";
  g.lineWidth = 1;
  g.beginPath();
  for (const [a, b, c, d] of [...upright, ...level]) {
    g.moveTo(a, b);
    g.lineTo(c, d);
  }
  g.stroke();
}
