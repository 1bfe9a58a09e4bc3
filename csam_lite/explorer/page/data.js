// The page's data and the arithmetic on it: plain functions that need no page (tests/explorer.test.mjs).
//
// A pack is one gzip file (`pack` in pack.py): a description and arrays. Of numbers of several bytes first come
// the first bytes of all, then the second ones, and so on, because so they compress better. S slices, C channels, H x W pixels.
//   image (C, S, H, W) whole numbers; label, prediction (S, H, W) classes
//   uncertainty (S, H, W), 255 is a standard deviation of 0.5
//   gates, feature maps: float32 and uint8, under the names that description.levels gives
//   gates of another scan, if there is one: float32, under the names that description.other gives
//   input (S, C, h, w) float32: what the network reads, in a page that holds the network
//   cividis, PuOr (256, 3): colour tables

/** The gzip file (Uint8Array) -> {description, arrays: {name: {data, shape}}}. */
export async function unpack(packed) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const buffer = await new Response(stream).arrayBuffer();
  const headBytes = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, headBytes)));
  const kinds = { uint8: Uint8Array, uint16: Uint16Array, float32: Float32Array };
  const arrays = {};
  for (const [name, [kind, shape, start]] of Object.entries(head.arrays)) {
    const count = shape.reduce((a, b) => a * b, 1), width = kinds[kind].BYTES_PER_ELEMENT;
    const stored = new Uint8Array(buffer, 4 + headBytes + start, count * width);
    if (width === 1) { arrays[name] = { data: stored, shape }; continue; }
    const data = new kinds[kind](count), bytes = new Uint8Array(data.buffer);
    for (let b = 0, from = 0; b < width; b++)
      for (let i = 0, at = b; i < count; i++, at += width) bytes[at] = stored[from++];
    arrays[name] = { data, shape };
  }
  return { description: head.description, arrays };
}

/** The bytes of a view or a buffer, as widgets receive them. */
export function bytesOfBuffer(view) {
  return new Uint8Array(view.buffer || view, view.byteOffset || 0, view.byteLength);
}

