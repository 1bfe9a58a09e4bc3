// From the voxels of a file to a volume with one order of axes, and back: what csam_lite/data/scan.py does
// in Python. S slices, H rows, W columns.

import { geometryOf, orientationOf } from "./geometry.js";
import { InputError, intensities, maskFile } from "./nifti.js";

// Where the axes S, H and W point, by the world axis nearest to the through-plane axis.
const DIRECTIONS = ["LIP", "AIL", "SPL"];
const MOST_INTENSITY = 1e30; // of an intensity, as in Python
const letterAxis = { L: [0, -1], R: [0, 1], P: [1, -1], A: [1, 1], I: [2, -1], S: [2, 1] };

export class Scan {
  /**
   * header, voxels: from `readNifti`. channels: which of the file, in the order in which the network takes
   * them. Raises InputError as `geometryOf` does, and for voxels that are no numbers or a constant channel.
   */
  constructor(header, voxels, channels) {
    this.header = header;
    const { affine, spacing, remarks } = geometryOf(header), orientation = orientationOf(affine);
    this.remarks = remarks;
    this.directions = DIRECTIONS[orientation[throughPlane(header, spacing, orientation)][0]];
    // of S, H and W: the axis of the file, and whether it is turned
    this.from = [...this.directions].map((letter) =>
      orientation.findIndex(([axis]) => axis === letterAxis[letter][0]));
    this.turned = this.from.map((axis, i) => orientation[axis][1] !== letterAxis[this.directions[i]][1]);
    [this.S, this.H, this.W] = this.from.map((axis) => header.shape[axis]);
    this.spacing = this.from.map((axis) => spacing[axis]);
    this.channels = channels.map((channel) => this.fromFileAxes(this.checked(voxels, channel)));
  }

  /** Intensities of a channel in the order of the file: finite, and not all the same. */
  checked(voxels, channel) {
    const { header } = this, { name } = header, values = intensities(header, voxels, channel);
    let bad = 0, least = Infinity, most = -Infinity;
    for (const value of values) {
      if (!(Math.abs(value) <= MOST_INTENSITY)) bad++; // NaN, too
      if (value < least) least = value;
      if (value > most) most = value;
    }
    if (bad)
      throw new InputError(`${name}: ${bad} voxels are NaN, infinite or beyond ${MOST_INTENSITY.toExponential()}; `
        + "export the scan again, or replace them by 0");
    if (least === most)
      throw new InputError(`${name}: ${header.channels > 1 ? `channel ${channel} ` : ""}is constant `
        + `(${least} everywhere) and shows nothing; export it again`);
    return values;
  }

  /** Voxels in the order of the file -> (S, H, W). */
  fromFileAxes(values) {
    const out = new values.constructor(values.length);
    this.walk((inFile, here) => (out[here] = values[inFile]));
    return out;
  }

  /** (S, H, W) -> voxels in the order of the file. */
  toFileAxes(values) {
    const out = new values.constructor(values.length);
    this.walk((inFile, here) => (out[inFile] = values[here]));
    return out;
  }

  /** Call visit(place in the file, place in (S, H, W)) for every voxel. */
  walk(visit) {
    const { S, H, W, from, turned, header: { shape: [X, Y] } } = this, lengths = [S, H, W];
    const step = from.map((axis, i) => [1, X, X * Y][axis] * (turned[i] ? -1 : 1));
    const start = step.reduce((sum, n, i) => sum + (n < 0 ? -n * (lengths[i] - 1) : 0), 0);
    for (let s = 0, here = 0; s < S; s++)
      for (let h = 0; h < H; h++)
        for (let w = 0, at = start + s * step[0] + h * step[1]; w < W; w++, at += step[2]) visit(at, here++);
  }

  /** A NIfTI file (bytes, not compressed) of a mask (S, H, W) uint8, on the grid of the scan's own file. */
  maskFile(mask) { return maskFile(this.header, this.toFileAxes(mask)); }
}

/**
 * The voxel axis across the slices: the coarsest one; if none stands out, what the header says; else the
 * axial one.
 */
function throughPlane(header, spacing, orientation) {
  const [, middle, coarsest] = [...spacing].sort((a, b) => a - b);
  if (coarsest > 1.2 * middle) return spacing.indexOf(coarsest);
  const slice = (header.get("dim_info") >> 4) & 3;
  return slice ? slice - 1 : orientation.findIndex(([axis]) => axis === 2);
}
