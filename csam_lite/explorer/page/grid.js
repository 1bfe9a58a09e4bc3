// From a scan to the network's input and back: what csam_lite/data/grid.py does in Python, and `restore` of
// csam_lite/inference/predict.py. P x Q: rows and columns of the network's grid; K: classes with background.

import { InputError } from "./nifti.js";

const FAR = 64; // times the network's field: no scan is as wide

/**
 * How n samples become m: of each new one the first old one and the weights from there on (bilinear). With
 * `antialias` a new sample far wider than the old ones is their mean, as torch's `interpolate` makes it.
 */
export function weights(n, m, antialias = false) {
  const scale = n / m, support = antialias ? Math.max(1, scale) : 1;
  return Array.from({ length: m }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(Math.floor(centre - support + 0.5), 0);
    const stop = Math.min(Math.floor(centre + support + 0.5), n);
    const parts = [];
    for (let j = first; j < stop; j++) parts.push(Math.max(1 - Math.abs((j - centre + 0.5) / support), 0));
    const sum = parts.reduce((a, b) => a + b, 0);
    return { first, parts: parts.map((part) => part / sum) };
  });
}

/** A volume (S, H, W) in another in-plane size (S, h, w), antialiased. */
export function resize(values, [S, H, W], [h, w]) {
  const down = weights(H, h, true), across = weights(W, w, true);
  const narrow = new Float32Array(S * H * w), out = new Float32Array(S * h * w);
  for (let row = 0; row < S * H; row++)
    for (let x = 0; x < w; x++) {
      const { first, parts } = across[x];
      let sum = 0;
      for (let j = 0; j < parts.length; j++) sum += parts[j] * values[row * W + first + j];
      narrow[row * w + x] = sum;
    }
  for (let s = 0; s < S; s++)
    for (let y = 0; y < h; y++) {
      const { first, parts } = down[y];
      for (let x = 0; x < w; x++) {
        let sum = 0;
        for (let j = 0; j < parts.length; j++) sum += parts[j] * narrow[(s * H + first + j) * w + x];
        out[(s * h + y) * w + x] = sum;
      }
    }
  return out;
}

/** To the nearest whole number, a half to the even one, as Python rounds. */
export function round(value) {
  const low = Math.floor(value), rest = value - low;
  return rest > 0.5 || (rest === 0.5 && low % 2 !== 0) ? low + 1 : low;
}

/** The share q of sorted values, between two of them in proportion, as numpy's percentile. */
export function quantile(sorted, q) {
  const last = sorted.length - 1, place = q * last, i = Math.floor(place);
  const next = sorted[Math.min(i + 1, last)];
  return sorted[i] + (place - i) * (next - sorted[i]);
}

/** Whether two arrays hold the same from `start` to `stop` - 1. */
export function isSame(a, b, start, stop) {
  if (a === b) return true;
  for (let i = start; i < stop; i++) if (a[i] !== b[i]) return false;
  return true;
}

export class Grid {
  /** An image of H x W pixels, which are h x w in the network's grid, in its middle. */
  constructor([P, Q], [H, W], [h, w]) {
    Object.assign(this, { P, Q, H, W, h, w });
    [this.top, this.left] = [[P, h], [Q, w]].map(([n, m]) => Math.floor((n - m) / 2)); // negative: cropped
  }

  /** P pixels a side, `spacing` mm apart, for a scan of H x W pixels with [, row, column] distances in mm. */
  static ofScan(P, spacing, { H, W, spacing: [, high, wide], header }) {
    const lengths = [[H, high], [W, wide]].map(([n, mm]) => Math.max(1, round((n * mm) / spacing)));
    if (Math.max(...lengths) > FAR * P) {
      const four = (mm) => Number(mm.toPrecision(4));
      throw new InputError(`${header.name}: its pixels of ${four(high)} x ${four(wide)} mm would make `
        + `${lengths.join(" x ")} of the network's ${four(spacing)} mm; correct the voxel size in its header, or `
        + "give a scan that is more like those of the training");
    }
    return new Grid([P, P], [H, W], lengths);
  }

