// Plain functions of the network in the page, without a page: node --test tests/page_network.test.mjs (pytest runs it: test_page_nifti.py).
import assert from "node:assert/strict";
import { test } from "node:test";

import { draw, normalNumbers, Spread } from "../csam_lite/explorer/page/draws.js";
import { Grid, quantile, resize, round, weights } from "../csam_lite/explorer/page/grid.js";
import { Network, nearMiddle, windowsOf } from "../csam_lite/explorer/page/network.js";

test("a half is rounded to the even number", () => {
  assert.deepEqual([0.5, 1.5, 2.5, 2.4999, 2.5001, 7].map(round), [0, 2, 2, 2, 3, 7]);
});

test("quantiles lie between two values in proportion", () => {
  assert.deepEqual([0, 0.25, 0.5, 0.9, 1].map((q) => quantile([1, 2, 3, 5, 9], q)).map((v) => Number(v.toFixed(9))), [1, 2, 3, 7.4, 9]);
});

test("weights sum to one, and a constant stays a constant at every size", () => {
  for (const [n, m] of [[5, 5], [5, 3], [3, 5], [96, 40], [40, 96], [1, 4], [7, 1]])
    for (const antialias of [true, false])
      for (const { first, parts } of weights(n, m, antialias)) {
        assert.ok(Math.abs(parts.reduce((a, b) => a + b) - 1) < 1e-12);
        assert.ok(first >= 0 && first + parts.length <= n);
        assert.ok(antialias || parts.length <= 2);
      }
  assert.ok(resize(new Float32Array(2 * 6 * 5).fill(3), [2, 6, 5], [4, 9]).every((value) => value === 3));
});

test("what lies beyond the network's grid is background", () => {
  const grid = Grid.ofScan(4, 1, { H: 8, W: 4, spacing: [3, 1, 1] }), probabilities = new Float32Array(2 * 16);
  probabilities.fill(1, 16); // class 1 everywhere on the grid, which covers the rows 2 to 5
  const mask = grid.mask(probabilities, 1, 2);
  assert.deepEqual(Array.from({ length: 8 }, (_, y) => mask[4 * y]), [0, 0, 1, 1, 1, 1, 0, 0]);
  assert.deepEqual(grid.field, [-0, 2, 4, 6]);
});

test("intensities of any unit, and on few pixels, are brought to a deviation of 1", () => {
  const grid = Grid.ofScan(40, 1, { H: 40, W: 40, spacing: [3, 1, 1] }), deviation = (x) => Math.hypot(...x) / Math.sqrt(x.length);
  for (const scale of [1e-12, 1, 1e20])
    for (const few of [3, 1600]) {
      const image = Float32Array.from({ length: 1600 }, (_, i) => (i < few ? scale * (1 + (i % 7)) : 0));
      assert.ok(Math.abs(deviation(grid.image([image], 1)) - 1) < 0.01);
    }
  const flat = grid.image([new Float32Array(1600).fill(0.1)], 1);
  assert.ok(flat.every((value) => Math.abs(value) < 1e-6));
});

test("a grid is found again from its field", () => {
  for (const [P, spacing, H, W, high, wide] of [[96, 0.9382, 320, 256, 0.5, 0.625], [96, 1, 40, 300, 0.7, 0.3], [5, 2, 3, 1, 1, 9]]) {
    const grid = Grid.ofScan(P, spacing, { H, W, spacing: [3, high, wide] });
    assert.deepEqual({ ...Grid.ofField(grid.field, [P, P], [H, W]) }, { ...grid });
  }
  const own = Grid.ofField([0, 0, 6, 4], [4, 6], [4, 6]), p = Float32Array.from({ length: 48 }, (_, i) => (i * 7) % 5); // a bare network
  assert.deepEqual([...own.mask(p, 1, 2)], Array.from({ length: 24 }, (_, i) => Number(p[i + 24] > p[i])));
});

test("windows overlap by half or more and reach both ends", () => {
  for (const D of [2, 5, 24]) for (let S = 1; S < 90; S++) {
    const windows = windowsOf(S, D);
    assert.equal(windows[0][0], 0);
    assert.equal(windows.at(-1)[1], S);
    windows.slice(1).forEach(([start], i) => assert.ok(start - windows[i][0] <= Math.max(Math.floor(D / 2), 1)));
  }
  assert.deepEqual(windowsOf(31, 24), [[0, 24], [7, 31]]);
  assert.deepEqual(nearMiddle(5), [1, 2, 3, 2, 1]);
});

