// The explorer's plain functions, without a page: node --test tests/explorer.test.mjs (pytest runs it: test_explore.py).
import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

import { isDark } from "../csam_lite/explorer/page/canvas.js";
import {
  barAt, changedVoxels, diceOf, greys, mapOf, opposite, outlines, plain, plane, roundLength, shade, sigmoid, sorted, tableOf, unpack, wheelSteps, windowOf, zoomAbout,
} from "../csam_lite/explorer/page/data.js";

import { gatesOf, valuesOf } from "../csam_lite/explorer/page/other.js";
import { State } from "../csam_lite/explorer/page/state.js";

/** Area of closed outlines by the shoelace formula; positive where the inside is on the left of the line. */
const area = (lines) => lines.reduce((sum, line) => {
  let twice = 0;
  for (let i = 0; i < line.length; i += 2) {
    const [x, y, u, v] = [line[i], line[i + 1], line[(i + 2) % line.length], line[(i + 3) % line.length]];
    twice += x * v - u * y;
  }
  return sum - twice / 2; // y runs down
}, 0);

test("a packed file is read back", async () => {
  const head = new TextEncoder().encode(JSON.stringify({ description: { title: "x" }, arrays: { a: ["uint16", [3], 0], b: ["float32", [1, 2], 8] } }).padEnd(124));
  const bytes = new Uint8Array(4 + head.length + 16);
  new DataView(bytes.buffer).setUint32(0, head.length, true);
  bytes.set(head, 4);
  const byByte = (typed) => { // the first bytes of all numbers, then the second ones, and so on
    const width = typed.BYTES_PER_ELEMENT, plain = new Uint8Array(typed.buffer);
    return Array.from({ length: plain.length }, (_, i) => plain[(i % typed.length) * width + Math.floor(i / typed.length)]);
  };
  bytes.set(byByte(new Uint16Array([1, 2, 65535])), 128);
  bytes.set(byByte(new Float32Array([0.5, -2])), 136);
  const { description, arrays } = await unpack(gzipSync(bytes));
  assert.equal(description.title, "x");
  assert.deepEqual([...arrays.a.data], [1, 2, 65535]);
  assert.deepEqual([[...arrays.b.data], arrays.b.shape], [[0.5, -2], [1, 2]]);
  await assert.rejects(unpack(new Uint8Array([1, 2, 3])));
});

test("contrast: black below, white above, half-way grey in the middle", () => {
  const table = greys(256, 1, 0, 100, 150); // 100 .. 200
  assert.deepEqual([table[0], table[100], table[150], table[200], table[255]], [0, 0, 128, 255, 255]);
  assert.equal(greys(4, 0.5, -1, 1, 0)[2], 128); // number 2 is the intensity 0
});

test("rows of a colour table, as matplotlib chooses them", () => {
  assert.deepEqual([0, 0.5, 0.999, 1, 2, -1].map((v) => shade(v, 0, 1)), [0, 128, 255, 255, 255, 0]);
  assert.equal(shade(3, 3, 3), 0);
});

test("outlines run half-way between inside and outside and enclose what they should", () => {
  const one = outlines([0, 0, 0, 0, 1, 0, 0, 0, 0], 3, 3, 1);
  assert.equal(one.length, 1);
  assert.deepEqual(new Set(one[0].reduce((points, v, i, all) => (i % 2 ? points : [...points, `${v},${all[i + 1]}`]), [])),
    new Set(["1.5,1", "2,1.5", "1.5,2", "1,1.5"]));
  assert.equal(area(one), 0.5); // a pixel of 1, its corners cut
  const full = outlines(Array(12).fill(2), 4, 3, 2); // at the rim of the image they close too
  assert.equal(full.length, 1);
  assert.equal(area(full), 12 - 0.5);
  const ring = outlines([1, 1, 1, 1, 0, 1, 1, 1, 1], 3, 3, 1);
  assert.equal(ring.length, 2);
  assert.equal(area(ring), 9 - 0.5 - 0.5); // the hole is cut too
  assert.equal(outlines([1, 0, 0, 1], 2, 2, 1).length, 2); // two pixels at a corner stay two
  assert.deepEqual(outlines([1, 1], 2, 1, 3), []);
  assert.deepEqual(outlines([1, 0, 1, 0, 1], 5, 1, 1, 11), []); // three pixels have twelve points: too many
});

