// What the explorer shows of a scan and of an answer of the network: the same description and arrays that
// pack.py packs in Python (the head of data.js lists them).

const MAP_PIXELS = 64;       // longest side of the feature maps that are kept
const MAP_VALUES = 1000000;  // how many values of the feature maps of one CSAM are kept
const MOST_WORDS = 8000000;  // voxels up to which intensities keep 16 bits; above, 8 bits keep the tab small

// names of arrays, as pack.py gives them
const keyOf = (csam, gate, window) => `${csam}/${gate}/${window}`;
const mapKey = (csam, part) => `${csam}/maps/${part}`;

/** What is known of a gate: of each part its name in a description, in the arrays, among the outputs. */
const partsOf = ({ name, output, normal }) => [["values", name, output],
  ...Object.entries(normal).map(([part, drawn]) => [part, `${name}_${part}`, drawn])];

/** {description, arrays} of a scan, its grid, and the network's first answer, with features. */
export function describe(scan, grid, answer, mask, facts, colours, title) {
  const { S, H, W } = scan, arrays = { ...answerArrays(answer, mask, scan, facts) };
  const stored = scan.channels.map((values) => store(values, scan.channels.length));
  const kind = stored[0].numbers.constructor, image = new kind(scan.channels.length * S * H * W);
  stored.forEach(({ numbers }, c) => image.set(numbers, c * S * H * W));
  arrays.image = { data: image, shape: [scan.channels.length, S, H, W] };
  const maps = featureArrays(answer.windows, facts, S);
  Object.assign(arrays, maps.arrays);
  const levels = facts.features.map(({ csam }, i) => {
    const gates = facts.gates.filter((gate) => gate.csam === csam).map((gate) => ({
      name: gate.name, axes: gate.axes, arrays: Object.fromEntries(partsOf(gate).map(([part, name]) =>
        [part, answer.windows.map((_, i) => keyOf(csam, name, i))])) }));
    const parts = ["values", "low", "high"].map((part) => [part, mapKey(csam, part)]);
    return { name: csam, size: maps.sizes[i], gates, maps: Object.fromEntries(parts) };
  });
  const description = {
    title, spacing: scan.spacing, unit: "mm", directions: scan.directions, field: grid.field,
    channels: stored.map(({ numbers, ...channel }, c) => ({ name: facts.channels[c], ...channel })),
    classes: Object.values(facts.labels).map((name, k) => ({ name, colour: colours[k % colours.length] })),
    windows: answer.windows.map(({ start, stop }) => [start, stop]), levels,
    draws: 0, uncertainty: null, dice: null, start: busiestSlice(mask, S, H * W),
  };
  return { description, arrays };
}

/** The arrays that change with an intervention: the mask and every gate of every window. */
export function answerArrays({ windows }, mask, { S, H, W }, { gates }) {
  const arrays = { prediction: { data: mask, shape: [S, H, W] } };
  windows.forEach(({ outputs }, i) => {
    for (const gate of gates)
      for (const [, name, output] of partsOf(gate)) arrays[keyOf(gate.csam, name, i)] = outputs[output];
  });
  return arrays;
}

/**
 * Intensities as whole numbers, and how to read them: offset + factor * number; from `dark` to `bright` at
 * first.
 */
function store(values, channels) {
  const kind = values.length * channels <= MOST_WORDS ? Uint16Array : Uint8Array;
  const most = kind === Uint16Array ? 65535 : 255;
  let low = Infinity, high = -Infinity, whole = true;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
    whole &&= value === Math.round(value);
  }
  const factor = whole && high - low <= most ? 1 : (high - low) / most || 1;
  const numbers = new kind(values.length), counts = new Uint32Array(most + 1);
  for (let i = 0; i < values.length; i++) counts[numbers[i] = Math.round((values[i] - low) / factor)]++;
  const [dark, bright] = [0.005, 0.995].map((q) => low + factor * quantileOf(counts, values.length, q));
  return { numbers, factor, offset: low, dark, bright: bright > dark ? bright : Math.max(high, dark + 1) };
}

