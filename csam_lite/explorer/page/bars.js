// Gates that are not maps over the image: a bar for each channel, a bar for each slice, or a table.

import { ColourBar, drawAxes, Ink, make, MARGIN, set, write } from "./canvas.js";
import { barAt, limits, plain, shade, sigmoid, sorted, tableOf } from "./data.js";
import { GatePanel, pair, panel, smallPicture } from "./gates.js";

const text = (part) => make("div", { className: "values", "data-part": part });
const isMoved = (was, value) => Math.abs(was - value) > 1e-6;
const toTheEnd = (value) => (value < 0.03 ? 0 : value > 0.97 ? 1 : value); // keys reach the ends
const AXES = { S: "slices", C: "channels", H: "rows", W: "columns" };

/** A canvas of bars that the keyboard reaches. */
function bars(name, label, draw) {
  const ink = new Ink("bars", draw);
  set(ink.canvas, { tabIndex: 0, role: "slider", "data-part": `gate-${name}`, "aria-label": label,
    "aria-valuemin": 0, "aria-valuemax": 1 });
  return ink;
}

function tellValue(ink, value, words) {
  ink.canvas.setAttribute("aria-valuenow", value.toFixed(3));
  ink.canvas.setAttribute("aria-valuetext", words);
}

/** A bar from `top` to `base`: one that is shut still shows where it stands, and the chosen one its colour. */
function foot(g, x, top, wide, base, isChosen) {
  const high = Math.max(base - top, isChosen ? 3 : 1);
  g.fillRect(x, base - high, wide, high);
}

/** A gate of the channels, the most open first, and the feature map of one channel. */
export class ChannelPanel extends GatePanel {
  constructor(state, gate) {
    super(state, gate);
    this.rank = 0; // of the channel whose feature map is seen
    const label = `${gate.name} gate, a bar for each channel`;
    this.ink = bars(gate.name, label, (g, w, h) => this.drawBars(g, w, h));
    [this.feature, this.featureName] = [make("div"), text("feature-name")];
    this.featureBar = new ColourBar(state.arrays.cividis.data, "feature value, no unit");
    const feature = pair(this.feature, this.featureName, this.featureBar.box);
    this.fill("", this.ink.canvas, feature);
    this.inks = [this.ink];
    this.tell = () => this.tellFeature();
    state.on("level", () => Object.assign(this, { rank: 0, order: null }), { atOnce: true });
    state.on("level window answer", () => this.draw());
    state.on("slice maps", () => this.drawFeature());
  }

  listen(on) {
    on(this.ink.canvas, "pointermove pointerdown", (event) => {
      const right = this.ink.size[0] - MARGIN.right, count = this.order?.length || 0;
      const rank = barAt(event.offsetX, MARGIN.left, right, count);
      if (rank >= 0) this.choose(rank);
    });
    on(this.ink.canvas, "keydown", (event) => {
      const step = { ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1 }[event.key];
      if (!step || !this.order) return;
      event.preventDefault();
      this.choose(Math.min(Math.max(this.rank + step, 0), this.order.length - 1));
    });
  }

  choose(rank) {
    if (rank === this.rank) return;
    this.rank = rank;
    this.ink.redraw();
    this.drawFeature();
  }

  draw() {
    if (!this.show()) return;
    this.order = sorted(this.array.data);
    this.ink.redraw();
    this.drawFeature();
  }

  drawBars(g, w, h) {
    if (!this.gate || !this.order) return;
    const { array, order, rank: chosen } = this, { colours } = this.state, C = order.length;
    const y = drawAxes(g, w, h, `${C} channels, the most open first`, colours);
    const step = (w - MARGIN.left - MARGIN.right) / C, gap = step > 4 ? 1 : 0;
    order.forEach((channel, rank) => {
      const x = MARGIN.left + rank * step + gap / 2, top = y(Math.min(array.data[channel], 1));
      g.fillStyle = rank === chosen ? colours.mark : colours.bar;
      foot(g, x, top, Math.max(step - gap, 0.5), y(0), rank === chosen);
    });
  }

  drawFeature() {
    if (!this.gate || !this.order) return;
    const { state } = this, { values, low, high } = state.level.maps, maps = state.arrays[values];
    const channel = this.order[this.rank];
    state.soon(this.tell); // last: text in a canvas has the browser lay out again what was written before
    if (!maps) return; // the network in the page is still computing them
    const [S, C, h, w] = maps.shape, s = S > 1 ? state.slice : 0;
    const [left, top, right, bottom] = state.field, [, tall, wide] = state.spacing;
    const ratio = ((right - left) * wide * h) / ((bottom - top) * tall * w);
    const start = (s * C + channel) * h * w;
    const map = maps.data.subarray(start, start + h * w), colours = state.pixelsOf("cividis");
    const picture = smallPicture(this.feature, "feature", w, h, ratio);
    picture.paint((i) => colours[map[i]]);
    this.featureBar.set(state.arrays[low].data[channel], state.arrays[high].data[channel]);
  }

