// A window of slices in the network: what is given to it, and what the network's parts (network_parts.py) have
// computed.

import { isSame } from "./grid.js";

export class Window {
  /** network: see Network. x: the slices start to stop - 1 of a volume, (S, C, H, W) float32. */
  constructor({ ort, parts, facts }, x, start, stop) {
    Object.assign(this, { ort, parts, facts, start, stop });
    const { input, gates } = facts;
    this.given = { [input.name]: new ort.Tensor("float32", x, [1, stop - start, ...input.shape.slice(2)]) };
    this.keys = {}; // of each gate: what replaces it, as a text
    // part -> key of the gates on which it depends -> {inputs, outputs}, both {name: tensor}
    this.known = new Map(parts.map((part) => [part, new Map()]));
    for (const gate of gates) this.replace(gate, null);
    this.asComputed = new Map(parts.map((part) => [part, this.keyOf(part)]));
  }

  /**
   * Replace a gate by a number or by a list in its own shape, with null where it stays; null: as computed. A
   * list for an axis S spans the whole volume.
   */
  replace(gate, change) {
    const { ort: { Tensor }, start, stop } = this, isList = Array.isArray(change);
    const values = isList && gate.axes === "S" ? change.slice(start, stop) : change;
    const stays = isList ? values.every((value) => value === null) : change === null;
    const key = stays ? "" : String(values);
    if (this.keys[gate.output] === key) return;
    this.keys[gate.output] = key;
    const shape = gate.shape.map((n) => (n === "S" ? stop - start : n));
    const factor = new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(1);
    const offset = new Float32Array(factor.length);
    for (let i = 0; i < factor.length && !stays; i++) {
      const value = isList ? values[i] : values;
      if (value === null) continue;
      factor[i] = 0;
      offset[i] = value;
    }
    this.given[gate.factor] = new Tensor("float32", factor, shape);
    this.given[gate.offset] = new Tensor("float32", offset, shape);
  }

  /** {name: tensor} of these names; computes what is not known for the gates as they are. */
  async tensors(names) {
    const wanted = new Set(names), due = [], found = { ...this.given };
    for (const part of [...this.parts].reverse()) { // what a part reads comes from parts before it
      const has = this.known.get(part).get(this.keyOf(part))?.outputs || {};
      Object.assign(found, has);
      if (!part.outputs.some((name) => wanted.has(name) && !has[name])) continue;
      due.unshift([part, has]);
      part.inputs.forEach((name) => wanted.add(name));
    }
    const large = new Set(this.facts.features.map(({ output }) => output)); // only a first answer tells them
    for (const [part, has] of due) {
      const inputs = Object.fromEntries(part.inputs.map((name) => [name, found[name]]));
      const missing = part.outputs.filter((name) => !has[name] && (!large.has(name) || wanted.has(name)));
      const results = await this.run(part, inputs, missing);
      Object.assign(found, results);
      const kept = Object.entries(results).filter(([name]) => !large.has(name));
      this.keep(part, { inputs, outputs: { ...has, ...Object.fromEntries(kept) } });
    }
    return Object.fromEntries(names.map((name) => [name, found[name]]));
  }

  /** What a part answers; slices in which nothing has changed since an earlier answer are taken from that. */
  async run(part, inputs, names) {
    const { ort: { Tensor }, start, stop } = this, S = stop - start;
    const states = part.slices[names[0]] === undefined ? [] : [...this.known.get(part).values()];
    const compared = states.map((state) =>
      ({ ...state, changed: changedSlices(part, state.inputs, inputs, S) }));
    const [nearest] = compared.sort((a, b) => a.changed.length - b.changed.length);
    if (!nearest || 2 * nearest.changed.length > S) return part.session.run(inputs, names);
    const { changed, outputs } = nearest;
    if (!changed.length) return outputs;
    const feeds = Object.fromEntries(Object.entries(inputs).map(([name, tensor]) => {
      const { data, dims, type } = tensor, axis = part.slices[name], each = data.length / S;
      if (axis === undefined) return [name, tensor];
      const some = new data.constructor(each * changed.length);
      changed.forEach((s, i) => some.set(data.subarray(s * each, (s + 1) * each), i * each));
      return [name, new Tensor(type, some, dims.with(axis, changed.length))];
    }));
    const results = await part.session.run(feeds, names);
    return Object.fromEntries(names.map((name) => {
      const { data, dims, type } = outputs[name], whole = data.slice(), each = data.length / S;
      changed.forEach((s, i) => whole.set(results[name].data.subarray(i * each, (i + 1) * each), s * each));
      return [name, new Tensor(type, whole, dims)];
    }));
  }

  /** The gates on which a part depends, as they are, as a text. */
  keyOf({ gates }) { return gates.map((output) => this.keys[output]).join("|"); }

  /**
   * Keep what is known of a part for the gates as they are. It is also kept for all gates as computed, to
   * which a reader goes back, and for no others.
   */
  keep(part, state) {
    const states = this.known.get(part), asComputed = states.get(this.asComputed.get(part));
    states.clear();
    if (asComputed) states.set(this.asComputed.get(part), asComputed);
    states.set(this.keyOf(part), state);
  }

  /** Of what is known. */
  get bytes() {
    const states = [...this.known.values()].flatMap((part) => [...part.values()]);
    const all = states.flatMap(({ inputs, outputs }) => [inputs, outputs].flatMap(Object.values));
    const tensors = new Set(all);
    return [...tensors].reduce((sum, { data }) => sum + data.byteLength, 0);
  }

  /** Free the memory; what is asked for again is computed again. */
  forget() { for (const states of this.known.values()) states.clear(); }
}

/** In which of S slices a part reads something else than before. */
function changedSlices(part, before, now, S) {
  const changed = new Set();
  for (const name of part.inputs) {
    const [{ data: old }, { data }] = [before[name], now[name]], each = data.length / S;
    const inSlices = part.slices[name] !== undefined;
    if (!inSlices && !isSame(data, old, 0, data.length)) return [...Array(S).keys()];
    for (let s = 0; s < S && inSlices; s++)
      if (!changed.has(s) && !isSame(data, old, s * each, (s + 1) * each)) changed.add(s);
  }
  return [...changed].sort((a, b) => a - b);
}
