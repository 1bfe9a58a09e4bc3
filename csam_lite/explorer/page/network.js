// The network in the page: an ONNX file of csam_lite/inference/export.py, run over a whole volume as
// csam_lite/core/windows.py does in Python. S slices, C channels, K classes, D slices at once at most.

import { draw } from "./draws.js";
import { round } from "./grid.js";
import { InputError } from "./nifti.js";
import { Window } from "./window.js";

const KEPT = 150e6; // bytes of tensors that are kept for the next answer

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
  /**
   * ort: the module onnxruntime-web. parts: of the network (network_parts.py), each {session, inputs,
   * outputs, gates, slices}. facts: the description beside the ONNX file.
   */
  constructor(ort, parts, facts) {
    Object.assign(this, { ort, parts, facts, x: null, seen: [] });
  }

  /**
   * The answer for a volume x (S, C, H, W) float32: probabilities (S, K, H, W) float32, and of each window
   * [start, stop) an object of its gates, and of its features where they are wanted, by their names in
   * `facts`. As long as x is the same array, only those parts of the network run that a change concerns.
   *
   * changes: name of the CSAM -> name of the gate -> "one", "zero", "mean", or a list in the gate's own
   * shape with null where the gate stays; a list for an axis S spans the whole volume. progress(done,
   * count): after each window. normal: gives standard normal numbers, with which the gates are drawn that
   * training draws; without it they are their means.
   */
  async answer(x, S, changes = {}, { features = false, progress = () => {}, normal = null } = {}) {
    const { facts } = this, windows = this.windowsOf(x, S), size = x.length / S / facts.input.shape[2];
    const each = size * facts.output.shape[1], several = windows.length > 1, answers = [];
    const total = several ? new Float32Array(S * each) : null, weight = new Float32Array(S);
    let probabilities = total;
    for (const window of windows) {
      const { start, stop } = window, outputs = await this.outputs(window, changes, features, normal);
      const { data } = outputs[facts.output.name];
      if (!several) probabilities = data;
      else nearMiddle(stop - start).forEach((count, s) => {
        weight[start + s] += count;
        for (let i = 0, at = (start + s) * each, from = s * each; i < each; i++)
          total[at + i] += count * data[from + i];
      });
      delete outputs[facts.output.name];
      answers.push({ start, stop, outputs });
      progress(answers.length, windows.length);
      if (this.seen.reduce((sum, { bytes }) => sum + bytes, 0) > KEPT) window.forget();
    }
    if (several) for (let i = 0; i < total.length; i++) total[i] /= weight[Math.floor(i / each)];
    return { probabilities, windows: answers };
  }

  /** The windows of a volume; those of the last volume, with what they know, where it is the same. */
  windowsOf(x, S) {
    if (this.x === x) return this.seen;
    const each = x.length / S;
    this.x = x;
    this.seen = windowsOf(S, this.facts.slices.most).map(([start, stop]) =>
      new Window(this, x.subarray(start * each, stop * each), start, stop));
    return this.seen;
  }

  /**
   * {name: {data, shape}} of a window. The mean of a gate is that of the gate as the network computes it
   * under all changes before it, so that each "mean" needs a run of its own.
   */
  async outputs(window, changes, features, normal) {
    const { gates, output, features: read } = this.facts, waiting = [];
    for (const gate of gates) {
      const change = changes[gate.csam]?.[gate.name] ?? null;
      if (change === "mean") waiting.push(gate);
      window.replace(gate, change === "mean" ? null : { one: 1, zero: 0 }[change] ?? change);
    }
    for (const gate of waiting) { // in the order in which they act
      const { data } = (await window.tensors([gate.output]))[gate.output];
      window.replace(gate, data.reduce((sum, value) => sum + value, 0) / data.length);
    }
    for (const gate of normal ? gates.filter(({ normal: { mean } }) => mean) : []) {
      const { mean, covariance } = gate.normal, tensors = await window.tensors([mean, covariance]);
      const scores = draw(tensors[mean].data, tensors[covariance].data, normal);
      const before = Array(window.start).fill(null); // a list spans the whole volume
      window.replace(gate, [...before, ...scores.map((score) => 1 / (1 + Math.exp(-score)))]);
    }
    const used = gates.flatMap((gate) => [gate.output, ...Object.values(gate.normal)]);
    const names = [output.name, ...used, ...(features ? read.map((feature) => feature.output) : [])];
    const tensors = await window.tensors(names), out = {};
    for (const name of names) out[name] = { data: tensors[name].data, shape: [...tensors[name].dims] };
    for (const name of used) out[name].data = out[name].data.slice(); // the window keeps its own
    const { data } = out[output.name];
    let sum = 0;
    for (let i = 0; i < data.length; i++) sum += data[i];
    if (Number.isNaN(sum))
      throw new InputError("the network answers with NaN; train it again with a lower --learning-rate");
    return out;
  }
}
