// What the panels share: the volume, the reader's choices (slice, level, cross, contrast, ...), and what must
// be drawn anew when one of them changes.
//
// A window is the slices that the network sees at once. A level is one CSAM of the network, whose feature
// maps have a size of their own. Contrast is how intensities become grey (radiologists call its two numbers
// window and level).

import { pixel, rgb } from "./canvas.js";
import { greys, mapOf, opposite, plane, windowOf } from "./data.js";
import { valuesOf } from "./other.js";

const FRAME = 12; // milliseconds of drawing in a frame, so that the page never stands still
const SEEN = 600; // milliseconds that the prediction before all changes is seen at least, however short the press

const contrastBetween = (dark, bright) => ({ width: bright - dark, centre: (dark + bright) / 2 });
const clamp = (value, count) => Math.min(Math.max(value, 0), count - 1);

/** For each colour, null for none, the 256 greys under it, as pixels. */
function overGreys(colours, opacity) {
  const table = new Uint32Array(256 * colours.length);
  colours.forEach((colour, row) => {
    for (let grey = 0; grey < 256; grey++) {
      const mix = (i) => (colour ? Math.round(grey * (1 - opacity) + colour[i] * opacity) : grey);
      table[(row << 8) | grey] = pixel(mix(0), mix(1), mix(2));
    }
  });
  return table;
}

export class State {
  /** other: the gates of another scan (other.js), if there are any. */
  constructor({ description, arrays, other = null }) {
    const { channels, classes, field, levels, spacing, start, windows } = description;
    Object.assign(this, { description, arrays, channels, classes, field, levels, spacing, windows });
    [this.C, this.S, this.H, this.W] = arrays.image.shape;
    this.other = description.windows.length === 1 ? other : null; // a deep scan has several gates in one place
    this.trained = { ...arrays }; // what the network answers with its own gates
    // What the network reads of the image, in whole pixels: left, top, width, height.
    const [left, top, right, bottom] = field;
    const x = Math.max(Math.floor(left), 0), y = Math.max(Math.floor(top), 0);
    this.box = [x, y, Math.min(Math.ceil(right), this.W) - x, Math.min(Math.ceil(bottom), this.H) - y];
    this.boxIsPart = this.box[2] < this.W || this.box[3] < this.H;
    if (description.directions) {
      const [up, bottom, right] = description.directions;
      this.letters = { up, down: opposite(up), top: opposite(bottom), bottom, left: opposite(right), right };
    }
    this.slice = start;
    const middle = [left + right, top + bottom].map((sum) => Math.floor(sum / 2));
    this.cross = [clamp(middle[0], this.W), clamp(middle[1], this.H)];
    this.channel = 0;
    this.contrasts = channels.map(({ dark, bright }) => contrastBetween(dark, bright));
    this.levelIndex = 0;
    this.opacity = { mask: 0.2, map: 0.6 };
    this.shown = { label: true, prediction: true, cross: true, zoom: false };
    this.changes = {}; // name of the CSAM -> name of the gate -> what replaces it, see setChange
    this.history = []; // earlier `changes`, for undo
    this.everyLevel = false; // whether a change applies to all levels
    this.before = false; // whether the prediction before all changes is seen
    this.colours = {};
    this.cache = new Map();
    this.listeners = new Map(); // subject -> functions that draw
    this.pending = new Set();
    this.isDue = false; // whether a frame is asked for
  }

  // Who draws what, and when.

  /** Call `draw` when one of the subjects (words in a string) changes: soon, or at once. */
  on(subjects, draw, { atOnce = false } = {}) {
    for (const subject of subjects.split(" ")) {
      if (!this.listeners.has(subject)) this.listeners.set(subject, []);
      this.listeners.get(subject).push({ draw, atOnce });
    }
  }

  /**
   * Have all that depends on these subjects drawn soon, and once, however many changes come until then.
   */
  changed(...subjects) {
    const concerned = new Set(subjects.flatMap((subject) => this.listeners.get(subject) || []));
    for (const { draw, atOnce } of concerned) {
      if (atOnce) draw();
      else this.soon(draw);
    }
  }

  /** Draw before the next frame, or where much is to be drawn, in one of the frames after. */
  soon(draw) {
    this.pending.add(draw);
    if (this.isDue) return;
    this.isDue = true;
    requestAnimationFrame(() => {
      this.isDue = false;
      this.drawPending(FRAME);
    });
  }

