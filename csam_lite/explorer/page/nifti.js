// A NIfTI file in the browser: its header, its voxels, and a mask with the same header. What
// csam_lite/data/nifti.py does in Python; the tests hold both to the same answers.

/**
 * Something that a reader gave cannot be used. The message is one line: what is wrong, where, and what to
 * do.
 */
export class InputError extends Error {}

export const damaged = (name, reason) => new InputError(
  `${name}: cannot be read as NIfTI, truncated or damaged (${reason}); copy or export it again`);

const PLACES = { // of each field in the two versions of the header: [byte, kind]
  1: {
    dim_info: [39, "Uint8"], dim: [40, "Int16"], intent_p: [56, "Float32"], intent_code: [68, "Int16"],
    datatype: [70, "Int16"], bitpix: [72, "Int16"], pixdim: [76, "Float32"], vox_offset: [108, "Float32"],
    scl_slope: [112, "Float32"], scl_inter: [116, "Float32"],
    xyzt_units: [123, "Uint8"], cal: [124, "Float32"],
    qform_code: [252, "Int16"], sform_code: [254, "Int16"],
    quatern: [256, "Float32"], qoffset: [268, "Float32"],
    srow: [280, "Float32"], intent_name: [328, "Uint8"], magic: [344, "Uint8"],
  },
  2: {
    magic: [4, "Uint8"], datatype: [12, "Int16"], bitpix: [14, "Int16"], dim: [16, "BigInt64"],
    intent_p: [80, "Float64"], pixdim: [104, "Float64"], vox_offset: [168, "BigInt64"],
    scl_slope: [176, "Float64"], scl_inter: [184, "Float64"],
    cal: [192, "Float64"], qform_code: [344, "Int32"],
    sform_code: [348, "Int32"], quatern: [352, "Float64"], qoffset: [376, "Float64"], srow: [400, "Float64"],
    xyzt_units: [500, "Int32"], intent_code: [504, "Int32"],
    intent_name: [508, "Uint8"], dim_info: [524, "Uint8"],
  },
};
const KINDS = { // of voxels, by NIfTI's code
  2: "Uint8", 4: "Int16", 8: "Int32", 16: "Float32", 64: "Float64", 256: "Int8", 512: "Uint16", 768: "Uint32",
  1024: "BigInt64", 1280: "BigUint64",
};
const bytesOf = (kind) => Number(kind.match(/\d+/)[0]) / 8;
const MOST_COMPRESSED = 1032; // no gzip file unpacks to more than this many times its size
const SURPLUS = 2 ** 24;      // bytes that a file may hold after its voxels
const MOST = 2 ** 29;         // bytes of voxels that a tab takes; Python takes more
const MOST_TRIES = 50;        // places at which a second gzip file seems to begin in a compressed one, and does not
const PYTHON = "use python -m csam_lite predict";

/** The header of a NIfTI file of version 1 or 2, as stored. */
export class Header {
  /** bytes: the first 540 of the file, or all of a shorter one. name: of the file, for messages. */
  constructor(bytes, name) {
    this.name = name;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const sizes = bytes.length < 348 ? [] : [true, false].map((little) => view.getInt32(0, little));
    const size = [348, 540].find((length) => sizes.includes(length) && bytes.length >= length);
    if (!size) throw damaged(name, "it does not begin as such a file does");
    this.little = sizes[0] === size;
    this.version = size === 348 ? 1 : 2;
    this.bytes = bytes.slice(0, size);
    this.view = new DataView(this.bytes.buffer);
    const magic = String.fromCharCode(...this.bytes.subarray(this.place("magic"), this.place("magic") + 3));
    if (magic === `ni${this.version}`)
      throw new InputError(`${name}: is one half of a pair .hdr and .img; ${PYTHON}, which reads pairs, `
        + "or save the scan as one .nii.gz");
    if (magic !== `n+${this.version}` && this.version === 1)
      throw new InputError(`${name}: is an Analyze file, which does not tell left from right; convert the `
        + "original scan to NIfTI (for DICOM: dcm2niix)");
    if (magic !== `n+${this.version}`) throw damaged(name, "it does not begin as such a file does");
  }

  place(field) { return PLACES[this.version][field][0]; }

  get(field, i = 0) {
    const [start, kind] = PLACES[this.version][field];
    return Number(this.view[`get${kind}`](start + i * bytesOf(kind), this.little));
  }

  set(field, value, i = 0) {
    const [start, kind] = PLACES[this.version][field];
    const stored = kind.startsWith("Big") ? BigInt(value) : value;
    this.view[`set${kind}`](start + i * bytesOf(kind), stored, this.little);
  }

