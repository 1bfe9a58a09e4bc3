// What the page reads of NIfTI files, as JSON: node tests/nifti_in_node.mjs FOLDER (tests/test_page_nifti.py runs it).
import { File } from "node:buffer";
import { readFileSync, readdirSync } from "node:fs";

import { readNifti } from "../csam_lite/explorer/page/nifti.js";
import { Scan } from "../csam_lite/explorer/page/scan.js";

const base64 = ({ buffer, byteOffset, byteLength }) => Buffer.from(buffer, byteOffset, byteLength).toString("base64");
const answers = {}, folder = process.argv[2];
for (const name of readdirSync(folder)) {
  try {
    const { header, voxels } = await readNifti(new File([readFileSync(`${folder}/${name}`)], name));
    const scan = new Scan(header, voxels, [...Array(header.channels).keys()]);
    const mask = Uint8Array.from({ length: scan.S * scan.H * scan.W }, (_, i) => i % 5);
    answers[name] = {
      shape: [scan.S, scan.H, scan.W], spacing: scan.spacing, directions: scan.directions, remarks: scan.remarks,
      channels: scan.channels.map(base64), mask: base64(scan.maskFile(mask)),
    };
  } catch (error) {
    answers[name] = { error: error.message, kind: error.constructor.name };
  }
}
console.log(JSON.stringify(answers));