  /** Draw what is pending; what does not begin within so many milliseconds is drawn in the next frame. */
  drawPending(milliseconds = Infinity) {
    const start = performance.now();
    for (const draw of this.pending) {
      if (performance.now() - start > milliseconds) return this.soon(draw);
      this.pending.delete(draw);
      draw();
    }
  }

  cached(key, compute) {
    if (!this.cache.has(key)) {
      if (this.cache.size > 600) this.cache.clear();
      this.cache.set(key, compute());
    }
    return this.cache.get(key);
  }

  // What the reader chooses.

  setSlice(s) {
    const to = clamp(s, this.S), { windowIndex } = this;
    if (to === this.slice) return;
    this.slice = to;
    this.changed("slice", ...(windowIndex === this.windowIndex ? [] : ["window"]));
  }

  setCross(x, y) {
    this.cross = [clamp(x, this.W), clamp(y, this.H)];
    this.changed("cross");
  }

  setContrast(width, centre) {
    const { dark, bright } = this.channels[this.channel];
    this.contrasts[this.channel] = { width: Math.max(width, (bright - dark) / 500), centre };
    this.changed("contrast");
  }

  resetContrast() {
    const { dark, bright } = this.channels[this.channel], { width, centre } = contrastBetween(dark, bright);
    this.setContrast(width, centre);
  }

  setChannel(index) {
    this.channel = index;
    this.changed("channel");
  }

  /** Show or hide the label, the prediction or the cross, or zoom to what the network reads. */
  setShown(name, on) {
    this.shown[name] = on;
    this.changed("shown");
  }

  /** The opacity of the mask's colours or of the maps. */
  setOpacity(name, value) {
    this.opacity[name] = value;
    this.changed(name);
  }

  setLevel(index) {
    this.levelIndex = index;
    this.changed("level");
  }

  /** The levels to which a change applies. */
  levelsOf(gate) {
    const has = ({ gates }) => gates.some(({ name }) => name === gate);
    return this.everyLevel ? this.levels.filter(has) : [this.level];
  }

  /**
   * Replace a gate of this level, or of all, by what valueFor(level) gives: "one", "zero", "mean", or a list
   * with null where it stays; null puts it back. goesOn: the change goes on with the last one, as in a drag, and
   * both are undone together.
   */
  setChange(gate, valueFor, goesOn = false) {
    if (!goesOn) this.history.push(this.changes);
    const changes = { ...this.changes };
    for (const level of this.levelsOf(gate)) {
      const { [gate]: _, ...others } = changes[level.name] || {}, value = valueFor(level);
      changes[level.name] = value === null ? others : { ...others, [gate]: value };
      if (!Object.keys(changes[level.name]).length) delete changes[level.name];
    }
    this.changes = changes;
    this.changed("changes");
  }

  /** What replaces a gate of a level by that of the other scan. */
  otherValues(level, gate) { return valuesOf(this.other, level.name, gate, this.S); }

  /** Replace all gates by those of the other scan. */
  takeOther() {
    this.setChanges(Object.fromEntries(this.levels.map((level) => [level.name,
      Object.fromEntries(level.gates.map((gate) => [gate.name, this.otherValues(level, gate)]))])));
  }

  get isChanged() { return Object.keys(this.changes).length > 0; }

  /** Replace all changes by others. */
  setChanges(changes) {
    this.history.push(this.changes);
    this.changes = changes;
    this.changed("changes");
  }

  clearChanges() { this.setChanges({}); }

  /** Put the gates back to what they were before the last change. */
  undo() {
    if (!this.history.length) return;
    this.changes = this.history.pop();
    this.changed("changes");
  }

  /** See the prediction with the network's own gates, or the one with the changes. */
  setBefore(on) {
    clearTimeout(this.ending);
    const left = on || !this.isChanged ? 0 : this.beforeUntil - performance.now();
    if (left > 0) this.ending = setTimeout(() => this.setBefore(false), left);
    if (left > 0 || on === this.before) return;
    this.before = on;
    if (on) this.beforeUntil = performance.now() + SEEN;
    this.changed("before");
  }

  /** The prediction that is seen in this slice. */
  get slicePrediction() {
    const { data } = (this.before ? this.trained : this.arrays).prediction;
    return plane(data, this.volume, "slice", this.slice);
  }

