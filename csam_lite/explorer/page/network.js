// The network in the page: an ONNX file of csam_lite/inference/export.py, run over a whole volume as
// csam_lite/core/windows.py does in Python. S slices, C channels, K classes, D slices at once at most.

import { round } from "./grid.js";
import { InputError } from "./nifti.js";

/** The windows [start, stop) that cover S slices, at most D at once; they overlap by half or more. */
export function windowsOf(S, D) {
  if (S <= D) return [[0, S]];
  const last = S - D, count = 1 + Math.ceil(last / Math.max(Math.floor(D / 2), 1));
  return Array.from({ length: count }, (_, i) => {
    // torch's linspace counts the second half from the end
    const step = last / (count - 1), early = i < Math.floor(count / 2);
    const start = round(early ? i * step : last - (count - 1 - i) * step);
    return [start, start + D];
  });
}

/** How much each slice of a window of D counts where windows overlap: more near the middle. */
export const nearMiddle = (D) => Array.from({ length: D }, (_, i) => 1 + Math.min(i, D - 1 - i));

export class Network {
  /** ort: the module onnxruntime-web. session: of the ONNX file. facts: the description beside it. */
  constructor(ort, session, facts) {
    Object.assign(this, { ort, session, facts });
  }

  /**
   * The answer for a volume x (S, C, H, W) float32: probabilities (S, K, H, W) float32, and of each window
   * [start, stop) an object of its gates, and of its features where they are wanted, by their names in
   * `facts`.
   *
   * changes: name of the CSAM -> name of the gate -> "one", "zero", "mean", or a list in the gate's own
   * shape with null where the gate stays; a list for an axis S spans the whole volume. progress(done,
   * count): after each window.
   */
  async answer(x, S, changes = {}, { features = false, progress = () => {} } = {}) {
    const { facts } = this, [, , C, H, W] = facts.input.shape, K = facts.output.shape[1];
    const places = windowsOf(S, facts.slices.most), size = K * H * W, each = C * H * W;
    const total = new Float32Array(S * size), weight = new Float32Array(S), windows = [];
    for (const [start, stop] of places) {
      const part = x.subarray(start * each, stop * each);
      const outputs = await this.window(part, start, stop, changes, features);
      const counts = places.length > 1 ? nearMiddle(stop - start) : Array(stop - start).fill(1);
      const values = outputs[facts.output.name];
      counts.forEach((count, s) => {
        weight[start + s] += count;
        for (let i = 0, at = (start + s) * size, from = s * size; i < size; i++)
          total[at + i] += count * values.data[from + i];
      });
      delete outputs[facts.output.name];
      windows.push({ start, stop, outputs });
      progress(windows.length, places.length);
    }
    if (places.length > 1) for (let i = 0; i < total.length; i++) total[i] /= weight[Math.floor(i / size)];
    return { probabilities: total, windows };
  }

  /**
   * {name: {data, shape}} of the slices start to stop - 1. The mean of a gate is that of the gate as the
   * network computes it under all changes before it, so that each "mean" needs a pass of its own.
   */
  async window(x, start, stop, changes, features) {
    const { gates, output, features: read } = this.facts, feeds = this.neutral(x, stop - start), waiting = [];
    for (const gate of gates) {
      const change = changes[gate.csam]?.[gate.name] ?? null;
      if (change === "mean") waiting.push(gate);
      else if (change !== null) this.replace(feeds, gate, change, start, stop);
    }
    for (const gate of waiting) { // in the order in which they act
      const { data } = (await this.run(feeds, [gate.output]))[gate.output];
      const mean = data.reduce((sum, value) => sum + value, 0) / data.length;
      feeds[gate.factor].data.fill(0);
      feeds[gate.offset].data.fill(mean);
    }
    const normals = gates.flatMap(({ normal }) => Object.values(normal));
    const wanted = [output.name, ...gates.map((gate) => gate.output), ...normals];
    return this.run(feeds, features ? [...wanted, ...read.map(({ output: name }) => name)] : wanted);
  }

  /** The inputs with which every gate stays as it is. */
  neutral(x, S) {
    const { ort: { Tensor }, facts: { gates, input } } = this;
    const feeds = { [input.name]: new Tensor("float32", x, [1, S, ...input.shape.slice(2)]) };
    for (const gate of gates) {
      const shape = gate.shape.map((n) => (n === "S" ? S : n)), count = shape.reduce((a, b) => a * b, 1);
      feeds[gate.factor] = new Tensor("float32", new Float32Array(count).fill(1), shape);
      feeds[gate.offset] = new Tensor("float32", new Float32Array(count), shape);
    }
    return feeds;
  }

  replace(feeds, gate, change, start, stop) {
    const factor = feeds[gate.factor].data, offset = feeds[gate.offset].data;
    const values = gate.axes === "S" && Array.isArray(change) ? change.slice(start, stop) : change;
    for (let i = 0; i < factor.length; i++) {
      const value = Array.isArray(values) ? values[i] : { one: 1, zero: 0 }[values];
      if (value === null) continue;
      factor[i] = 0;
      offset[i] = value;
    }
  }

  async run(feeds, wanted) {
    const results = await this.session.run(feeds, wanted), out = {};
    for (const name of wanted) {
      out[name] = { data: results[name].data, shape: [...results[name].dims] };
      if (name === this.facts.output.name && results[name].data.some(Number.isNaN))
        throw new InputError("the network answers with NaN; train it again with a lower --learning-rate");
    }
    return out;
  }
}