test("random masks: every outline is closed and the area is that of the pixels, up to cut corners", () => {
  let seed = 1;
  const random = () => ((seed = (seed * 48271) % 2147483647) / 2147483647);
  for (let turn = 0; turn < 20; turn++) {
    const [W, H] = [7 + turn, 5 + turn], mask = Array.from({ length: W * H }, () => (random() < 0.5 ? 1 : 0));
    for (const line of outlines(mask, W, H, 1))
      for (let i = 0; i < line.length; i += 2) {
        const [x, y] = [Math.abs(line[i] - line[(i + 2) % line.length]), Math.abs(line[i + 1] - line[(i + 3) % line.length])];
        assert.ok(x + y > 0.9 && (x === 0 || y === 0 || x === y), `from pixel to pixel, straight or slanting: ${x}, ${y}`);
      }
  }
});

test("planes of a volume, the last slice on top", () => {
  const data = Uint8Array.from({ length: 24 }, (_, i) => i); // S 2, H 3, W 4
  assert.deepEqual([...plane(data, [2, 3, 4], "slice", 1)], [12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23]);
  assert.deepEqual([...plane(data, [2, 3, 4], "coronal", 1)], [16, 17, 18, 19, 4, 5, 6, 7]);
  assert.deepEqual([...plane(data, [2, 3, 4], "sagittal", 2)], [14, 18, 22, 2, 6, 10]);
});

test("bars", () => {
  assert.deepEqual(sorted([0.1, 0.9, 0.5, 0.9]), [1, 3, 2, 0]);
  assert.deepEqual([9, 10, 19.9, 20, 59, 60].map((x) => barAt(x, 10, 60, 5)), [-1, 0, 0, 1, 4, -1]);
});

test("the window around a slice", () => {
  const windows = [[0, 6], [3, 9], [6, 12]];
  assert.deepEqual([0, 2, 4, 5, 7, 11].map((s) => windowOf(s, windows)), [0, 0, 0, 1, 1, 2]); // half-way the first
  assert.equal(windowOf(3, [[0, 8]]), 0);
});

test("wheel: a notch is one step, a touch pad sums up", () => {
  assert.deepEqual(wheelSteps(0, 120, 0), [1, 0]);
  assert.deepEqual(wheelSteps(0, -3, 1), [-1, 0]); // lines
  assert.deepEqual(wheelSteps(0, 20, 0), [0, 20]);
  assert.deepEqual(wheelSteps(40, 20, 0), [1, 0]);
});

test("numbers and letters", () => {
  assert.deepEqual([99, 101, 7, 0.3].map(roundLength), [50, 100, 5, 0.2]);
  assert.deepEqual([0, 0.12345, 1234.5, 12, 1e-5, NaN, -0.5].map(plain), ["0", "0.123", "1235", "12", "1.0e-5", "–", "-0.5"]);
  assert.equal([..."LRAPSI"].map(opposite).join(""), "RLPAIS");
  assert.equal(sigmoid(0), 0.5);
});

test("the theme: what the page says counts more than the system", () => {
  const page = (light, names, theme, system) => ({
    body: { dataset: { jpThemeLight: light }, classList: { contains: (name) => names.includes(name) } },
    documentElement: { getAttribute: () => theme }, defaultView: { matchMedia: () => ({ matches: system }) } });
  assert.equal(isDark(page("true", "", null, true)), false);
  assert.equal(isDark(page("false", "", null, false)), true);
  assert.equal(isDark(page(undefined, "vscode-dark", null, false)), true);
  assert.equal(isDark(page(undefined, "", "dark", false)), true);
  assert.equal(isDark(page(undefined, "", null, true)), true);
});

test("a gate over the image: of this slice, and the mean of the channels", () => {
  const data = Float32Array.from({ length: 24 }, (_, i) => i);
  assert.deepEqual([...mapOf({ data, shape: [4, 6] }, "HW", 1).data], [...data]);
  const ofSlice = mapOf({ data, shape: [2, 3, 4] }, "SHW", 1);
  assert.deepEqual([ofSlice.shape, [...ofSlice.data]], [[3, 4], [...data.slice(12)]]);
  assert.deepEqual([...mapOf({ data, shape: [3, 2, 4] }, "CHW", 1).data], [8, 9, 10, 11, 12, 13, 14, 15]);
  assert.deepEqual([...mapOf({ data, shape: [2, 3, 2, 2] }, "SCHW", 1).data], [16, 17, 18, 19]);
});

