// The worker: reads a scan, runs the network and writes the mask, so that the page never waits. Messages
// come as {id, kind, ...} and are answered by {id, result} or {id, error}; between them {id, progress: a
// line}.
//
// The page puts onnxruntime-web before this script, as `ort` (csam_lite/explorer/runtime.py).

import { answerArrays, describe, featureArrays } from "./describe.js";
import { normalNumbers, Spread } from "./draws.js";
import { Grid } from "./grid.js";
import { Network } from "./network.js";
import { InputError, readNifti } from "./nifti.js";
import { edgeRemarks, geometryRemarks } from "./remarks.js";
import { Scan } from "./scan.js";

let network = null;   // a promise of the Network
let file = null;      // {header, voxels} of the last scan that was read
// {scan, grid, x, last: {probabilities, mask}, draws: {spread, normal}}: of the volume whose mask is seen
let shown = null;

const jobs = {
  /**
   * Bring up the network. wasm, onnx: gzip files in base64, the second of all parts one after the other.
   * facts: the description of the network.
   */
  start({ wasm, onnx, facts }) {
    network = (async () => {
      ort.env.logLevel = "error";
      ort.env.wasm.numThreads = 1; // threads need headers that a page from disk cannot have
      ort.env.wasm.wasmBinary = (await unpacked(wasm)).buffer;
      return new Network(ort, await sessionsOf(await unpacked(onnx), facts), facts);
    })();
    return network.then(() => null);
  },

  /**
   * Take a volume as Python prepared it: x (S, C, h, w), which the network reads, [S, H, W] of the image, and
   * the place of x in it (`field` of the description). Gives the feature maps, which a page need not hold.
   */
  async take({ x, field, volume: [S, H, W] }) {
    const { facts, answer } = await runner(), size = facts.input.shape.slice(3);
    shown = { scan: { S, H, W }, grid: Grid.ofField(field, size, [H, W]), x };
    const { windows } = await answer(x, S, {}, { features: true });
    return { arrays: featureArrays(windows, facts, S).arrays };
  },

  /** Read a file: the number of its {channels}. */
  async read({ file: given }) {
    file = null;
    file = await readNifti(given);
    return { channels: file.header.channels };
  },

  /** The mask of the file that was read: {description, arrays, remarks}. channels: which of the file. */
  async segment({ channels, colours }, progress) {
    const { header, voxels } = file, scan = new Scan(header, voxels, channels);
    progress("preparing the network");
    const { facts, answer } = await runner();
    const grid = Grid.ofScan(facts.pixels, facts.spacing, scan);
    const x = grid.image(scan.channels, scan.S);
    progress("the network looks at the scan");
    const tell = (done, count) => count > 1 && progress(`the network looks: window ${done} of ${count}`);
    const first = await answer(x, scan.S, {}, { features: true, progress: tell });
    const mask = grid.mask(first.probabilities, scan.S, facts.output.shape[1]);
    const shows = describe(scan, grid, first, mask, facts, colours, header.name);
    scan.channels = file = null; // the largest arrays, which are not needed from here on
    shown = { scan, grid, x, last: { probabilities: first.probabilities, mask: mask.slice() } };
    const edge = edgeRemarks(grid, mask, scan.S, facts);
    return { ...shows, remarks: [...scan.remarks, ...geometryRemarks(scan, facts), ...edge] };
  },

  /** What the network answers with these gates replaced (see `Network.answer`): {description, arrays}. */
  async ask({ gates }) {
    const { facts, answer } = await runner(), { scan, grid, x, last } = shown;
    const again = await answer(x, scan.S, gates);
    const mask = grid.mask(again.probabilities, scan.S, facts.output.shape[1], last);
    shown.last = { probabilities: again.probabilities, mask: mask.slice() }; // the page gets the other
    return { description: {}, arrays: answerArrays(again, mask, scan, facts) };
  },

  /**
   * Draw the gates once more that training draws, with all other gates as the network chooses them: after
   * `count` draws {description, arrays} of the uncertainty, as in Python, before null. One draw is one job, so
   * that a reader's questions come between them. isFirst: begin anew.
   */
  async draw({ isFirst, count }) {
    const { facts, answer } = await runner(), { scan, grid, x } = shown, K = facts.output.shape[1];
    const length = (x.length / facts.input.shape[2]) * K;
    if (isFirst) shown.draws = { normal: normalNumbers(), spread: new Spread(length) };
    if (!shown.draws) return null; // another scan has come meanwhile
    const { spread, normal } = shown.draws;
    spread.add((await answer(x, scan.S, {}, { normal })).probabilities);
    if (spread.count < count) return null;
    const deviations = grid.largest(spread.deviations, scan.S, K);
    const data = Uint8Array.from(deviations, (value) => Math.round(510 * value));
    const most = Math.max(deviations.reduce((a, b) => Math.max(a, b), 0), 1 / 510);
    shown.draws = null;
    return { description: { uncertainty: most, draws: count },
      arrays: { uncertainty: { data, shape: [scan.S, scan.H, scan.W] } } };
  },

  /** A mask (S, H, W) of classes as a NIfTI file in the label values of the training data: {bytes, name}. */
  async save({ mask }) {
    const { facts } = await network, values = [0, ...Object.keys(facts.labels).map(Number)];
    const plain = shown.scan.maskFile(mask.map((k) => values[k]));
    const stream = new Blob([plain]).stream().pipeThrough(new CompressionStream("gzip"));
    const name = shown.scan.header.name.replace(/\.nii(\.gz)?$/i, "");
    return { bytes: new Uint8Array(await new Response(stream).arrayBuffer()), name: `${name}_mask.nii.gz` };
  },

  /** Probabilities (S, K, h, w) of the last answer, for the tests. */
  async probabilities() { return { data: shown.last.probabilities }; },
};

/** The network's facts and its `answer`. */
async function runner() {
  const ready = await network;
  return { facts: ready.facts, answer: (...question) => ready.answer(...question) };
}

/** The parts of the network, each with its session. */
async function sessionsOf(bytes, facts) {
  const parts = [];
  let start = 0;
  for (const { onnx: length, ...part } of facts.parts) {
    const session = await ort.InferenceSession.create(bytes.subarray(start, start + length), {
      enableCpuMemArena: false }); // else each part would keep the memory of its largest step
    parts.push({ ...part, session });
    start += length;
  }
  return parts;
}

/** The bytes of a gzip file in base64. */
async function unpacked(text) {
  const letters = (c) => c.charCodeAt(0), { fromBase64 } = Uint8Array;
  const packed = fromBase64 ? Uint8Array.fromBase64(text) : Uint8Array.from(atob(text), letters);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

let turn = Promise.resolve(); // one job at a time

self.onmessage = ({ data: { id, kind, ...given } }) => {
  turn = turn.then(async () => {
    try {
      const progress = (line) => self.postMessage({ id, progress: line });
      const result = await jobs[kind](given, progress);
      const moved = new Set(Object.values(result?.arrays || {}).map(({ data }) => data.buffer)); // not copied
      self.postMessage({ id, result }, [...moved]);
    } catch (error) {
      const ours = error instanceof InputError;
      self.postMessage({ id, error: ours ? error.message : `unexpected: ${error?.message || error}` });
    }
  });
};
