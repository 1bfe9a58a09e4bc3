// What a reader must know of a scan and its mask, in whole sentences: what Facts.remarks_on
// (csam_lite/training/facts.py) and `predict` say in Python.

import { general } from "./geometry.js";

const PLANES = { L: "sagittal", A: "coronal", S: "axial" }; // by the direction in which the slices follow
const UNUSUAL = 1.5; // how many times coarser or finer than all training scans a scan may be without a remark

/** Where the geometry of a scan lies far from that of the training scans. */
export function geometryRemarks(scan, { planes = [], through_plane = [], in_plane = [] }) {
  const remarks = [], plane = PLANES[scan.directions[0]];
  if (planes.length && !planes.includes(plane))
    remarks.push(`Its slices are ${plane}; the network was trained on ${planes.join(" and ")} slices, so do not `
      + "trust the mask.");
  const { spacing: [across, ...within] } = scan;
  for (const [name, values, trained] of [["through-plane", [across], through_plane], ["in-plane", within, in_plane]]) {
    const [least, most] = trained; // none in older runs: then nothing is unusual
    if (values.some((mm) => mm < least / UNUSUAL || mm > most * UNUSUAL))
      remarks.push(`Its ${name} spacing is ${range(values)} mm, that of the training scans ${range(trained)} mm; `
        + "the mask may be poor.");
  }
  return remarks;
}

/** A sentence where the mask (S, H, W) ends where the network reads no further, while the image goes on. */
export function edgeRemarks(grid, mask, S, { pixels, spacing }) {
  if (!grid.isReached(mask, S)) return [];
  return [`Its mask reaches the edge of what the network reads, ${general(pixels * spacing, 3)} mm in the middle of `
    + "each slice, and may be cut there; give a scan with the organ in its middle."];
}

function range(values) {
  const [least, most] = [Math.min(...values), Math.max(...values)].map((mm) => general(mm, 3));
  return least === most ? least : `${least} to ${most}`;
}