/** The bytes of what `atob` gives. */
export function bytesOfText(letters) {
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

/**
 * Grey 0..255 of each stored number of the intensity offset + factor * number.
 * From black to white the intensity grows by `width`, around `centre`.
 */
export function greys(count, factor, offset, width, centre) {
  const table = new Uint8Array(count);
  const slope = 255 / Math.max(width, 1e-9);
  const start = (offset - centre) * slope + 127.5;
  for (let i = 0; i < count; i++)
    table[i] = Math.min(Math.max(Math.round(start + i * factor * slope), 0), 255);
  return table;
}

/** The row 0..255 of a colour table for a value between low and high. */
export function shade(value, low, high) {
  return Math.min(Math.max(Math.floor(((value - low) / (high - low || 1)) * 256), 0), 255);
}

/**
 * One plane of a volume (S, H, W): "slice" (H, W), "coronal" (S, W) at row `index`, "sagittal" (S, H) at
 * column `index`. Cuts have the last slice on top.
 */
export function plane(data, [S, H, W], kind, index) {
  if (kind === "slice") return data.subarray(index * H * W, (index + 1) * H * W);
  const across = kind === "coronal" ? W : H;
  const out = new data.constructor(S * across);
  for (let s = 0; s < S; s++) {
    const row = (S - 1 - s) * across;
    for (let i = 0; i < across; i++)
      out[row + i] = data[s * H * W + (kind === "coronal" ? index * W + i : i * W + index)];
  }
  return out;
}

/**
 * Closed outlines of the pixels (W x H) of `mask` that equal k: lists [x, y, x, y, ...], half-way between
 * pixels inside and outside. None where they would have more than `most` points: speckle, as from an
 * untrained network, is slow to outline and tells nothing.
 */
export function outlines(mask, W, H, k, most = 4000) {
  const inside = (x, y) => x >= 0 && y >= 0 && x < W && y < H && mask[y * W + x] === k;
  let [first, last, leftmost, rightmost] = [H, -1, W, -1]; // rows and columns that hold k
  for (let y = 0, i = 0; y < H; y++) for (let x = 0; x < W; x++, i++) if (mask[i] === k) {
    if (y < first) first = y;
    last = y;
    if (x < leftmost) leftmost = x;
    if (x > rightmost) rightmost = x;
  }
  // Around each corner of pixels four pixels meet: a b above, d c below. For each of the 16 patterns, `ways`
  // has the sides by which an outline comes in and goes out, with the inside on its left.
  const T = 0, R = 1, B = 2, L = 3;
  const ways = [[], [B, L], [R, B], [R, L], [T, R], [T, R, B, L], [T, B], [T, L],
    [L, T], [B, T], [L, T, R, B], [R, T], [L, R], [B, R], [L, B], []];
  const wide = W + 2;
  const next = new Map();
  // The midpoint between two pixels has one number: 2 * (pixel left or above) for a horizontal pair, one more
  // for a vertical one.
  const point = (x, y, side) => {
    const from = (y + 1) * wide + x + 1;
    if (side === T || side === B) return 2 * (side === T ? from : from + wide);
    return 2 * (side === L ? from : from + 1) + 1;
  };
  for (let y = first - 1; y <= last; y++) {
    let code = 0; // a column further left holds none
    for (let x = leftmost - 1; x <= rightmost; x++) {
      code = (code & 9) | (inside(x + 1, y) ? 4 : 0) | (inside(x + 1, y + 1) ? 2 : 0);
      const way = ways[code];
      for (let i = 0; i < way.length; i += 2) next.set(point(x, y, way[i]), point(x, y, way[i + 1]));
      code = (code & 4 ? 8 : 0) | (code & 2 ? 1 : 0);
    }
    if (next.size > most) return [];
  }
  const lines = [];
  while (next.size) {
    const line = [];
    let at = next.keys().next().value;
    while (next.has(at)) {
      const to = next.get(at), vertical = at & 1, from = at >> 1;
      const x = (from % wide) - (vertical ? 0.5 : 0), y = Math.floor(from / wide) - (vertical ? 0 : 0.5);
      const [x1, y1, x2, y2] = line.slice(-4), n = line.length;
      const straight = n >= 4 && (x - x2) * (y2 - y1) === (y - y2) * (x2 - x1);
      if (straight) line.splice(n - 2, 2); // the point before lies between
      line.push(x, y);
      next.delete(at);
      at = to;
    }
    lines.push(line);
  }
  return lines;
}

/** Indices of `values`, the largest value first. */
export function sorted(values) {
  return Array.from(values, (_, i) => i).sort((a, b) => values[b] - values[a] || a - b);
}

/** Which of `count` equal bars between left and right holds x; -1 outside. */
export function barAt(x, left, right, count) {
  const i = Math.floor(((x - left) / (right - left)) * count);
  return i >= 0 && i < count ? i : -1;
}

/**
 * A view of a picture at another scale: left and top are its upper left corner, in parts of the picture. The
 * place [across, down], in parts of the box in which it is seen, stays where it is. The view never leaves
 * the picture.
 */
export function zoomAbout({ scale, left, top }, to, [across, down]) {
  const within = (start) => Math.min(Math.max(start, 0), 1 - 1 / to);
  const moved = (start, part) => within(start + part / scale - part / to);
  return { scale: to, left: moved(left, across), top: moved(top, down) };
}

/** A round length (1, 2 or 5 times a power of ten) of at most `most`. */
export function roundLength(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return [5, 2, 1].map((n) => n * power).find((n) => n <= most * (1 + 1e-9));
}

/** The window [start, stop) in which slice s lies nearest to the middle. */
export function windowOf(s, windows) {
  const off = windows.map(([start, stop]) => Math.abs(start + stop - 1 - 2 * s));
  return off.indexOf(Math.min(...off));
}

/**
 * Steps of a wheel: whole notches at once, small moves of a touch pad summed up. Returns [steps, what is left
 * over].
 */
export function wheelSteps(left, delta, mode) {
  const moved = delta * (mode === 1 ? 33 : mode === 2 ? 400 : 1);
  if (Math.abs(moved) >= 50) return [Math.sign(moved), 0];
  const sum = left + moved;
  return Math.abs(sum) >= 50 ? [Math.sign(sum), 0] : [0, sum];
}

/** Dice of class k of two masks; NaN where neither has the class. */
export function diceOf(mask, reference, k) {
  let both = 0, sum = 0;
  for (let i = 0; i < mask.length; i++) {
    const a = mask[i] === k, b = reference[i] === k;
    both += a && b;
    sum += a + b;
  }
  return (2 * both) / sum;
}

/** How many voxels have another class now, and how many the mask had before. */
export function changedVoxels(before, now) {
  let changed = 0, mask = 0;
  for (let i = 0; i < now.length; i++) {
    changed += now[i] !== before[i];
    mask += before[i] > 0;
  }
  return { changed, mask };
}

export const sigmoid = (z) => 1 / (1 + Math.exp(-z));

/** A number for a person: three figures. */
export function plain(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(1);
  return String(Number(value.toPrecision(size >= 100 ? Math.ceil(Math.log10(size + 1)) : 3)));
}

export const opposite = (letter) => ({ L: "R", R: "L", A: "P", P: "A", S: "I", I: "S" })[letter];

/** [smallest, largest]; a little apart where they are equal, so that a flat gate has a colour scale. */
export function limits(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) { if (value < low) low = value; if (value > high) high = value; }
  return high - low > 1e-6 ? [low, high] : [low - 0.05, high + 0.05];
}

/**
 * A gate over the image, (h, w), from an array with the axes H and W: of slice s, and the mean over channels.
 */
export function mapOf({ data, shape }, axes, s) {
  const [h, w] = shape.slice(-2), size = h * w, C = axes.includes("C") ? shape[shape.length - 3] : 1;
  const start = axes.includes("S") ? s * C * size : 0;
  if (C === 1) return { data: data.subarray(start, start + size), shape: [h, w] };
  const mean = new Float32Array(size);
  for (let i = 0; i < C * size; i++) mean[i % size] += data[start + i] / C;
  return { data: mean, shape: [h, w] };
}

/**
 * A gate as a table: at most two of its axes, down and across. The first of three is S, and slice s is taken.
 */
export function tableOf({ data, shape }, axes, s) {
  if (shape.length > 2) {
    const size = shape[1] * shape[2];
    return { data: data.subarray(s * size, (s + 1) * size), shape: shape.slice(1), axes: axes.slice(1) };
  }
  return { data, shape: [...Array(2 - shape.length).fill(1), ...shape], axes };
}

/** Let the browser do other things first, so that the page never stands still for long. */
export const pause = () => new Promise((go) => setTimeout(go));
