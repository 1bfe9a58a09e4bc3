// Draws of the slice gates that training draws: how much would the probabilities differ from draw to draw? As
// `spread` in csam_lite/core/windows.py, with other random numbers.

/** Numbers of a standard normal distribution, the same ones at each start. */
export function normalNumbers(seed = 0) {
  let state = seed >>> 0;
  const uniform = () => { // mulberry32, of Tommy Ettinger
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}

/** A draw of n numbers with this mean (n,) and this covariance (n, n), through the Cholesky factor. */
export function draw(mean, covariance, normal) {
  const n = mean.length, factor = new Float64Array(n * n), noise = Array.from({ length: n }, normal);
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++) {
      let rest = covariance[i * n + j];
      for (let k = 0; k < j; k++) rest -= factor[i * n + k] * factor[j * n + k];
      // a variance that is 0 but for rounding has no deviation
      if (i === j) factor[i * n + i] = Math.sqrt(Math.max(rest, 0));
      else factor[i * n + j] = factor[j * n + j] > 1e-9 ? rest / factor[j * n + j] : 0;
    }
  return Array.from({ length: n }, (_, i) =>
    noise.slice(0, i + 1).reduce((sum, value, j) => sum + factor[i * n + j] * value, mean[i]));
}

/** The standard deviation of each of several numbers over what was added. */
export class Spread {
  constructor(length) {
    this.count = 0;
    [this.sums, this.squares] = [new Float64Array(length), new Float64Array(length)];
  }

  add(values) {
    this.count++;
    for (let i = 0; i < values.length; i++) {
      this.sums[i] += values[i];
      this.squares[i] += values[i] * values[i];
    }
  }

  get deviations() {
    const { count, sums, squares } = this;
    const variance = (sum, i) => squares[i] / count - (sum / count) ** 2;
    return Float32Array.from(sums, (sum, i) => Math.sqrt(Math.max(variance(sum, i), 0)));
  }
}
