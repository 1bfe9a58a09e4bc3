// The slice: its picture with masks, cross and scale bar, its controls, and the values under the pointer.

import { figure, letter, make, onDrag, Picture, range, set, swatch, write } from "./canvas.js";
import { plain, roundLength, wheelSteps } from "./data.js";
import { drawCross } from "./cross.js";
import { drawOutlines } from "./outline.js";
import { Zoom } from "./zoom.js";

const NAMES = { L: "left", R: "right", A: "anterior", P: "posterior", S: "superior", I: "inferior" };

export class SlicePanel {
  constructor(state) {
    this.state = state;
    const { letters, S } = state;
    const where = letters ? `, ${NAMES[letters.top]} at the top, ${NAMES[letters.right]} on the right` : "";
    this.picture = new Picture("slice", "", (g, w, h) => this.drawInk(g, w, h));
    set(this.picture.element, { tabIndex: 0, role: "slider", "aria-label": `slice of the volume${where}`,
      "aria-orientation": "vertical", "aria-valuemin": 1, "aria-valuemax": S });
    this.values = make("div", { className: "values", "data-part": "values" });
    this.pointed = null; // the pixel whose values are told
    const redraw = () => this.picture.ink.redraw();
    this.zoom = new Zoom(this.picture, () => state.cross, redraw);
    this.element = figure("slice", this.picture.element, this.mainControls());
    this.settings = make("div", { className: "settings" }, this.values, ...this.shownControls());
    this.frame();
    this.inks = [this.picture.ink];
    this.overSlice = true;
    state.on("shown", () => this.frame(), { atOnce: true });
    const draw = () => { this.draw(); state.soon(redraw); };
    // a hand waits for it
    state.on("slice contrast channel shown mask answer before", draw, { atOnce: true });
    state.on("cross", redraw);
    state.on("slice window level channel answer before", () => this.drawValues());
    this.drawValues();
  }

  mainControls() {
    const { state } = this, { channels, S } = state;
    const steps = { min: 1, max: S, step: 1, disabled: S === 1 };
    const [slider, field] = range("slider", "slice", steps, (s) => state.setSlice(s - 1));
    this.slider = slider;
    this.readout = make("output", { className: "readout", "data-part": "readout" });
    field.append(this.readout);
    const controls = make("div", { className: "controls" }, field);
    if (channels.length > 1) {
      const options = channels.map(({ name }, value) => make("option", { value, textContent: name }));
      const select = make("select", { "data-part": "channel" }, ...options);
      select.addEventListener("change", () => state.setChannel(Number(select.value)));
      controls.append(make("label", { className: "field" }, make("span", {}, "channel"), select));
    }
    return controls;
  }

  /** What is shown, and how strongly. */
  shownControls() {
    const { state } = this, row = (...parts) => make("div", { className: "controls" }, ...parts);
    this.contrast = make("span", { className: "contrast", "data-part": "contrast" });
    const title = "or double click on the picture";
    const reset = make("button", { type: "button", title, "data-part": "reset-contrast" }, "reset");
    reset.addEventListener("click", () => state.resetContrast());
    const line = swatch("line", state.classes[0].colour);
    const ticks = row(this.tick("prediction", "prediction", line), this.tick("cross", "cross"));
    if (state.arrays.label) ticks.prepend(this.tick("label", "reference", swatch("line", "#ffffff")));
    if (state.boxIsPart) ticks.append(this.tick("zoom", "only what the network reads"));
    const opacities = ["mask", "map"].map((name) => {
      const steps = { min: 0, max: 1, step: 0.05, value: state.opacity[name] };
      return range(`${name}-opacity`, `${name} opacity`, steps, (value) => state.setOpacity(name, value))[1];
    });
    const contrast = make("div", { className: "field" }, this.contrast, reset);
    return [row(contrast, this.zoom.field), ticks, row(...opacities)];
  }

  /** A box to tick: whether `name` is shown. */
  tick(name, text, ...swatches) {
    const { state } = this, checked = state.shown[name];
    const input = make("input", { type: "checkbox", checked, "data-part": `show-${name}` });
    input.addEventListener("change", () => state.setShown(name, input.checked));
    return make("label", { className: "tick" }, input, ...swatches, make("span", { textContent: text }));
  }

  /** What part of the image the picture shows. */
  frame() {
    const { state } = this, [, high, wide] = state.spacing;
    this.picture.frame(state.shown.zoom ? state.box : [0, 0, state.W, state.H], wide / high);
  }

  listen(on) {
    const { state } = this, { element } = this.picture;
    let rolled = 0, drag = null;
    on(element, "wheel", (event) => {
      if (event.ctrlKey) return; // zoom
      const [steps, left] = wheelSteps(rolled, event.deltaY, event.deltaMode);
      rolled = left;
      const to = state.slice + steps;
      if (to < 0 || to >= state.S) return; // at the ends the page scrolls on
      event.preventDefault();
      if (steps) state.setSlice(to);
    }, { passive: false });
    on(element, "keydown", (event) => this.key(event));
    on(element, "contextmenu", (event) => { event.preventDefault(); event.stopPropagation(); });
    on(element, "dblclick", () => state.resetContrast());
    on(element, "pointerdown", (event) => {
      element.focus({ preventScroll: true });
      if (event.button === 2) {
        element.setPointerCapture(event.pointerId);
        const { dark, bright } = state.channels[state.channel];
        drag = { x: event.clientX, y: event.clientY, step: (bright - dark) / 300, ...state.contrast };
      }
    });
    on(element, "pointermove", (event) => {
      if (drag) {
        const { x, y, step, width, centre } = drag;
        state.setContrast(width + (event.clientX - x) * step, centre + (event.clientY - y) * step);
      }
    });
    // a finger scrolls the page here; its touch sets the cross once
    onDrag(on, element, (event) => state.setCross(...this.picture.at(event)), ["mouse"]);
    on(element, "pointerup pointercancel", () => (drag = null));
    this.zoom.listen(on);
  }