  /** What the pictures show, in words. */
  tellFeature() {
    if (!this.gate || !this.order) return;
    const { state, ink, featureName } = this, maps = state.arrays[state.level.maps.values];
    const channel = this.order[this.rank], value = this.array.data[channel];
    const words = `channel ${channel}, gate ${plain(value)}`;
    const where = maps?.shape[0] > 1 ? `slice ${state.slice + 1}` : "mean over the stack";
    tellValue(ink, value, words);
    write(featureName, `${words}; ${maps ? `feature map, ${where}` : "its feature map is coming …"}`);
  }
}

/** A gate of the slices along the stack, with bars to drag, and the normal distribution of a drawn one. */
export class StackPanel extends GatePanel {
  constructor(state, gate) {
    super(state, gate, true);
    const label = `${gate.name} gate, a bar for each slice`;
    this.ink = bars(gate.name, label, (g, w, h) => this.drawBars(g, w, h));
    if (state.canAsk) this.ink.canvas.classList.add("dragged"); // by a finger, which elsewhere scrolls the page
    this.value = text(`gate-${gate.name}-value`);
    [this.covariance, this.covarianceName] = [make("div"), text("covariance-name")];
    const words = "covariance of the slices, before the sigmoid";
    this.covarianceBar = new ColourBar(state.arrays.PuOr.data, words);
    this.covarianceBox = pair(this.covariance, this.covarianceName, this.covarianceBar.box);
    this.fill("", this.ink.canvas, this.value);
    this.aside = panel("covariance", `Draws of the ${gate.name} gate`, null, this.covarianceBox);
    this.inks = [this.ink];
    state.on("level window answer", () => this.draw());
    state.on("slice changes", () => this.drawSlice());
  }