  list(field, count, from = 0) { return Array.from({ length: count }, (_, i) => this.get(field, from + i)); }

  /** Lengths of the axes: (X, Y, Z), or (X, Y, Z, C). Raises InputError for anything but a volume. */
  get shape() {
    const { name } = this, count = this.get("dim");
    const shape = this.list("dim", Math.min(Math.max(count, 0), 7), 1);
    const text = `(${shape.join(", ")})`;
    if (count < 0 || count > 7 || shape.some((n) => n < 0))
      throw new InputError(`${name}: its header gives the shape ${text}, which is impossible; `
        + "export it again");
    if (!shape.length || shape.includes(0))
      throw new InputError(`${name}: is empty, shape ${text}; export it again`);
    // vector images keep the fourth axis for time
    if (shape.length === 5 && shape[3] === 1) shape.splice(3, 1);
    while (shape.length > 3 && shape.at(-1) === 1) shape.pop();
    if (shape.length !== 3 && shape.length !== 4)
      throw new InputError(`${name}: shape ${text} is not a volume (X, Y, Z) or (X, Y, Z, channels); `
        + "stack 2D slices into one NIfTI volume first");
    return shape;
  }

  get channels() { return this.shape[3] || 1; }

  /** The kind of the voxels, for example "Int16". Raises InputError for colours and complex numbers. */
  get kind() {
    const code = this.get("datatype"), kind = KINDS[code];
    if (kind) return kind;
    const held = { 32: "complex numbers", 1792: "complex numbers", 128: "colours", 2304: "colours" }[code];
    if (held)
      throw new InputError(`${this.name}: holds ${held}, not grey values; `
        + "export the scan as plain intensities");
    throw new InputError(`${this.name}: has voxels of the type ${code}, which this page does not read; `
      + "save it as 16-bit or 32-bit numbers");
  }

  /** Where the voxels begin and end in the file, in bytes. */
  get span() {
    const stored = this.get("vox_offset"), offset = Math.trunc(stored);
    if (stored !== 0 && !(stored >= this.bytes.length + 4))
      throw damaged(this.name, `its voxels would begin at byte ${stored}`);
    const voxels = this.shape.reduce((product, n) => product * n, 1);
    return [offset, offset + voxels * bytesOf(this.kind)];
  }

  /** [slope, inter]: intensity = slope * stored number + inter. */
  get scaling() {
    const slope = this.get("scl_slope"), inter = this.get("scl_inter");
    if (slope === 0 || !Number.isFinite(slope)) return [1, 0];
    if (!Number.isFinite(inter)) throw damaged(this.name, `its scaling adds ${inter}`);
    return [slope, inter];
  }
}

/**
 * The header and the bytes of the voxels of a File. Reads a compressed file to its end, where gzip compares
 * the checksum, so that damage anywhere is found. Raises InputError before it takes more memory than the
 * file can fill.
 */