  key(event) {
    const { state } = this, { slice, contrast: { width, centre } } = state;
    const { dark, bright } = state.channels[state.channel], step = (bright - dark) / 20;
    const contrast = {
      ArrowRight: [step, 0], ArrowLeft: [-step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    const to = {
      ArrowUp: slice + 1, ArrowRight: slice + 1, ArrowDown: slice - 1, ArrowLeft: slice - 1,
      PageUp: slice + 5, PageDown: slice - 5, Home: 0, End: state.S - 1 }[event.key];
    const move = { a: [-1, 0], d: [1, 0], w: [0, -1], s: [0, 1] }[event.key];
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.shiftKey && contrast) state.setContrast(width + contrast[0], centre + contrast[1]);
    else if (event.key === "r") state.resetContrast();
    else if (move) this.moveCross(...move);
    else if (to !== undefined) state.setSlice(to);
    else return;
    event.preventDefault();
  }

  moveCross(across, down) {
    const { cross: [x, y] } = this.state;
    this.state.setCross(x + across, y + down);
    this.zoom.follow(...this.state.cross);
  }

  draw() {
    const { state } = this;
    state.paintSlice(this.picture, state.maskTable(), state.shown.prediction ? state.slicePrediction : null);
    const text = `${state.slice + 1} of ${state.S}`, { width, centre } = state.contrast;
    this.slider.value = state.slice + 1;
    write(this.readout, text);
    this.picture.element.setAttribute("aria-valuenow", state.slice + 1);
    this.picture.element.setAttribute("aria-valuetext", `slice ${text}`);
    write(this.contrast, `window ${plain(width)}, level ${plain(centre)}`);
  }

  /** Tell the values of a pixel [x, y] from now on; of none: null. */
  point(pixel) {
    this.pointed = pixel;
    this.drawValues();
  }

  drawValues() {
    const { state, pointed } = this;
    if (!pointed) {
      write(this.values, "point at a pixel for its values");
      return;
    }
    const [x, y] = pointed, i = (state.slice * state.H + y) * state.W + x;
    const { arrays, trained } = state, seen = { ...arrays, prediction: (state.before ? trained : arrays).prediction };
    const at = (name) => seen[name].data[i], channel = state.channels[state.channel];
    const className = (k) => (k ? state.classes[k - 1].name : "background");
    const parts = [`column ${x + 1}, row ${y + 1}: ${channel.name} ${plain(state.intensity(x, y))}`];
    parts.push(`prediction ${className(at("prediction"))}`);
    if (state.arrays.label) parts.push(`reference ${className(at("label"))}`);
    if (state.arrays.uncertainty) parts.push(`uncertainty ${plain(at("uncertainty") / 510)}`);
    for (const gate of state.level?.gates || []) if (gate.axes.endsWith("HW")) {
      const map = state.gateMap(gate), place = state.placeInField(x, y, map.shape);
      if (place >= 0) parts.push(`${gate.name} gate ${plain(map.data[place])}`);
    }
    write(this.values, parts.join("; "));
  }

  drawInk(g, w, h) {
    const { state, picture } = this;
    drawOutlines(state, g, picture, "slice", state.slice, w, h);
    if (!state.shown.zoom && state.boxIsPart) {
      const [left, top, wide, high] = state.box, [x, y] = picture.place(left, top, w, h);
      const [right, bottom] = picture.place(left + wide, top + high, w, h);
      g.strokeStyle = "rgb(255 255 255 / 45%)";
      g.setLineDash([2, 4]);
      g.strokeRect(x, y, right - x, bottom - y);
      g.setLineDash([]);
    }
    if (state.shown.cross) {
      drawCross(g, ...picture.place(state.cross[0] + 0.5, state.cross[1] + 0.5, w, h), w, h);
    }
    if (state.before) letter(g, "before all changes", 12, 14, "left");
    if (state.letters) {
      const { top, bottom, left, right } = state.letters;
      letter(g, top, w / 2, 12);
      letter(g, bottom, w / 2, h - 12);
      letter(g, left, 12, h / 2);
      letter(g, right, w - 12, h / 2);
    }
    this.drawLength(g, w, h);
  }

  /** A bar of a round length in mm. */
  drawLength(g, w, h) {
    const { spacing, description } = this.state, { W, view } = this.picture;
    const total = (W * spacing[2]) / view.scale;
    const length = roundLength(total / 4), px = (length / total) * w;
    for (const [colour, thick] of [["rgb(0 0 0 / 75%)", 5], ["#ffffff", 2.5]]) {
      g.strokeStyle = colour;
      g.lineWidth = thick;
      g.beginPath();
      g.moveTo(12, h - 12);
      g.lineTo(12 + px, h - 12);
      g.stroke();
    }
    letter(g, `${plain(length)} ${description.unit}`, 12, h - 24, "left", 12);
  }
}