test("any other gate as a table of two of its axes", () => {
  const data = Float32Array.from({ length: 24 }, (_, i) => i);
  assert.deepEqual(tableOf({ data, shape: [24] }, "H", 0).shape, [1, 24]);
  assert.deepEqual(tableOf({ data: data.slice(0, 1), shape: [] }, "", 0).shape, [1, 1]);
  assert.deepEqual(tableOf({ data, shape: [4, 6] }, "SC", 0).shape, [4, 6]);
  const { axes, data: ofSlice, shape } = tableOf({ data, shape: [2, 3, 4] }, "SCH", 1);
  assert.deepEqual([axes, shape, [...ofSlice]], ["CH", [3, 4], [...data.slice(12)]]);
});

test("Dice, and how much of the mask has changed", () => {
  const mask = [0, 1, 1, 2, 2], reference = [1, 1, 1, 2, 0];
  assert.equal(diceOf(mask, reference, 1), 4 / 5);
  assert.equal(diceOf(mask, reference, 2), 2 / 3);
  assert.ok(Number.isNaN(diceOf(mask, reference, 3)));
  assert.deepEqual(changedVoxels(mask, reference), { changed: 2, mask: 4 });
});

test("zoom: the point stays where it is, and the view stays in the picture", () => {
  const whole = { scale: 1, left: 0, top: 0 }, seen = ({ scale, left, top }, [x, y]) => [(x - left) * scale, (y - top) * scale];
  const near = zoomAbout(whole, 4, [0.25, 0.5]);
  assert.deepEqual(near, { scale: 4, left: 0.1875, top: 0.375 });
  assert.deepEqual(seen(near, [0.25, 0.5]), [0.25, 0.5]);
  const further = zoomAbout(near, 8, [0.5, 0.75]); // the middle of what is seen is 0.3125 of the picture
  assert.deepEqual(seen(further, [0.3125, 0.5625]), [0.5, 0.75]);
  assert.deepEqual(zoomAbout(near, 1, [1, 1]), whole);
  assert.deepEqual(zoomAbout({ scale: 2, left: -3, top: 7 }, 2, [0, 0]), { scale: 2, left: 0, top: 0.5 });
});

test("what takes long to draw is drawn over several frames, each thing once", () => {
  const { performance: clock } = globalThis, frames = [], drawn = [];
  let now = 0;
  globalThis.requestAnimationFrame = (frame) => frames.push(frame);
  Object.defineProperty(globalThis, "performance", { value: { now: () => now }, configurable: true, writable: true });
  const state = Object.assign(Object.create(State.prototype), { pending: new Set(), isDue: false });
  const draws = ["a", "b", "c", "d"].map((name) => () => { drawn.push(name); now += 8; if (name === "c") state.soon(draws[0]); });
  for (const draw of [...draws, ...draws]) state.soon(draw);
  const told = [];
  while (frames.length) {
    assert.equal(frames.length, 1);
    frames.shift()();
    told.push(drawn.splice(0).join(""));
  }
  assert.deepEqual(told, ["ab", "cd", "a"]);
  for (const draw of draws) state.soon(draw);
  state.drawPending(); // at once
  assert.deepEqual([drawn.join(""), state.pending.size], ["abcda", 0]);
  globalThis.performance = clock;
});

test("gates of another scan go to the slices in the same places of the network's stack", () => {
  const gate = (name, axes) => ({ name, axes, arrays: { values: [name] } }), gates = [gate("slice", "S"), gate("semantic", "C"), gate("both", "SC")];
  const array = (...data) => ({ data: Float32Array.from(data) });
  const state = { S: 3, windows: [[0, 3]], levels: [{ name: "a", gates }], description: { title: "b" },
    trained: { slice: array(1, 2, 3), semantic: array(4, 5), both: array(1, 2, 3, 4, 5, 6) } };
  const other = gatesOf(state, 8), values = (i, S) => valuesOf(other, "a", gates[i], S); // in the places 2 to 4 of 0 to 7
  assert.deepEqual(values(0, 3), [1, 2, 3]);
  assert.deepEqual(values(0, 8), [null, null, 1, 2, 3, null, null, null]);
  assert.deepEqual(values(0, 1), [2]); // in place 3
  assert.deepEqual(values(0, 4), [1, 2, 3, null]);
  assert.deepEqual(values(1, 8), [4, 5]);
  assert.deepEqual(values(2, 5), [null, null, 1, 2, 3, 4, 5, 6, null, null]);
  assert.equal(gatesOf({ ...state, windows: [[0, 8], [4, 12]] }, 8), null);
});