/** A network of one gate, whose mean is its first slice's intensity; it answers the gate as it was used. */
const facts = {
  slices: { most: 4 }, input: { name: "x", shape: [1, "S", 1, 1, 1] }, output: { name: "p", shape: ["S", 2, 1, 1] }, features: [],
  gates: [{ csam: "a", name: "slice", axes: "S", shape: ["S"], output: "a/slice", factor: "f", offset: "o", normal: {} }] };
const ort = { Tensor: class { constructor(type, data, dims) { Object.assign(this, { type, data, dims }); } } };
const session = { async run({ x, f, o }, wanted) {
  const gate = x.data.map((value, s) => value * f.data[s] + o.data[s]), p = Float32Array.from({ length: 2 * gate.length }, (_, i) => gate[i >> 1]);
  const all = { p: { data: p, dims: [gate.length, 2, 1, 1] }, "a/slice": { data: gate, dims: [gate.length] } };
  return Object.fromEntries(wanted.map((name) => [name, all[name]]));
} };

const parts = [{ session, inputs: ["x", "f", "o"], outputs: ["p", "a/slice"], gates: ["a/slice"], slices: {} }];

test("gates are replaced in every window by what belongs to its slices", async () => {
  const network = new Network(ort, parts, facts), x = Float32Array.of(0.5, 0.25, 0.5, 0.75, 0.25, 0.5);
  const gates = async (change) => (await network.answer(x, 6, { a: { slice: change } })).windows.map(({ outputs }) => [...outputs["a/slice"].data]);
  assert.deepEqual(await gates(null), [[0.5, 0.25, 0.5, 0.75], [0.5, 0.75, 0.25, 0.5]]);
  assert.deepEqual(await gates([null, null, null, 0, null, 1]), [[0.5, 0.25, 0.5, 0], [0.5, 0, 0.25, 1]]);
  assert.deepEqual(await gates("one"), [[1, 1, 1, 1], [1, 1, 1, 1]]);
  assert.deepEqual(await gates("zero"), [[0, 0, 0, 0], [0, 0, 0, 0]]);
  assert.deepEqual(await gates("mean"), [[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]]);
  const { probabilities } = await network.answer(x, 6);
  assert.deepEqual([...probabilities].filter((_, i) => i % 2 === 0), [...x]);
});

test("an answer of NaN is said", async () => {
  await assert.rejects(new Network(ort, parts, facts).answer(Float32Array.of(NaN, 1), 2), /answers with NaN/);
});

/** Two gates, one behind the other, in three parts: what comes before both, the first, the second and the answer. */
function inParts(slices = {}) {
  const runs = [], tensor = (data, dims = [data.length]) => new ort.Tensor("float32", Float32Array.from(data), dims);
  const part = (name, gates, inputs, compute) => ({ gates, inputs, outputs: Object.keys(compute(...inputs.map(() => tensor([1])))),
    slices: slices[name] || {}, session: { async run(feeds, wanted) {
      assert.deepEqual(Object.keys(feeds), inputs);
      const all = compute(...inputs.map((input) => feeds[input]));
      runs.push(slices[name] ? `${name}${feeds[inputs[0]].data.length}` : name);
      return Object.fromEntries(wanted.map((output) => [output, all[output]]));
    } } });
  const gated = ({ data }, f, o) => data.map((value, i) => value * f.data[i % f.data.length] + o.data[i % o.data.length]);
  const gate = (csam) => ({ csam, name: "slice", axes: "S", shape: ["S"], output: `${csam}/slice`, factor: `${csam}/f`, offset: `${csam}/o`, normal: {} });
  return { runs, facts: { ...facts, gates: [gate("a"), gate("b")], features: [{ csam: "a", output: "a/features" }] }, parts: [
    part("before", [], ["x"], (x) => ({ before: tensor(x.data.map((value) => 2 * value)), "a/features": tensor(x.data) })),
    part("a", ["a/slice"], ["before", "a/f", "a/o"], (x, f, o) => ({ "a/slice": tensor(gated(x, f, o)) })),
    part("b", ["a/slice", "b/slice"], ["a/slice", "b/f", "b/o"], (x, f, o) => {
      const b = gated(x, f, o);
      return { "b/slice": tensor(b), p: tensor(Array.from({ length: 2 * b.length }, (_, i) => b[i >> 1]), [b.length, 2]) };
    })] };
}