/** The share q of `count` numbers of which counts[n] are n, between two of them in proportion. */
function quantileOf(counts, count, q) {
  const place = q * (count - 1), at = [Math.floor(place), Math.ceil(place)].map((rank) => {
    let n = 0, before = counts[0];
    while (before <= rank) before += counts[++n];
    return n;
  });
  return at[0] + (place - Math.floor(place)) * (at[1] - at[0]);
}

/** The slice with most foreground; the middle one where there is none. */
function busiestSlice(mask, S, size) {
  const areas = new Float64Array(S);
  mask.forEach((k, i) => { if (k) areas[Math.floor(i / size)]++; });
  const most = Math.max(...areas);
  return most ? areas.indexOf(most) : Math.floor(S / 2);
}

/** The arrays of what every CSAM reads in a volume of S slices, made smaller, and the sizes [H, W] before. */
export function featureArrays(windows, { features }, S) {
  const arrays = {}, sizes = [];
  for (const { csam, output } of features) {
    const { size, ...maps } = featureMaps(windows, output, S);
    for (const [part, array] of Object.entries(maps)) arrays[mapKey(csam, part)] = array;
    sizes.push(size);
  }
  return { arrays, sizes };
}

/**
 * What a CSAM reads, made smaller and 0..255 for each channel: values (S, C, h, w), low and high (C,), size
 * [H, W].
 */
function featureMaps(windows, output, S) {
  const [, C, H, W] = windows[0].outputs[output].shape;
  let [h, w] = [H, W].map((n) => Math.min(n, MAP_PIXELS)), values = new Float32Array(S * C * h * w);
  for (const { start, outputs } of windows)
    values.set(pooled(outputs[output].data, H, W, h, w), start * C * h * w);
  if (values.length > MAP_VALUES) {
    const [half, narrow] = [h, w].map((n) => Math.max(Math.floor(n / 2), 1));
    if (values.length <= 4 * MAP_VALUES) [values, h, w] = [pooled(values, h, w, half, narrow), half, narrow];
    else [values, S] = [meanOfSlices(values, S), 1];
  }
  const size = h * w, low = new Float32Array(C).fill(Infinity), high = new Float32Array(C).fill(-Infinity);
  const bytes = new Uint8Array(values.length), each = (visit) => {
    for (let map = 0; map < S * C; map++) visit(map * size, (map + 1) * size, map % C);
  };
  each((start, stop, c) => {
    for (let i = start; i < stop; i++) {
      if (values[i] < low[c]) low[c] = values[i];
      if (values[i] > high[c]) high[c] = values[i];
    }
  });
  each((start, stop, c) => {
    const factor = 255 / Math.max(high[c] - low[c], 1e-12);
    for (let i = start; i < stop; i++) bytes[i] = Math.round((values[i] - low[c]) * factor);
  });
  return { size: [H, W], values: { data: bytes, shape: [S, C, h, w] }, low: { data: low, shape: [C] },
    high: { data: high, shape: [C] } };
}

/** Maps of H x W as maps of h x w: each new pixel is the mean of the old ones that it touches. */
function pooled(values, H, W, h, w) {
  if (h === H && w === W) return values;
  const reach = (n, m) => Array.from({ length: m }, (_, i) =>
    [Math.floor((i * n) / m), Math.ceil(((i + 1) * n) / m)]);
  const down = reach(H, h), across = reach(W, w), count = values.length / (H * W);
  const out = new Float32Array(count * h * w);
  for (let n = 0, at = 0; n < count; n++)
    for (const [y0, y1] of down)
      for (const [x0, x1] of across) {
        let sum = 0;
        for (let y = y0; y < y1; y++) for (let x = x0; x < x1; x++) sum += values[(n * H + y) * W + x];
        out[at++] = sum / ((y1 - y0) * (x1 - x0));
      }
  return out;
}

function meanOfSlices(values, S) {
  const size = values.length / S, out = new Float32Array(size);
  for (let i = 0; i < values.length; i++) out[i % size] += values[i] / S;
  return out;
}
