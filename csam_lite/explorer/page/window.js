// A window of slices in the network: what is given to it, and what its parts have computed (parts.py).

export class Window {
  /** network: see Network. x: the slices start to stop - 1 of a volume, (S, C, H, W) float32. */
  constructor({ ort, parts, facts }, x, start, stop) {
    Object.assign(this, { ort, parts, facts, start, stop });
    const { input, gates } = facts;
    this.given = { [input.name]: new ort.Tensor("float32", x, [1, stop - start, ...input.shape.slice(2)]) };
    this.keys = {}; // of each gate: what replaces it, as a text
    this.known = new Map(); // part -> key of the gates on which it depends -> {name: tensor}
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
      const has = this.knownOf(part);
      Object.assign(found, has);
      if (!part.outputs.some((name) => wanted.has(name) && !has[name])) continue;
      due.unshift(part);
      part.inputs.forEach((name) => wanted.add(name));
    }
    const large = new Set(this.facts.features.map(({ output }) => output)); // only a first answer tells them
    for (const part of due) {
      const has = this.knownOf(part), feeds = Object.fromEntries(part.inputs.map((name) => [name, found[name]]));
      const outputs = part.outputs.filter((name) => !has[name] && (!large.has(name) || wanted.has(name)));
      Object.assign(found, await part.session.run(feeds, outputs));
      for (const name of outputs) if (!large.has(name)) has[name] = found[name];
    }
    return Object.fromEntries(names.map((name) => [name, found[name]]));
  }

  /** The gates on which a part depends, as they are, as a text. */
  keyOf({ csams }) {
    const concerned = this.facts.gates.filter(({ csam }) => csams.includes(csam));
    return concerned.map(({ output }) => this.keys[output]).join("|");
  }

  /**
   * What is known of a part for the gates as they are, to be filled. It is also kept for all gates as computed, to
   * which a reader goes back, and for no others.
   */
  knownOf(part) {
    const { known, asComputed } = this, key = this.keyOf(part);
    if (!known.has(part)) known.set(part, new Map());
    const states = known.get(part);
    for (const other of states.keys()) if (other !== key && other !== asComputed.get(part)) states.delete(other);
    if (!states.has(key)) states.set(key, {});
    return states.get(key);
  }

  /** Of what is known. */
  get bytes() {
    const states = [...this.known.values()].flatMap((part) => [...part.values()]);
    const tensors = states.flatMap((state) => Object.values(state));
    return tensors.reduce((sum, { data }) => sum + data.byteLength, 0);
  }

  /** Free the memory; what is asked for again is computed again. */
  forget() { this.known.clear(); }
}