const asker = (network, runs, x) => async (changes, options) => {
  runs.length = 0;
  const { probabilities, windows: [{ outputs }] } = await network.answer(x, x.length, changes, options);
  return [[...probabilities].filter((_, i) => i % 2), runs.join(), outputs];
};

test("only those parts run again that a change concerns", async () => {
  const { runs, parts, facts } = inParts(), network = new Network(ort, parts, facts);
  const answer = asker(network, runs, Float32Array.of(1, 2, 3)), told = async (...question) => (await answer(...question)).slice(0, 2);
  assert.deepEqual(await told({}, { features: true }), [[2, 4, 6], "before,a,b"]);
  assert.deepEqual(await told({ b: { slice: [null, 0, null] } }), [[2, 0, 6], "b"]);
  assert.deepEqual(await told({ b: { slice: [null, 0, null] } }), [[2, 0, 6], ""]);
  assert.deepEqual(await told({ a: { slice: "one" }, b: { slice: [null, 0, null] } }), [[1, 0, 1], "a,b"]);
  assert.deepEqual(await told({ a: { slice: "one" }, b: { slice: "mean" } }), [[1, 1, 1], "b,b"]);
  assert.deepEqual(await told({ a: { slice: "mean" } }), [[4, 4, 4], "a,b"]);
  assert.deepEqual(await told({ a: { slice: [null, null, null] } }), [[2, 4, 6], ""]); // gates as computed are kept
  const [, , outputs] = await answer({});
  outputs["a/slice"].data.fill(9); // as a page may: what the network keeps is its own
  assert.deepEqual([...(await answer({}))[2]["a/slice"].data], [2, 4, 6]);
  assert.equal((await told({}, { features: true }))[1], "before"); // features are computed again, because they are large
  runs.length = 0;
  const { probabilities } = await network.answer(Float32Array.of(4), 1); // another volume
  assert.deepEqual([[...probabilities], runs.join()], [[8, 8], "before,a,b"]);
});

test("of a part that treats each slice alone, only those slices run again that have changed", async () => {
  const slices = { a: { before: 0, "a/f": 0, "a/o": 0, "a/slice": 0 }, b: { "a/slice": 0, "b/f": 0, "b/o": 0, "b/slice": 0, p: 0 } };
  const { runs, parts, facts } = inParts(slices), answer = asker(new Network(ort, parts, facts), runs, Float32Array.of(1, 2, 3, 4));
  const told = async (...question) => (await answer(...question)).slice(0, 2);
  assert.deepEqual(await told({}), [[2, 4, 6, 8], "before,a4,b4"]);
  assert.deepEqual(await told({ a: { slice: [null, 0, null, null] } }), [[2, 0, 6, 8], "a1,b1"]);
  assert.deepEqual(await told({ a: { slice: [null, 5, null, 1] } }), [[2, 5, 6, 1], "a2,b2"]);
  assert.deepEqual(await told({ a: { slice: [null, 5, 7, 1] } }), [[2, 5, 7, 1], "a1,b1"]);
  assert.deepEqual(await told({ a: { slice: [null, 5, 7, 1] }, b: { slice: [3, null, null, null] } }), [[3, 5, 7, 1], "b1"]);
  assert.deepEqual(await told({ a: { slice: "one" } }), [[1, 1, 1, 1], "a4,b4"]); // nearly all: at once
  assert.deepEqual(await told({ a: { slice: [2, 4, 6, 8] } }), [[2, 4, 6, 8], "a4"]); // by hand as computed: nothing is new behind it
  assert.deepEqual(await told({ a: { slice: [2, 4, 6, 9] } }), [[2, 4, 6, 9], "a1,b1"]);
  slices.b["a/slice"] = undefined; // a part that reads something without slices
  assert.deepEqual(await told({ a: { slice: [2, 4, 6, 1] } }), [[2, 4, 6, 1], "a1,b4"]);
});

test("a mask is computed again in those slices that have changed", () => {
  const grid = Grid.ofScan(2, 1, { H: 2, W: 2, spacing: [3, 1, 1] }), first = Float32Array.from({ length: 24 }, (_, i) => (i * 7) % 5);
  const mask = grid.mask(first, 3, 2), second = first.slice();
  for (let i = 8; i < 16; i++) second[i] = 4 - second[i];
  const last = { probabilities: first, mask: mask.slice() };
  assert.deepEqual(grid.mask(second, 3, 2, last), grid.mask(second, 3, 2));
  assert.notDeepEqual(grid.mask(second, 3, 2), mask);
  last.mask.fill(7); // taken from the last answer, but where it has changed
  assert.deepEqual([...grid.mask(second, 3, 2, last)].filter((k) => k === 7).length, 8);
});

