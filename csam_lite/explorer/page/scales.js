// All scales at a glance: a row for each CSAM of the network, with its gates as small pictures. A click on a
// row shows its gates large.

import { Ink, make } from "./canvas.js";
import { limits, mapOf, shade, sorted, tableOf } from "./data.js";

let groups = 0; // for the name of the radio buttons: several explorers may share a page

export class ScalesPanel {
  constructor(state) {
    this.state = state;
    const { levels } = state, group = `level-${++groups}`;
    const all = levels.flatMap((level) => level.gates);
    const gates = new Map(all.map((gate) => [`${gate.name} ${gate.axes}`, gate])); // each once
    this.columns = [...gates.values()];
    [this.inks, this.ofSlice] = [[], []]; // of all pictures, and of those that differ from slice to slice
    const head = (name) => make("span", { className: "head" }, name[0].toUpperCase() + name.slice(1));
    const heads = ["scale", ...this.columns.map(({ name }) => name)].map(head);
    const rows = levels.map((level, i) => this.row(level, i, group));
    const properties = { className: "part scales", role: "radiogroup", "aria-label": "scale of the network" };
    this.element = make("div", properties, ...heads, ...rows);
    this.element.style.setProperty("--gates", this.columns.length);
    state.on("window answer", () => this.inks.forEach((ink) => ink.redraw()));
    state.on("slice", () => this.ofSlice.forEach((ink) => ink.redraw()));
  }

  row(level, i, group) {
    const { state } = this, { name, size: [H, W] } = level;
    const properties = { type: "radio", name: group, value: i, checked: i === 0, "data-part": `level-${i}` };
    const input = make("input", properties);
    input.addEventListener("change", () => state.setLevel(i));
    const pictures = this.columns.map((column) => {
      const gate = level.gates.find((other) => other.name === column.name && other.axes === column.axes);
      const ink = new Ink("small", (g, w, h) => gate && this.draw(g, w, h, gate));
      ink.canvas.setAttribute("aria-hidden", "true"); // the panel of the gate says it in words
      this.inks.push(ink);
      if (column.axes.includes("S")) this.ofSlice.push(ink);
      return ink.canvas;
    });
    const words = make("span", { textContent: `${name}, ${W} × ${H}` });
    const choice = make("span", { className: "tick" }, input, words);
    return make("label", { className: "scale" }, choice, ...pictures);
  }

  draw(g, w, h, gate) {
    const { state } = this, array = state.gateArray(gate);
    if (gate.axes === "C" || gate.axes === "S") this.drawBars(g, w, h, gate.axes, array.data);
    else this.drawMap(g, w, h, gate, array);
  }

  drawBars(g, w, h, axes, values) {
    const { state } = this, { colours, window: [start], S } = state, along = axes === "S";
    const order = along ? values.keys() : sorted(values), step = w / (along ? S : values.length);
    g.fillStyle = colours.soft;
    g.fillRect(0, h - 1, w, 1);
    let rank = along ? start : 0;
    for (const i of order) {
      const isChosen = along && rank === state.slice;
      const high = Math.max(Math.min(values[i], 1) * (h - 1), isChosen ? 2 : 0); // a shut one shows its colour
      g.fillStyle = isChosen ? colours.mark : colours.bar;
      g.fillRect(rank++ * step, h - 1 - high, Math.max(step - (step > 3 ? 1 : 0), 0.5), high);
    }
  }

  /** A gate over the image, or any other as a table: in the same colours at all scales. */
  drawMap(g, w, h, gate, array) {
    const { state } = this, s = state.slice - state.window[0], colours = state.pixelsOf("cividis");
    const isMap = gate.axes.endsWith("HW");
    const { data, shape: [rows, columns] } = (isMap ? mapOf : tableOf)(array, gate.axes, s);
    const [low, high] = this.limitsOf(gate);
    const canvas = make("canvas", { width: columns, height: rows }), context = canvas.getContext("2d");
    const image = context.createImageData(columns, rows), words = new Uint32Array(image.data.buffer);
    words.forEach((_, i) => (words[i] = colours[shade(data[i], low, high)]));
    context.putImageData(image, 0, 0);
    const [left, top, right, bottom] = state.field, [, tall, wide] = state.spacing;
    const ratio = isMap ? ((right - left) * wide) / ((bottom - top) * tall) : w / h;
    const [across, down] = w / h > ratio ? [h * ratio, h] : [w, w / ratio];
    g.imageSmoothingEnabled = false;
    g.drawImage(canvas, (w - across) / 2, (h - down) / 2, across, down);
  }

  /** [smallest, largest] value of a gate at all scales. */
  limitsOf({ name, axes }) {
    const { state } = this;
    return state.cached(`limits ${name} ${axes} ${state.windowIndex}`, () => {
      const all = state.levels.flatMap((level) => level.gates);
      const same = all.filter((gate) => gate.name === name && gate.axes === axes);
      const each = same.map((gate) => limits(state.gateArray(gate).data));
      return [Math.min(...each.map(([low]) => low)), Math.max(...each.map(([, high]) => high))];
    });
  }
}