  listen(on) {
    const { state, ink } = this;
    let held = null;
    on(ink.canvas, "pointerdown", (event) => {
      const s = this.sliceAt(event);
      if (event.button !== 0 || s < 0) return;
      ink.canvas.setPointerCapture(event.pointerId);
      held = { s, y: event.clientY };
      state.setSlice(s);
    });
    on(ink.canvas, "pointermove", (event) => {
      if (!held || !this.canLift || (!held.moving && Math.abs(event.clientY - held.y) < 3)) return;
      const height = ink.size[1] - MARGIN.top - MARGIN.bottom;
      this.lift(held.s, 1 - (event.offsetY - MARGIN.top) / height, held.moving);
      held.moving = true;
    });
    on(ink.canvas, "pointerup pointercancel", () => (held = null));
    on(ink.canvas, "keydown", (event) => {
      const step = { ArrowUp: 0.05, ArrowDown: -0.05 }[event.key];
      const aside = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!aside && !(step && this.canLift)) return;
      event.preventDefault();
      if (aside) state.setSlice(state.slice + aside);
      else this.lift(state.slice, toTheEnd(this.heightOf(state.slice) + step));
    });
  }

  get canLift() { return this.state.canAsk && !this.isLocked; }

  /** Let nobody move a bar, so that a finger scrolls the page there, too; or let everybody. */
  lock(isLocked) {
    this.isLocked = isLocked;
    this.ink.canvas.classList.toggle("locked", isLocked);
  }

  /** Set the gate of slice s by hand; goesOn: in the same drag as before. */
  lift(s, value, goesOn = false) {
    const { state, name } = this, { S, window: [start] } = state;
    state.setChange(name, (level) => {
      const before = state.changes[level.name]?.[name];
      const now = () => state.gateArray(level.gates.find((gate) => gate.name === name)).data[s - start];
      // of slices that nobody touched: null, as computed, or the one value that replaces all of them
      const list = Array.isArray(before) ? [...before] : Array(S).fill(before ? now() : null);
      list[s] = Math.min(Math.max(value, 0), 1);
      return list;
    }, goesOn);
  }

  /** The slice whose bar is under the pointer; -1 outside. */
  sliceAt(event) {
    const [start, stop] = this.state.window;
    const i = barAt(event.offsetX, MARGIN.left, this.ink.size[0] - MARGIN.right, this.state.S);
    return i >= start && i < stop ? i : -1;
  }

  /** Write the number of slice s under its bar, whichever others have one; null: of none. */
  want(s) {
    this.wanted = s;
    this.ink.redraw();
  }

  heightOf(s) {
    const wish = this.state.changeOf(this.name);
    return Array.isArray(wish) && wish[s] !== null ? wish[s] : this.array.data[s - this.state.window[0]];
  }

  /** Where the middle 68 of 100 draws lie: mean ± one deviation, because a sigmoid keeps the order. */
  spread(s) {
    const { state, gate } = this;
    const mean = state.gateArray(gate, "mean"), covariance = state.gateArray(gate, "covariance");
    if (!mean || state.changeOf(this.name)) return null;
    const i = s - state.window[0], deviation = Math.sqrt(covariance.data[i * mean.shape[0] + i]);
    return [sigmoid(mean.data[i] - deviation), sigmoid(mean.data[i] + deviation)];
  }

  draw() {
    this.aside.hidden = !this.state.gateArray(this.gate, "covariance");
    if (!this.show()) return;
    this.drawSlice();
    if (!this.aside.hidden) this.drawCovariance();
  }

  /** What depends on the slice that is seen. */
  drawSlice() {
    if (!this.gate) return;
    this.ink.redraw();
    const { slice, windows, window: [start, stop] } = this.state;
    const value = this.heightOf(slice), spread = this.spread(slice);
    const draws = spread ? `, 68 of 100 draws between ${plain(spread[0])} and ${plain(spread[1])}` : "";
    const was = this.state.gateArray(this.gate, "values", this.state.trained).data[slice - start];
    const line = isMoved(was, value) ? ` (line: ${plain(was)}, as the network chose)` : "";
    const words = `slice ${slice + 1}: bar ${plain(value)}${line}${draws}`;
    write(this.value, words + (windows.length > 1 ? `; window of slices ${start + 1} to ${stop}` : ""));
    tellValue(this.ink, value, words);
  }

  drawCovariance() {
    const { state } = this, covariance = state.gateArray(this.gate, "covariance");
    const [n] = covariance.shape, most = covariance.data.reduce((a, b) => Math.max(a, Math.abs(b)), 1e-12);
    const picture = smallPicture(this.covariance, "covariance", n, n, 1), colours = state.pixelsOf("PuOr");
    picture.paint((i) => colours[shade(covariance.data[i], -most, most)]);
    this.covarianceBar.set(-most, most);
    const [start, stop] = state.window;
    write(this.covarianceName, `slice by slice, ${start + 1} to ${stop}, from the upper left`);
  }

  drawBars(g, w, h) {
    if (!this.gate) return;
    const { state } = this, { S, slice, colours, letters, window: [start, stop] } = state;
    const y = drawAxes(g, w, h, `slice${letters ? ` (${letters.down} to ${letters.up})` : ""}`, colours);
    const length = w - MARGIN.left - MARGIN.right, step = length / S;
    const before = state.gateArray(this.gate, "values", state.trained);
    const label = Math.ceil(S / Math.max(Math.floor(length / 30), 1)); // every so many slices
    for (let s = 0; s < S; s++) {
      const x = MARGIN.left + s * step;
      g.fillStyle = colours.ink;
      g.font = `${s === slice ? "bold " : ""}11px system-ui, sans-serif`;
      const named = [slice, this.wanted].filter(Number.isInteger);
      const isFree = s % label === 0 && named.every((other) => Math.abs(s - other) * step >= 18);
      if (named.includes(s) || isFree) g.fillText(s + 1, x + step / 2, h - 22);
      if (s < start || s >= stop) continue;
      const value = this.heightOf(s), was = before.data[s - start], spread = this.spread(s);
      const top = y(Math.min(value, 1));
      g.fillStyle = s === slice ? colours.mark : colours.bar;
      foot(g, x + 0.5, top, Math.max(step - 1, 0.5), y(0), s === slice);
      g.strokeStyle = colours.ink;
      g.lineWidth = 1.2;
      g.beginPath();
      if (spread) {
        const middle = x + step / 2, wide = Math.min(step / 4, 4);
        g.moveTo(middle, y(spread[0]));
        g.lineTo(middle, y(spread[1]));
        for (const end of spread) { g.moveTo(middle - wide, y(end)); g.lineTo(middle + wide, y(end)); }
      }
      if (isMoved(was, value)) { g.moveTo(x, y(was)); g.lineTo(x + step, y(was)); }
      g.stroke();
    }
  }
}

/** Any other gate, as a table of at most two of its axes; one with three shows this slice. */
export class TablePanel extends GatePanel {
  constructor(state, gate) {
    super(state, gate);
    [this.box, this.value] = [make("div"), text(`gate-${gate.name}-value`)];
    this.bar = new ColourBar(state.arrays.cividis.data, "gate, no unit");
    this.fill("", this.box, this.bar.box, this.value);
    this.inks = [];
    state.on("level window answer slice", () => this.draw());
  }

  draw() {
    if (!this.show()) return;
    const { state, array } = this, s = state.slice - state.window[0];
    const { data, shape: [h, w], axes } = tableOf(array, this.axes, s);
    const [low, high] = limits(array.data), colours = state.pixelsOf("cividis");
    const picture = smallPicture(this.box, `gate-${this.name}`, w, h, Math.max(h / w, 0.2));
    picture.paint((i) => colours[shade(data[i], low, high)]);
    this.bar.set(low, high);
    const names = [...axes].map((axis) => AXES[axis]), across = names.pop(), down = names.pop();
    const where = `${w} ${across} from left to right${down ? `, ${h} ${down} downwards` : ""}`;
    const range = `between ${plain(low)} and ${plain(high)}`;
    write(this.value, across ? `${where}; ${range}` : `one number for the volume: ${plain(data[0])}`);
  }
}