export async function readNifti(file) {
  const { name, size } = file;
  const first = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  const zipped = first[0] === 0x1f && first[1] === 0x8b;
  if (zipped !== name.toLowerCase().endsWith(".gz"))
    throw new InputError(`${name}: cannot be read as NIfTI, truncated or damaged (it is ${zipped
      ? "a gzip file, but its name does not end in .gz" : "no gzip file, though its name ends in .gz"}); `
      + "copy it again, or correct its name");
  const reader = zipped ? new Unpacked(await membersOf(file)) : file.stream().getReader();
  try {
    let head = new Uint8Array(0);
    while (head.length < 540) {
      const { value, done } = await next(reader, name);
      if (done) break;
      head = joined(head, value);
    }
    const header = new Header(head.subarray(0, 540), name), [start, stop] = header.span;
    const told = (holds) => damaged(name, `its header promises ${stop} bytes, ${holds}`);
    if (stop > (zipped ? size * MOST_COMPRESSED : size)) throw told(`the file has ${size}`);
    if (stop > MOST)
      throw new InputError(`${name}: holds ${(stop / 1e9).toFixed(1)} GB, too much for a page; ${PYTHON}`);
    const voxels = new Uint8Array(stop - start);
    let at = 0;
    for (let value = head; value;) {
      const from = Math.max(start - at, 0), to = Math.min(stop - at, value.length);
      if (from < to) voxels.set(value.subarray(from, to), at + from - start);
      at += value.length;
      if (at > stop + SURPLUS)
        throw new InputError(`${name}: holds far more than the ${stop} bytes that its header promises; `
          + "copy or export it again");
      ({ value } = await next(reader, name));
    }
    if (at < stop) throw told(`it holds ${at}`);
    return { header, voxels };
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Intensities of one channel, float32, in the order of the file. */
export function intensities(header, voxels, channel) {
  const { kind, little } = header, [slope, inter] = header.scaling, width = bytesOf(kind);
  const [X, Y, Z] = header.shape, count = X * Y * Z, out = new Float32Array(count);
  const native = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
  if (width === 1 || little === native) { // a typed array is far faster than a DataView
    const stored = new globalThis[`${kind}Array`](voxels.buffer, channel * count * width, count);
    if (kind.startsWith("Big")) for (let i = 0; i < count; i++) out[i] = Number(stored[i]) * slope + inter;
    else for (let i = 0; i < count; i++) out[i] = stored[i] * slope + inter;
  } else {
    const view = new DataView(voxels.buffer, channel * count * width), get = view[`get${kind}`];
    for (let i = 0; i < count; i++) out[i] = Number(get.call(view, i * width, little)) * slope + inter;
  }
  return out;
}

/**
 * A NIfTI file, not compressed, of `mask` (uint8, in the order of the file) that opens where the file of
 * `header` opens: as `like` in csam_lite/data/geometry.py, byte by byte.
 */
export function maskFile(header, mask) {
  const size = header.bytes.length, out = new Uint8Array(size + 4 + mask.length);
  const written = new Header(header.bytes, header.name), shape = header.shape.slice(0, 3);
  for (let i = 0; i < 2; i++) written.set("cal", 0, i);
  for (let i = 0; i < 3; i++) written.set("intent_p", 0, i);
  written.set("intent_code", 0);
  written.bytes.fill(0, written.place("intent_name"), written.place("intent_name") + 16);
  written.set("datatype", 2);
  written.set("bitpix", 8);
  [3, ...shape, 1, 1, 1, 1].forEach((n, i) => written.set("dim", n, i));
  for (let i = 4; i < 8; i++) written.set("pixdim", 1, i);
  written.set("scl_slope", 1);
  written.set("scl_inter", 0);
  written.set("vox_offset", size + 4);
  out.set(written.bytes);
  out.set(mask, size + 4);
  return out;
}

/** Reads several gzip files one after the other, as a stream's reader does. */
class Unpacked {
  constructor(blobs) { this.blobs = blobs; }

  async read() {
    for (;;) {
      this.reader ??= this.blobs.shift()?.stream().pipeThrough(new DecompressionStream("gzip")).getReader();
      if (!this.reader) return { done: true };
      const { value, done } = await this.reader.read();
      if (!done) return { value, done };
      this.reader = null;
    }
  }

  async cancel() { await this.reader?.cancel(); }
}

/**
 * The gzip files, or members, of which a file consists: mostly one. Browsers unpack one alone, and take what
 * follows for damage; Python reads all, and zeros between and behind them.
 */
async function membersOf(file) {
  if (file.size > MOST + SURPLUS) return [file]; // more than a page takes, as its header will tell
  const bytes = new Uint8Array(await file.arrayBuffer()), members = [];
  let start = 0, tries = 0;
  for (let at = 18; at <= bytes.length; at++) { // a member has 18 bytes or more
    const found = bytes.indexOf(0x1f, at), ends = found < 0;
    at = ends ? bytes.length : found;
    const begins = bytes[at + 1] === 0x8b && bytes[at + 2] === 8 && bytes[at + 3] < 32;
    if (!begins && !ends) continue;
    let last = at; // behind the last byte that is not zero
    while (last > start && bytes[last - 1] === 0) last--;
    const stops = at - last > 3 ? [0, 1, 2, 3].map((zeros) => last + zeros) : []; // where zeros follow it
    if (begins) stops.unshift(at); // else nothing has to be tried
    let stop = null;
    for (const end of stops)
      if (stop === null && tries < MOST_TRIES) {
        if (await isWhole(file.slice(start, end))) stop = end;
        else tries++;
      }
    if (stop === null && !ends) continue; // the three bytes stood there by chance
    members.push(file.slice(start, stop ?? at));
    start = at;
  }
  return members.length ? members : [file];
}

/** Whether a Blob is a gzip file to its end. */
async function isWhole(blob) {
  const reader = new Unpacked([blob]);
  try {
    for (let total = 0; total < MOST + SURPLUS;) {
      const { value, done } = await reader.read();
      if (done) return true;
      total += value.length;
    }
  } catch { /* damaged, or it goes on */ }
  reader.cancel().catch(() => {});
  return false;
}

async function next(reader, name) {
  try {
    return await reader.read();
  } catch (error) { // of gzip, or a file that has vanished
    throw damaged(name, error.message || String(error));
  }
}

function joined(a, b) {
  const out = new Uint8Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}
