// Where the voxels of a NIfTI file lie, in mm. What csam_lite/data/geometry.py says of the two forms of a
// header holds here too; the tests hold both to the same answers. Matrices are lists of rows.

import { InputError, damaged } from "./nifti.js";

const SMALLEST = 0.01, LARGEST = 100; // mm, the side of a voxel that we believe
const TOLERANCE = 0.03; // by how much (relative) the sform's voxel size may differ from pixdim
const SHEAR = 1; // degrees by which axes may miss the right angle without a remark
const KNOWN = new Set([1, 2, 3, 4, 5]); // codes of a form that is given
const MILLIMETRES = { 1: 1000, 3: 0.001 }; // of one unit, by NIfTI's codes for metre and micron

/**
 * {affine (4 rows, voxel to world, mm), spacing [x, y, z] in mm, remarks}: of two forms that contradict each
 * other, the believable one. Raises InputError where none can be believed, or for impossible voxels.
 */
export function geometryOf(header) {
  const { name } = header, unit = MILLIMETRES[header.get("xyzt_units") & 7] ?? 1;
  const sizes = header.list("pixdim", 3, 1).map(Math.abs);
  const hasSizes = sizes.every((size) => Number.isFinite(size) && size > 0);
  const rows = [0, 4, 8].map((start) => header.list("srow", 4, start));
  const sform = header.get("sform_code") > 0 ? valid([...rows, [0, 0, 0, 1]]) : null;
  const qform = header.get("qform_code") > 0 && hasSizes ? qformOf(header, sizes) : null;
  const broken = [["sform", sform], ["qform", qform]]
    .filter(([form, matrix]) => header.get(`${form}_code`) > 0 && !matrix).map(([form]) => form);
  const [believed, remarks] = choose(sform, qform, sizes, hasSizes, broken, header);
  if (unit !== 1)
    remarks.push(`Its unit is the ${unit > 1 ? "metre" : "micron"}; lengths were converted to mm.`);
  const affine = believed.map((row, i) => (i < 3 ? row.map((value) => value * unit) : row));
  const spacing = lengthsOf(affine);
  if (!spacing.every((size) => size >= SMALLEST && size <= LARGEST))
    throw new InputError(`${name}: its header gives voxels of ${product(spacing)} mm, which cannot be right; `
      + "correct the voxel size (pixdim, sform) or its unit (xyzt_units), or export it again");
  const shear = shearOf(affine, spacing);
  if (shear > SHEAR)
    remarks.push(`Its axes miss the right angle by up to ${general(shear)} degrees, as after a scan with a tilted `
      + "gantry; distances and volumes are measured as if they did not.");
  return { affine, spacing, remarks };
}

/**
 * Of each voxel axis [nearest world axis, direction 1 or -1]: nibabel's io_orientation, from the rotation
 * that is nearest to the matrix.
 */
export function orientationOf(affine) {
  const lengths = lengthsOf(affine);
  const R = rotationOf([0, 1, 2].map((r) => [0, 1, 2].map((c) => affine[r][c] / lengths[c])));
  const strength = [0, 1, 2].map((c) => Math.max(...R.map((row) => row[c] ** 2)));
  // the clearest axis chooses first
  const order = [0, 1, 2].sort((a, b) => strength[b] - strength[a] || a - b);
  const orientation = [], left = new Set([0, 1, 2]);
  for (const c of order) {
    let out = -1;
    for (const r of left) if (out < 0 || Math.abs(R[r][c]) > Math.abs(R[out][c])) out = r;
    orientation[c] = [out, R[out][c] < 0 ? -1 : 1];
    left.delete(out);
  }
  return orientation;
}

const lengthsOf = (affine) => [0, 1, 2].map((c) => Math.hypot(affine[0][c], affine[1][c], affine[2][c]));
const dot = (affine, b, c) => affine[0][b] * affine[0][c] + affine[1][b] * affine[1][c] + affine[2][b] * affine[2][c];

/** By how many degrees two voxel axes miss the right angle, at most. */
function shearOf(affine, lengths) {
  const cosines = [[0, 1], [0, 2], [1, 2]].map(([b, c]) => Math.abs(dot(affine, b, c) / lengths[b] / lengths[c]));
  return (Math.asin(Math.min(Math.max(...cosines), 1)) * 180) / Math.PI;
}

const ones = (sizes) => sizes.every((size) => Math.abs(size - 1) < 1e-3);
const product = (sizes) => sizes.map((size) => general(size)).join(" x ");

