// The cuts across the slices through the cross, coronal and sagittal, both equally large for a millimetre.

import { figure, greyPixel, letter, make, onDrag, Picture, write } from "./canvas.js";
import { drawCross } from "./cross.js";
import { plane } from "./data.js";
import { drawOutlines } from "./outline.js";

export class CutPanel {
  constructor(state, kind) {
    Object.assign(this, { state, kind, coronal: kind === "coronal" });
    const [deep, high, wide] = state.spacing, widest = Math.max(state.W * wide, state.H * high);
    const [across, step] = this.coronal ? [state.W, wide] : [state.H, high];
    const label = `${kind} cut; a click goes to the slice`;
    this.picture = new Picture(kind, label, (g, w, h) => this.drawInk(g, w, h));
    this.picture.frame([0, 0, across, state.S], step / deep);
    this.picture.element.style.width = `${(100 * across * step) / widest}%`;
    this.picture.element.classList.add("blocky");
    this.name = make("figcaption");
    this.element = figure(kind, this.name, this.picture.element);
    this.inks = [this.picture.ink];
    state.on("cross contrast channel shown answer", () => this.draw());
    state.on("slice before", () => this.picture.ink.redraw());
  }

  /** The row or the column along which the volume is cut. */
  get index() { return this.state.cross[this.coronal ? 1 : 0]; }

  listen(on) {
    const { state, picture } = this;
    onDrag(on, picture.element, (event) => {
      const [across, down] = picture.at(event), [x, y] = state.cross;
      state.setCross(...(this.coronal ? [across, y] : [x, across]));
      state.setSlice(state.S - 1 - down);
    });
  }

  draw() {
    const { state, picture, kind, index } = this, grey = state.greyTable();
    const cut = plane(state.stored, state.volume, kind, index);
    picture.paint((i) => greyPixel(grey[cut[i]]));
    picture.ink.redraw();
    const along = this.coronal ? "row" : "column", axial = !state.letters || state.letters.up === "S";
    const name = axial ? kind[0].toUpperCase() + kind.slice(1) : `Cut along a ${along}`;
    write(this.name, `${name}, ${along} ${index + 1}`);
  }

  drawInk(g, w, h) {
    const { state, picture, kind } = this;
    drawOutlines(state, g, picture, kind, this.index, w, h);
    const [x] = picture.place(state.cross[this.coronal ? 0 : 1] + 0.5, 0, w, h);
    if (state.shown.cross) drawCross(g, x, null, w, h);
    const y = ((state.S - 0.5 - state.slice) / state.S) * h, half = h / state.S / 2;
    g.strokeStyle = "#F0E442";
    g.lineWidth = 1.2;
    g.strokeRect(0.6, Math.max(y - half, 0.6), w - 1.2, Math.min(2 * half, h - 1.2));
    if (!state.letters) return;
    const { up, down, left, right, top, bottom } = state.letters;
    const ends = this.coronal ? [left, right] : [top, bottom];
    letter(g, ends[0], 10, h / 2, "center", 12);
    letter(g, ends[1], w - 10, h / 2, "center", 12);
    if (h > 60) { letter(g, up, w / 2, 9, "center", 12); letter(g, down, w / 2, h - 9, "center", 12); }
  }
}