  /** The grid of P x Q pixels whose `field` this is in an image of H x W pixels. */
  static ofField([left, top, right, bottom], [P, Q], [H, W]) {
    return new Grid([P, Q], [H, W], [round((P * H) / (bottom - top)), round((Q * W) / (right - left))]);
  }

  /** [left, top, right, bottom] of the network's grid in pixels of the image. */
  get field() {
    const { P, Q, H, W, h, w, left, top } = this;
    return [(-left * W) / w, (-top * H) / h, ((Q - left) * W) / w, ((P - top) * H) / h];
  }

  /** Channels of (S, H, W) -> the network's input (S, C, P, Q), normalised. */
  image(channels, S) {
    const { P, Q, H, W, h, w, top, left } = this, C = channels.length, out = new Float32Array(S * C * P * Q);
    const [y0, y1] = [Math.max(top, 0), Math.min(top + h, P)];
    const [x0, x1] = [Math.max(left, 0), Math.min(left + w, Q)];
    channels.forEach((channel, c) => {
      const small = h === H && w === W ? channel : resize(channel, [S, H, W], [h, w]);
      const seen = new Float32Array(S * (y1 - y0) * (x1 - x0));
      let count = 0;
      for (let s = 0; s < S; s++)
        for (let y = y0; y < y1; y++) {
          const start = (s * h + y - top) * w + x0 - left;
          seen.set(small.subarray(start, start + x1 - x0), count);
          count += x1 - x0;
        }
      const sorted = seen.slice().sort();
      let low = quantile(sorted, 0.005), high = quantile(sorted, 0.995);
      if (low === high) [low, high] = [sorted[0], sorted.at(-1)]; // less than 1 % to see: nothing is clipped
      let sum = 0, squares = 0;
      for (let i = 0; i < count; i++) sum += seen[i] = Math.min(Math.max(seen[i], low), high);
      const mean = sum / count;
      for (let i = 0; i < count; i++) squares += (seen[i] - mean) ** 2;
      const deviation = high > low ? Math.sqrt(squares / (count - 1)) : 1;
      const outside = (low - mean) / deviation;
      for (let s = 0, i = 0; s < S; s++) {
        const start = (s * C + c) * P * Q;
        out.fill(outside, start, start + P * Q);
        for (let y = y0; y < y1; y++)
          for (let x = x0; x < x1; x++) out[start + y * Q + x] = (seen[i++] - mean) / deviation;
      }
    });
    return out;
  }

  /**
   * Probabilities (S, K, P, Q) -> the most probable class on the scan's own grid, (S, H, W) uint8.
   * last: {probabilities, mask} of an earlier answer; slices in which nothing has changed are taken from it.
   */
  mask(probabilities, S, K, last = null) {
    const { P, Q, H, W, h, w, top, left } = this, size = K * P * Q;
    const out = last ? last.mask.slice() : new Uint8Array(S * H * W);
    const down = weights(h, H).map((weight) => onGrid(weight, top, P));
    const across = weights(w, W).map((weight) => onGrid(weight, left, Q));
    const narrow = new Float32Array(K * P * W);
    for (let s = 0; s < S; s++) {
      if (last && isSame(probabilities, last.probabilities, s * size, (s + 1) * size)) continue;
      out.fill(0, s * H * W, (s + 1) * H * W);
      const [rows, columns] = notBackground(probabilities.subarray(s * size, (s + 1) * size), K, P, Q)
        .map((ends, i) => touching([down, across][i], ends));
      const wide = columns.length;
      for (let k = 0, at = 0; k < K; k++)
        for (let y = 0; y < P; y++) {
          const row = ((s * K + k) * P + y) * Q;
          for (const x of columns) {
            const { i, j, a, b } = across[x];
            narrow[at++] = a * probabilities[row + i] + b * probabilities[row + j];
          }
        }
      for (const y of rows) {
        const { i, j, a, b, inside } = down[y];
        for (let x = 0; x < wide; x++) {
          if (inside * across[columns[x]].inside < 0.5) continue; // beyond the grid: background, always
          let best = 0, highest = -1;
          for (let k = 0; k < K; k++) {
            const above = narrow[(k * P + i) * wide + x], below = narrow[(k * P + j) * wide + x];
            const value = Math.fround(a * above + b * below);
            if (value > highest) { highest = value; best = k; }
          }
          out[(s * H + y) * W + columns[x]] = best;
        }
      }
    }
    return out;
  }

