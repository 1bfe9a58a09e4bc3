// Maps over the slice: the uncertainty, and every gate that has the axes H and W.

import { ColourBar, make, Picture, write } from "./canvas.js";
import { drawCross } from "./cross.js";
import { limits, plain, shade } from "./data.js";
import { GatePanel, panel } from "./gates.js";
import { drawOutlines } from "./outline.js";

/** A picture of what the network reads of the slice, in which a map lies over the image, with the cross. */
function mapPicture(state, name, label) {
  const [, high, wide] = state.spacing;
  const drawInk = (g, w, h) => {
    drawOutlines(state, g, picture, "slice", state.slice, w, h);
    const [x, y] = state.cross;
    if (state.shown.cross) drawCross(g, ...picture.place(x + 0.5, y + 0.5, w, h), w, h);
  };
  const picture = new Picture(name, label, drawInk);
  state.on("cross", () => picture.ink.redraw());
  return picture.frame(state.box, wide / high);
}

const SUBJECTS = "slice contrast channel shown map answer before";

/** The uncertainty; hidden until it is known. */
export class UncertaintyPanel {
  constructor(state) {
    this.state = state;
    this.picture = mapPicture(state, "uncertainty", "uncertainty over the slice");
    this.overSlice = true; // each of its pixels is one of the slice
    this.value = make("div", { className: "values" });
    this.bar = new ColourBar(state.arrays.cividis.data, "standard deviation of the class probability");
    this.element = panel("uncertainty", "", null, this.picture.element, this.bar.box, this.value);
    this.inks = [this.picture.ink];
    this.show();
    state.on("uncertainty", () => this.show(), { atOnce: true });
    state.on(`${SUBJECTS} uncertainty`, () => this.draw());
  }

  show() {
    const { arrays, description } = this.state;
    this.element.hidden = !arrays.uncertainty;
    if (this.element.hidden) return;
    this.bar.set(0, description.uncertainty);
    const heading = `Uncertainty: ${description.draws} draws, gates as the network chose`;
    this.element.querySelector("figcaption span").textContent = heading;
  }

  draw() {
    const { state } = this;
    if (!state.arrays.uncertainty) return;
    const values = state.mask("uncertainty"), most = state.description.uncertainty * 510;
    const rows = Uint8Array.from(values, (value) => shade(value, 0, most));
    state.paintSlice(this.picture, state.mapTable(), rows);
    this.picture.ink.redraw();
    const highest = values.reduce((a, b) => Math.max(a, b), 0) / 510;
    write(this.value, `highest in this slice: ${plain(highest)}`);
  }
}

/**
 * A gate with the axes H and W: of one that also has the axis S this slice, of one with the axis C the mean.
 */
export class MapPanel extends GatePanel {
  constructor(state, gate) {
    super(state, gate);
    this.picture = mapPicture(state, `gate-${gate.name}`, `${gate.name} gate over the slice`);
    this.overSlice = true;
    this.bar = new ColourBar(state.arrays.cividis.data, "gate, no unit");
    this.value = make("div", { className: "values", "data-part": `gate-${gate.name}-value` });
    const heading = gate.axes.includes("C") ? ", mean of the channels" : "";
    this.fill(heading, this.picture.element, this.bar.box, this.value);
    this.inks = [this.picture.ink];
    state.on(`${SUBJECTS} window level`, () => this.draw());
  }

  draw() {
    if (!this.show()) return;
    const { state } = this;
    if (this.drawn !== this.array || this.axes.includes("S")) this.prepare();
    state.paintSlice(this.picture, state.mapTable(), this.rows);
    this.picture.ink.redraw();
  }

  /** The row of the table that each pixel has, and the words: the same in all slices, but for a gate with the axis S. */
  prepare() {
    const { state, array } = this, { shape, data } = state.gateMap(this.gate);
    const [low, high] = limits(array.data); // the same colours in all slices
    const places = state.cached(`places ${shape}`, () => Int32Array.from({ length: state.W * state.H },
      (_, i) => state.placeInField(i % state.W, Math.floor(i / state.W), shape)));
    const rows = Uint8Array.from(data, (value) => shade(value, low, high));
    this.rows = Uint16Array.from(places, (place) => (place < 0 ? 256 : rows[place]));
    this.drawn = array;
    this.bar.set(low, high);
    const [least, most] = limits(data).map(plain);
    const mean = plain(data.reduce((a, b) => a + b, 0) / data.length);
    const flat = data.every((value) => value === data[0]);
    write(this.value, flat ? `${mean} everywhere` : `between ${least} and ${most}, mean ${mean}`);
  }
}