test("what is background for certain is not computed, and the mask is the same", () => {
  let seed = 1;
  const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
  for (let trial = 0; trial < 60; trial++) {
    const grid = Grid.ofScan(9, 1, { H: 5 + (trial % 20), W: 40 - trial / 2 | 0, spacing: [3, 0.3 + random(), 0.3 + random()] });
    const p = new Float32Array(2 * 3 * 81), [y, x, radius] = [9 * random(), 9 * random(), 4 * random()]; // also at the rim, or nowhere
    for (let s = 0; s < 2; s++) for (let i = 0; i < 81; i++) {
      const inside = Math.hypot(Math.floor(i / 9) - y, (i % 9) - x) < radius, organ = inside ? random() : 0.1 * random(), first = organ * random();
      [1 - organ, first, organ - first].forEach((value, k) => (p[(s * 3 + k) * 81 + i] = value));
    }
    // as powers of two the same numbers, but none exceeds another by far, so that all is computed
    assert.deepEqual(grid.mask(p, 2, 3), grid.mask(p.map((value) => value / 2 ** 20), 2, 3));
  }
});

test("where memory would be short, a window is computed again", async () => {
  const { runs, parts, facts } = inParts(), network = new Network(ort, parts, { ...facts, slices: { most: 2 } });
  const huge = { byteLength: 1e9 };
  const x = Float32Array.of(1, 2, 3), first = await network.answer(x, 3);
  assert.equal(network.seen.every(({ bytes }) => bytes > 0), true);
  network.seen[1].known.get(parts[0]).get("").outputs.huge = { data: huge };
  runs.length = 0;
  assert.deepEqual(await network.answer(x, 3), first);
  assert.deepEqual([runs.join(), network.seen.map(({ bytes }) => bytes > 0)], ["", [false, false]]);
  assert.deepEqual(await network.answer(x, 3), first);
  assert.equal(runs.join(), "before,a,b,before,a,b");
});

test("draws have the mean and the covariance that they should, and are the same each time", () => {
  const covariance = [4, 1, 0, 1, 2, 0, 0, 0, 0], normal = normalNumbers(), count = 20000, sums = new Float64Array(3), products = new Float64Array(9);
  for (let i = 0; i < count; i++) {
    const values = draw([1, -2, 3], covariance, normal);
    values.forEach((a, j) => { sums[j] += a / count; values.forEach((b, k) => (products[3 * j + k] += (a * b) / count)); });
  }
  [1, -2, 3].forEach((mean, j) => assert.ok(Math.abs(sums[j] - mean) < 0.06, `${sums}`));
  covariance.forEach((value, i) => assert.ok(Math.abs(products[i] - sums[Math.floor(i / 3)] * sums[i % 3] - value) < 0.12, `${products}`));
  const [one, two] = [normalNumbers(), normalNumbers()];
  for (let i = 0; i < 9; i++) assert.equal(one(), two());
  const spread = new Spread(2);
  for (const values of [[1, 5], [3, 5]]) spread.add(values);
  assert.deepEqual([...spread.deviations], [1, 0]);
});

test("the largest of the classes is restored as a mask is", () => {
  const grid = Grid.ofScan(4, 1, { H: 8, W: 6, spacing: [3, 1, 1] }), values = Float32Array.from({ length: 32 }, (_, i) => ((i * 7) % 5) / 5);
  const largest = grid.largest(values, 1, 2), at = (y, x) => largest[y * 6 + x];
  for (let y = 0; y < 8; y++) for (let x = 0; x < 6; x++) {
    const i = (y - 2) * 4 + x - 1, inside = y >= 2 && y < 6 && x >= 1 && x < 5;
    assert.equal(at(y, x), inside ? Math.max(values[i], values[16 + i]) : 0);
  }
  // where the grid ends inside of a pixel, the pixel has the value of its edge
  const fine = Grid.ofScan(4, 1.5, { H: 9, W: 12, spacing: [3, 1, 1] }).largest(new Float32Array(16).fill(0.25), 1, 1);
  assert.deepEqual(new Set(fine), new Set([0, 0.25]));
});