/** A number with so many figures, as Python's "%.4g" writes it. */
export function general(value, digits = 4) {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
  const [figures, power] = value.toExponential(digits - 1).split("e").map(Number);
  if (value !== 0 && (power < -4 || power >= digits))
    return `${figures}e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;
  return String(Number(value.toPrecision(digits)));
}

/**
 * The form that is believed, in the file's unit, and the remarks on it. broken: the forms that are given but
 * place nothing.
 */
function choose(sform, qform, sizes, hasSizes, broken, header) {
  const { name } = header;
  if (!sform && !qform) {
    if (!hasSizes)
      throw new InputError(`${name}: its affine gives no valid voxel size (pixdim ${product(sizes)}); `
        + "export it again with its geometry");
    if (broken.length)
      throw new InputError(`${name}: its ${broken.join(" and its ")} gives no place to its voxels (numbers that `
        + "are not finite, or axes that do not span the space); export it again with its geometry");
    const [x, y, z] = sizes, [X, Y, Z] = header.shape.map((n) => (n - 1) / 2);
    return [[[-x, 0, 0, x * X], [0, y, 0, -y * Y], [0, 0, z, -z * Z], [0, 0, 0, 1]],
      ["Its header gives no orientation (both codes are 0); left and right are a guess."]];
  }
  if (!sform)
    return [qform, broken.length ? ["Its sform gives no place to its voxels; the qform was used."] : []];
  const lengths = lengthsOf(sform);
  const agrees = (length, i) => Math.abs(length / sizes[i] - 1) <= TOLERANCE;
  if (hasSizes && lengths.every(agrees)) return [sform, []];
  const contradiction = `ts sform gives voxels of ${product(lengths)}, its pixdim ${product(sizes)}`;
  if (!hasSizes || (ones(sizes) && !qform)) return [sform, [`I${contradiction}; the sform was used.`]];
  if (qform && !ones(sizes))
    return [qform, [`I${contradiction}; the qform was used, because it agrees with pixdim.`]];
  if (ones(lengths)) {
    const scaled = sform.map((row, r) =>
      row.map((v, c) => (r < 3 && c < 3 ? (v * sizes[c]) / lengths[c] : v)));
    return [scaled, [`I${contradiction}; the sizes of pixdim were used.`]];
  }
  throw new InputError(`${name}: i${contradiction}; correct the one that is wrong, or export the file again `
    + "with its geometry");
}

/** The qform, or null where its quaternion is no rotation. */
function qformOf(header, sizes) {
  const [x, y, z] = header.list("quatern", 3), handed = header.get("pixdim") < 0 ? -1 : 1;
  const rest = 1 - (x * x + y * y + z * z), least = header.version === 1 ? 3 * 2 ** -23 : 3 * 2 ** -52;
  if (rest <= -least && !KNOWN.has(header.get("sform_code")) && KNOWN.has(header.get("qform_code")))
    throw damaged(header.name, "its quaternion is no rotation"); // nibabel needs one of the two forms
  if (!(rest > -least)) return null;
  const w = Math.abs(rest) < least ? 0 : Math.sqrt(rest), s = 2 / (w * w + x * x + y * y + z * z);
  const R = [
    [1 - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y)],
    [s * (x * y + w * z), 1 - s * (x * x + z * z), s * (y * z - w * x)],
    [s * (x * z - w * y), s * (y * z + w * x), 1 - s * (x * x + y * y)]];
  const steps = [sizes[0], sizes[1], sizes[2] * handed], offset = header.list("qoffset", 3);
  return valid([...R.map((row, r) => [...row.map((v, c) => v * steps[c]), offset[r]]), [0, 0, 0, 1]]);
}

/** The affine, or null where it is not finite or its axes do not span the space. */
function valid(affine) {
  if (!affine.flat().every(Number.isFinite)) return null;
  const lengths = lengthsOf(affine);
  if (!lengths.every((length) => Number.isFinite(length) && length > 0)) return null;
  const M = [0, 1, 2].map((r) => [0, 1, 2].map((c) => affine[r][c] / lengths[c]));
  return Math.abs(determinant(M)) > 1e-3 ? affine : null;
}

const cofactors = (M) => M.map((_, r) => M.map((_, c) => {
  const [a, b] = [1, 2].map((i) => M[(r + i) % 3]);
  return a[(c + 1) % 3] * b[(c + 2) % 3] - a[(c + 2) % 3] * b[(c + 1) % 3];
}));
const determinant = (M) => cofactors(M)[0].reduce((sum, value, c) => sum + value * M[0][c], 0);

/** The rotation, or reflection, nearest to M (Newton's iteration for the polar decomposition). */
function rotationOf(M) {
  for (let step = 0; step < 100; step++) {
    const inverse = cofactors(M), size = determinant(M); // cofactors / determinant: the inverse, transposed
    const next = M.map((row, r) => row.map((value, c) => (value + inverse[r][c] / size) / 2));
    const moved = Math.max(...next.flatMap((row, r) => row.map((value, c) => Math.abs(value - M[r][c]))));
    M = next;
    if (moved < 1e-15) break;
  }
  return M;
}