  /** Whether a mask (S, H, W) ends where this grid ends, and the image goes on. */
  isReached(mask, S) {
    const { P, Q, H, W, h, w, top, left } = this, last = [];
    const down = weights(h, H).map((weight) => onGrid(weight, top, P).inside);
    const across = weights(w, W).map((weight) => onGrid(weight, left, Q).inside);
    const isBeyond = (y, x) => y >= 0 && y < H && x >= 0 && x < W && down[y] * across[x] < 0.5;
    for (let y = 0; y < H; y++)
      for (let x = 0; x < W; x++)
        if (isBeyond(y - 1, x) || isBeyond(y + 1, x) || isBeyond(y, x - 1) || isBeyond(y, x + 1)) last.push(y * W + x);
    for (let s = 0; s < S; s++) if (last.some((i) => mask[s * H * W + i])) return true;
    return false;
  }

  /**
   * Of values (S, K, P, Q) of classes, the largest of all classes on the scan's own grid, (S, H, W) float32;
   * 0 beyond the network's grid.
   */
  largest(values, S, K) {
    const { P, Q, H, W, h, w, top, left } = this, out = new Float32Array(S * H * W);
    const down = weights(h, H).map((weight) => onGrid(weight, top, P));
    const across = weights(w, W).map((weight) => onGrid(weight, left, Q));
    for (let plane = 0; plane < S * K; plane++) {
      const s = Math.floor(plane / K);
      down.forEach((y, row) => across.forEach((x, column) => {
        const inside = y.inside * x.inside;
        if (inside < 0.5) return;
        const value = (line, i) => values[(plane * P + line) * Q + i];
        const at = (line) => x.a * value(line, x.i) + x.b * value(line, x.j);
        const place = (s * H + row) * W + column, here = (y.a * at(y.i) + y.b * at(y.j)) / inside;
        if (here > out[place]) out[place] = here;
      }));
    }
    return out;
  }
}

/**
 * [first, last] row and column of K maps of P x Q that are not background for certain. What lies between two samples
 * in which it exceeds all others by far is background, too, however it is rounded.
 */
function notBackground(maps, K, P, Q) {
  const size = P * Q, rows = [P, -1], columns = [Q, -1];
  for (let y = 0, i = 0; y < P; y++)
    for (let x = 0; x < Q; x++, i++)
      for (let k = 1; k < K; k++) {
        if (maps[i] - maps[k * size + i] > 1e-4) continue;
        if (y < rows[0]) rows[0] = y;
        rows[1] = y;
        if (x < columns[0]) columns[0] = x;
        if (x > columns[1]) columns[1] = x;
      }
  return [rows, columns];
}

/** Which new samples have a share in the old ones from `first` to `last`. */
function touching(places, [first, last]) {
  const touches = ({ i, j, inside }) => inside > 0 && Math.max(i, j) >= first && Math.min(i, j) <= last;
  return places.flatMap((place, n) => (touches(place) ? [n] : []));
}

/**
 * The two samples of a weight that lie on a grid of n samples, which begins at -start: a * sample i + b *
 * sample j; `inside` is their share, 1 where both lie on the grid.
 */
function onGrid({ first, parts }, start, n) {
  const places = parts.map((_, part) => first + part + start);
  const on = places.map((place) => place >= 0 && place < n);
  const [a = 0, b = 0] = parts.map((part, k) => (on[k] ? part : 0));
  const [i = 0, j = 0] = places.map((place, k) => (on[k] ? place : 0));
  return { i, j, a, b, inside: a + b };
}