  changeOf(gate) { return this.changes[this.level.name]?.[gate] ?? null; }

  /** Arrays of a new answer of the network. */
  setAnswer(arrays) {
    Object.assign(this.arrays, arrays);
    this.cache.clear();
    this.changed("answer");
  }

  /** Feature maps that the network in the page computed. */
  setMaps(arrays) {
    Object.assign(this.arrays, arrays);
    this.changed("maps");
  }

  /** The uncertainty that the network in the page computed. */
  setUncertainty({ description, arrays }) {
    Object.assign(this.description, description);
    Object.assign(this.arrays, arrays);
    this.changed("uncertainty");
  }

  // What the arrays hold for these choices.

  get level() { return this.levels[this.levelIndex]; }
  get windowIndex() { return windowOf(this.slice, this.windows); }
  get window() { return this.windows[this.windowIndex]; }
  get volume() { return [this.S, this.H, this.W]; }
  get contrast() { return this.contrasts[this.channel]; }

  /**
   * A gate of this level in the window of this slice: its "values", or the "mean" or "covariance" of its
   * draws.
   */
  gateArray(gate, part = "values", from = this.arrays) {
    return gate?.arrays[part] && from[gate.arrays[part][this.windowIndex]];
  }

  /** A gate with the axes H and W over the image in this slice. */
  gateMap(gate) {
    const array = this.gateArray(gate), key = `map ${this.level.name} ${gate.name} ${this.slice}`;
    return array && this.cached(key, () => mapOf(array, gate.axes, this.slice - this.window[0]));
  }

  /** This slice of an array (S, H, W). */
  mask(name) { return plane(this.arrays[name].data, this.volume, "slice", this.slice); }

  /** The stored numbers of the channel that is seen, (S, H, W). */
  get stored() {
    const voxels = this.S * this.H * this.W;
    return this.arrays.image.data.subarray(this.channel * voxels, (this.channel + 1) * voxels);
  }

  intensity(x, y) {
    const { factor, offset } = this.channels[this.channel];
    return offset + factor * this.stored[(this.slice * this.H + y) * this.W + x];
  }

  /** The grey of each stored number. */
  greyTable() {
    const { factor, offset } = this.channels[this.channel], { width, centre } = this.contrast;
    const count = this.arrays.image.data.BYTES_PER_ELEMENT === 2 ? 65536 : 256;
    const key = `${factor} ${offset} ${width} ${centre}`;
    if (this.greyKey !== key) [this.greyKey, this.grey] = [key, greys(count, factor, offset, width, centre)];
    return this.grey;
  }

  /** Where in a map (h, w) of what the network reads the pixel x, y of the image lies; -1 outside. */
  placeInField(x, y, [h, w]) {
    const [left, top, right, bottom] = this.field;
    const column = Math.floor(((x + 0.5 - left) / (right - left)) * w);
    const row = Math.floor(((y + 0.5 - top) / (bottom - top)) * h);
    return column >= 0 && row >= 0 && column < w && row < h ? row * w + column : -1;
  }

  /** A colour table as 256 pixels. */
  pixelsOf(name) {
    const { data } = this.arrays[name];
    const colour = (_, i) => pixel(...data.subarray(3 * i, 3 * i + 3));
    return this.cached(name, () => Uint32Array.from({ length: 256 }, colour));
  }

  /** Rows of 256 grey pixels: of what is no class, and then of each class, with its colour over them. */
  maskTable() {
    const { classes, opacity } = this;
    return this.cached(`mask table ${opacity.mask}`, () =>
      overGreys([null, ...classes.map(({ colour }) => rgb(colour))], opacity.mask));
  }

  /** The same for a map: with each of the 256 colours over them, and of what is outside (row 256). */
  mapTable() {
    const { arrays: { cividis: { data } }, opacity } = this;
    const colours = Array.from({ length: 256 }, (_, i) => data.subarray(3 * i, 3 * i + 3));
    return this.cached(`map table ${opacity.map}`, () => overGreys([...colours, null], opacity.map));
  }

  /** Paint this slice in a picture, each pixel from the row of `table` that `rows` has for it. */
  paintSlice(picture, table, rows) {
    const image = plane(this.stored, this.volume, "slice", this.slice);
    picture.paintRows(this.W, image, this.greyTable(), table, rows);
  }
}
