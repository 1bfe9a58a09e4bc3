// The attention explorer in the browser: one script for the notebook widget and for the saved page. No library, no network.
//
// It gets one gzip file (see `pack` in explorer.py) with `facts` and arrays, S slices, C channels, H x W pixels:
//   image (C, S, H, W) whole numbers; label, prediction (S, H, W) classes; uncertainty (S, H, W), 255 is a standard deviation of 0.5
//   CSAM/GATE/WINDOW  float32: semantic (C), positional (h, w), slice (S), slice_mean (S), slice_covariance (S, S)
//   CSAM/maps (S or 1, C, h, w), CSAM/low, CSAM/high (C): feature maps, 0 is low and 255 is high
//   cividis, PuOr (256, 3): colour tables
// First come plain functions without a page (tests/explorer.test.mjs), then the parts of the page, then the explorer itself.

// ---------------------------------------------------------------------------------------------------------------- plain functions

/** The gzip file (Uint8Array) -> {facts, arrays: {name: {data, shape}}}. */
export async function unpack(packed) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const buffer = await new Response(stream).arrayBuffer();
  const headBytes = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, headBytes)));
  const kinds = { uint8: Uint8Array, uint16: Uint16Array, float32: Float32Array };
  const arrays = {};
  for (const [name, [kind, shape, start]] of Object.entries(head.arrays)) {
    const data = new kinds[kind](buffer, 4 + headBytes + start, shape.reduce((a, b) => a * b, 1));
    arrays[name] = { data, shape };
  }
  return { facts: head.facts, arrays };
}

/** Grey 0..255 of each stored number, its intensity being offset + scale * number, in a window of `width` around `level`. */
export function greys(count, scale, offset, width, level) {
  const table = new Uint8Array(count);
  const slope = 255 / Math.max(width, 1e-9);
  const start = (offset - level) * slope + 127.5;
  for (let i = 0; i < count; i++) table[i] = Math.min(Math.max(Math.round(start + i * scale * slope), 0), 255);
  return table;
}

/** The row 0..255 of a colour table for a value between low and high. */
export function shade(value, low, high) {
  return Math.min(Math.max(Math.floor(((value - low) / (high - low || 1)) * 256), 0), 255);
}

/** One plane of a volume (S, H, W): "slice" (H, W), "coronal" (S, W) at row `index`, "sagittal" (S, H) at column `index`; the last slice on top. */
export function plane(data, [S, H, W], kind, index) {
  if (kind === "slice") return data.subarray(index * H * W, (index + 1) * H * W);
  const across = kind === "coronal" ? W : H;
  const out = new data.constructor(S * across);
  for (let s = 0; s < S; s++) {
    const row = (S - 1 - s) * across;
    for (let i = 0; i < across; i++) out[row + i] = data[s * H * W + (kind === "coronal" ? index * W + i : i * W + index)];
  }
  return out;
}

/**
 * Closed outlines of the pixels (W x H) of `mask` that equal k: lists [x, y, x, y, ...], half-way between pixels inside and outside.
 * None where they would have more than `most` points: speckle, as from an untrained network, is slow to outline and tells nothing.
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
  // Around each corner of pixels four pixels meet: a b above, d c below. Of each pattern the ways through, the inside on the left.
  const T = 0, R = 1, B = 2, L = 3;
  const ways = [[], [B, L], [R, B], [R, L], [T, R], [T, R, B, L], [T, B], [T, L],
    [L, T], [B, T], [L, T, R, B], [R, T], [L, R], [B, R], [L, B], []];
  const wide = W + 2;
  const next = new Map();
  // The midpoint between two pixels has one number: 2 * (pixel left or above) for a horizontal pair, one more for a vertical one.
  const point = (x, y, side) => {
    const from = (y + 1) * wide + x + 1;
    return side === T ? 2 * from : side === B ? 2 * (from + wide) : side === L ? 2 * from + 1 : 2 * (from + 1) + 1;
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
      const x = (from % wide) - (vertical ? 0.5 : 0), y = Math.floor(from / wide) - (vertical ? 0 : 0.5), n = line.length;
      const straight = n >= 4 && (x - line[n - 2]) * (line[n - 1] - line[n - 3]) === (y - line[n - 1]) * (line[n - 2] - line[n - 4]);
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

/** Steps of a wheel: whole notches at once, the small moves of a touch pad summed up. Returns [steps, what is left over]. */
export function wheelSteps(left, delta, mode) {
  const moved = delta * (mode === 1 ? 33 : mode === 2 ? 400 : 1);
  if (Math.abs(moved) >= 50) return [Math.sign(moved), 0];
  const sum = left + moved;
  return Math.abs(sum) >= 50 ? [Math.sign(sum), 0] : [0, sum];
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

/** Whether the page around is dark: what the host says (JupyterLab, VS Code, Colab), else the system. */
export function isDark(document) {
  const { body, documentElement } = document;
  if (body.dataset.jpThemeLight) return body.dataset.jpThemeLight === "false";
  if (body.classList.contains("vscode-dark")) return true;
  if (body.classList.contains("vscode-light")) return false;
  if (documentElement.getAttribute("theme")) return documentElement.getAttribute("theme") === "dark";
  return document.defaultView.matchMedia("(prefers-color-scheme: dark)").matches;
}

const pixel = (r, g, b) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0; // as canvases keep it, little-endian
const greyPixel = (v) => pixel(v, v, v);
const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

// ------------------------------------------------------------------------------------------------------------- parts of the page

/** Set properties, and attributes (names with a dash, and role). */
function set(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  return element;
}

function make(tag, properties = {}, ...children) {
  const element = set(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const figure = (name, ...children) => make("figure", { className: `part part-${name}` }, ...children);

/** A small sign of a colour, as it is in the picture. */
function swatch(className, colour) {
  const sign = make("i", { className });
  sign.style.color = colour;
  return sign;
}

/** A slider and the label around it. */
function range(part, text, properties, listener) {
  const input = make("input", { type: "range", "aria-label": text, "data-part": part, ...properties });
  input.addEventListener("input", () => listener(Number(input.value)));
  return [input, make("label", { className: "field" }, make("span", { textContent: text }), input)];
}

/** A canvas that is as sharp as the screen; `draw(context, width, height)` works in CSS pixels. */
class Ink {
  constructor(className, draw) {
    this.canvas = make("canvas", { className });
    this.draw = draw;
    this.context = this.canvas.getContext("2d");
    this.size = [0, 0];
  }

  fit() {
    const width = this.canvas.clientWidth, height = this.canvas.clientHeight, sharp = window.devicePixelRatio || 1;
    this.size = [width, height];
    if (this.canvas.width !== Math.round(width * sharp) || this.canvas.height !== Math.round(height * sharp)) {
      this.canvas.width = Math.round(width * sharp);
      this.canvas.height = Math.round(height * sharp);
    }
    this.redraw();
  }

  redraw() {
    const [width, height] = this.size;
    if (!width || !height) return;
    const sharp = this.canvas.width / width;
    this.context.setTransform(sharp, 0, 0, sharp, 0, 0);
    this.context.clearRect(0, 0, width, height);
    this.draw(this.context, width, height);
  }
}

/** Pixels of a box of an image in one canvas, one for one, stretched to true proportions; lines and letters in a second one on top. */
class Picture {
  constructor(name, label, drawInk) {
    this.pixels = make("canvas", { className: "pixels" });
    this.context = this.pixels.getContext("2d", { willReadFrequently: true });
    this.ink = new Ink("ink", drawInk || (() => {}));
    this.element = make("div", { className: "picture", "data-part": name, role: "img", "aria-label": label }, this.pixels, this.ink.canvas);
  }

  /** Show the box [left, top, width, height], in pixels of the image, each `ratio` times as wide as high. */
  frame(box, ratio) {
    [this.left, this.top, this.W, this.H] = box;
    this.pixels.width = this.W;
    this.pixels.height = this.H;
    this.data = this.context.createImageData(this.W, this.H);
    this.words = new Uint32Array(this.data.data.buffer);
    this.element.style.aspectRatio = String((this.W * ratio) / this.H);
    this.element.classList.toggle("blocky", Math.max(this.W, this.H) < 200); // few pixels are shown as what they are
    return this;
  }

  /** Colour each pixel: colour(index in an image `across` pixels wide, x, y). */
  paint(across, colour) {
    const { left, top, W, H, words } = this;
    for (let y = top, i = 0; y < top + H; y++) for (let x = left; x < left + W; x++, i++) words[i] = colour(y * across + x, x, y);
    this.context.putImageData(this.data, 0, 0);
  }

  /** The pixel of the image under a pointer; it may lie outside. */
  at(event) {
    const box = this.element.getBoundingClientRect();
    const across = (event.clientX - box.left) / box.width, down = (event.clientY - box.top) / box.height;
    return [this.left + Math.floor(across * this.W), this.top + Math.floor(down * this.H)];
  }

  /** A point of the image on the ink, of w x h CSS pixels. */
  place(x, y, w, h) {
    return [((x - this.left) / this.W) * w, ((y - this.top) / this.H) * h];
  }
}

/** A colour scale with numbers: `set(low, high)` writes them. */
class Scale {
  constructor(table, label) {
    const stops = Array.from({ length: 9 }, (_, i) => 3 * Math.min(i * 32, 255)).map((i) => `rgb(${table.slice(i, i + 3).join(" ")})`);
    this.ticks = [0, 1, 2].map(() => make("span"));
    this.box = make("div", { className: "scale" },
      make("div", { className: "ramp" }), make("div", { className: "ticks" }, ...this.ticks), make("div", { className: "unit", textContent: label }));
    this.box.firstChild.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
  }

  set(low, high) {
    [low, (low + high) / 2, high].forEach((value, i) => (this.ticks[i].textContent = plain(value)));
  }
}

// ------------------------------------------------------------------------------------------------------------------ the explorer

const GATES = ["semantic", "positional", "slice"];
let numbered = 0; // for the ids of labels: several explorers may share a page

class Explorer {
  /** root: an empty element. data: from `unpack`. ask(question): sends it to the kernel; null where there is none. */
  constructor(root, { facts, arrays }, ask) {
    Object.assign(this, { root, facts, arrays, ask, id: ++numbered });
    [this.C, this.S, this.H, this.W] = arrays.image.shape;
    this.trained = { ...arrays }; // what the network answers untouched
    const [left, top, right, bottom] = facts.field;
    this.slice = facts.start;
    this.cross = [(left + right) / 2, (top + bottom) / 2].map((at, i) => Math.min(Math.max(Math.floor(at), 0), [this.W, this.H][i] - 1));
    this.channel = 0;
    this.level = 0;
    this.hovered = 0; // rank of the semantic bar whose feature map is shown
    this.fill = 0.2;
    this.veil = 0.6; // opacity of maps over the image
    this.shown = { label: true, prediction: true, cross: true, zoom: false };
    const [x, y] = [Math.max(Math.floor(left), 0), Math.max(Math.floor(top), 0)];
    this.field = [x, y, Math.min(Math.ceil(right), this.W) - x, Math.min(Math.ceil(bottom), this.H) - y]; // what the network reads of the image
    this.windows = facts.channels.map(({ dark, bright }) => ({ width: bright - dark, level: (dark + bright) / 2 }));
    this.changes = {}; // {"csam.0": {"slice": "one", "mean" or a list}}
    this.asked = null;
    this.waiting = false;
    this.cache = new Map();
    this.pending = new Set();
    this.build();
    this.listen();
    this.setTheme();
    this.setLevel(0);
    this.opened = performance.now(); // milliseconds after the page was asked for, for the tests
  }

  // What the arrays hold.

  get scale() { return this.facts.levels[this.level]; }
  get window() { return windowOf(this.slice, this.facts.windows); }
  get volume() { return [this.S, this.H, this.W]; }
  gate(kind, from = this.arrays, scale = this.scale) { return scale && from[`${scale.name}/${kind}/${this.window}`]; }
  mask(name, from = this.arrays) { return from[name] && plane(from[name].data, this.volume, "slice", this.slice); }
  stored() {
    const voxels = this.S * this.H * this.W;
    return this.arrays.image.data.subarray(this.channel * voxels, (this.channel + 1) * voxels);
  }
  intensity(x, y) {
    const { scale, offset } = this.facts.channels[this.channel];
    return offset + scale * this.stored()[(this.slice * this.H + y) * this.W + x];
  }

  cached(key, compute) {
    if (!this.cache.has(key)) {
      if (this.cache.size > 600) this.cache.clear();
      this.cache.set(key, compute());
    }
    return this.cache.get(key);
  }

  // The page.

  build() {
    const { facts, root } = this, { directions } = facts;
    root.classList.add("csam-explorer");
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", `Attention explorer, ${facts.title}`);
    root.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes the arrow keys
    if (directions) {
      const [up, bottom, right] = directions;
      this.letters = { up, down: opposite(up), top: opposite(bottom), bottom, left: opposite(right), right };
    }
    const classes = facts.classes.map(({ name, colour }) => make("span", {}, swatch("dot", colour), name));
    root.replaceChildren(
      make("header", {}, make("strong", { textContent: facts.title }), make("div", { className: "classes" }, ...classes)),
      make("div", { className: "columns" },
        make("section", { className: "views" }, ...this.buildSlice(), this.buildChange()),
        make("section", { className: "cuts" }, ...this.buildStrips(), ...(this.arrays.uncertainty ? [this.buildUncertainty()] : [])),
        make("section", { className: "gates" }, ...(facts.levels.length ? this.buildGates() : []))),
      this.buildHelp());
    this.frame();
    const pictures = [this.main, this.strips.coronal, this.strips.sagittal, this.doubt, this.position];
    this.inks = [...pictures.map((picture) => picture?.ink), this.channels, this.slices].filter(Boolean);
  }

  /** The slice with its controls. */
  buildSlice() {
    const { facts, S } = this, steps = { min: 1, max: S, step: 1, disabled: S === 1 };
    const [slider, sliderField] = range("slider", "slice", steps, (s) => this.setSlice(s - 1));
    this.slider = slider;
    this.readout = make("output", { className: "readout", "data-part": "readout" });
    sliderField.append(this.readout);
    const names = { L: "left", R: "right", A: "anterior", P: "posterior", S: "superior", I: "inferior" };
    const where = this.letters ? `, ${names[this.letters.top]} at the top, ${names[this.letters.right]} on the right` : "";
    this.main = new Picture("slice", "", (g, w, h) => this.inkSlice(g, w, h));
    set(this.main.element, { tabIndex: 0, role: "slider", "aria-label": `slice of the volume${where}`, "aria-orientation": "vertical",
      "aria-valuemin": 1, "aria-valuemax": S });
    this.values = make("div", { className: "values", "data-part": "values", textContent: "point at a pixel for its values" });
    this.contrast = make("span", { className: "contrast", "data-part": "contrast" });
    const reset = make("button", { type: "button", textContent: "reset", title: "or double click on the picture", "data-part": "reset-window" });
    reset.addEventListener("click", () => this.resetWindow());
    const controls = make("div", { className: "controls" }, sliderField);
    if (this.C > 1) {
      const options = facts.channels.map(({ name }, value) => make("option", { value, textContent: name }));
      const select = make("select", { "data-part": "channel" }, ...options);
      select.addEventListener("change", () => { this.channel = Number(select.value); this.drawAll(); });
      controls.append(make("label", { className: "field" }, make("span", { textContent: "channel" }), select));
    }
    controls.append(make("div", { className: "field" }, this.contrast, reset));
    const shown = make("div", { className: "controls" });
    if (this.arrays.label) shown.append(this.tick("label", "reference", swatch("line", "#ffffff")));
    shown.append(this.tick("prediction", "prediction", swatch("line", facts.classes[0].colour)), this.tick("cross", "cross"));
    if (this.field[2] < this.W || this.field[3] < this.H) shown.append(this.tick("zoom", "only what the network reads"));
    const part = { min: 0, max: 1, step: 0.05 };
    shown.append(range("opacity", "mask opacity", { ...part, value: this.fill }, (fill) => { this.fill = fill; this.drawSlice(); })[1]);
    shown.append(range("veil", "map opacity", { ...part, value: this.veil }, (veil) => { this.veil = veil; this.drawMaps(); })[1]);
    return [figure("slice", this.main.element, this.values, controls, shown)];
  }

  /** A box to tick: whether `name` is shown. */
  tick(name, text, ...swatches) {
    const input = make("input", { type: "checkbox", checked: this.shown[name], "data-part": `show-${name}` });
    input.addEventListener("change", () => { this.shown[name] = input.checked; this.frame(); this.drawAll(); });
    return make("label", { className: "tick" }, input, ...swatches, make("span", { textContent: text }));
  }

  /** The cuts across the slices, in the scale of the slice's own picture: as wide as they are in mm. */
  buildStrips() {
    const [deep, high, wide] = this.facts.spacing, widest = Math.max(this.W * wide, this.H * high);
    const strip = (kind, across, step) => {
      const picture = new Picture(kind, `${kind} cut; a click goes to the slice`, (g, w, h) => this.inkStrip(kind, g, w, h));
      picture.frame([0, 0, across, this.S], step / deep);
      picture.element.style.width = `${(100 * across * step) / widest}%`;
      picture.element.classList.add("blocky");
      return picture;
    };
    this.strips = { coronal: strip("coronal", this.W, wide), sagittal: strip("sagittal", this.H, high) };
    this.stripNames = { coronal: make("figcaption"), sagittal: make("figcaption") };
    return Object.entries(this.strips).map(([kind, picture]) => figure(kind, this.stripNames[kind], picture.element));
  }

  buildUncertainty() {
    this.doubt = new Picture("uncertainty", "uncertainty over the slice", (g, w, h) => this.inkMap(g, w, h));
    this.doubtValue = make("div", { className: "values" });
    const scale = new Scale(this.arrays.cividis.data, "standard deviation of the class probability");
    scale.set(0, this.facts.uncertainty);
    return this.panel("uncertainty", `Uncertainty: ${this.facts.draws} draws, gates as trained`, this.doubt.element, scale.box, this.doubtValue);
  }

  /** The choice of the scale, and the three gates of one. */
  buildGates() {
    const { cividis, PuOr } = this.arrays, text = (part) => make("div", { className: "values", "data-part": part });
    const scales = this.facts.levels.map(({ name, size }, i) => {
      const input = make("input", { type: "radio", name: `scale-${this.id}`, value: i, checked: i === 0, "data-part": `scale-${i}` });
      input.addEventListener("change", () => this.setLevel(i));
      return make("label", { className: "tick" }, input, make("span", { textContent: `${name}, ${size[1]} × ${size[0]}` }));
    });
    const bars = (part, label, draw) => {
      const ink = new Ink("bars", draw);
      set(ink.canvas, { tabIndex: 0, role: "slider", "data-part": part, "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 1 });
      return ink;
    };
    const pair = (left, ...right) => make("div", { className: "pair" }, left, make("div", {}, ...right));

    this.channels = bars("semantic", "semantic gate, a bar for each channel", (g, w, h) => this.inkSemantic(g, w, h));
    [this.feature, this.featureName] = [make("div"), text("feature-name")];
    this.featureScale = new Scale(cividis.data, "feature value, no unit");

    this.position = new Picture("positional", "positional gate over the slice", (g, w, h) => this.inkMap(g, w, h));
    this.positionScale = new Scale(cividis.data, "gate, no unit");
    this.positionValue = text("positional-value");

    this.slices = bars("slices", "slice gate, a bar for each slice", (g, w, h) => this.inkGates(g, w, h));
    [this.sliceValue, this.covariance, this.covarianceName] = [text("slice-value"), make("div"), text("covariance-name")];
    this.covarianceScale = new Scale(PuOr.data, "covariance of the slices, before the sigmoid");
    this.covarianceBox = pair(this.covariance, this.covarianceName, this.covarianceScale.box);

    this.parts = {
      semantic: this.panel("semantic", "Semantic gate: channels, sorted", this.channels.canvas,
        pair(this.feature, this.featureName, this.featureScale.box)),
      positional: this.panel("positional", "Positional gate over the image", this.position.element, this.positionScale.box, this.positionValue),
      slice: this.panel("slice", "Slice gate along the stack", this.slices.canvas, this.sliceValue, this.covarianceBox),
    };
    return [make("div", { className: "scales", role: "radiogroup", "aria-label": "scale" }, ...scales), ...GATES.map((kind) => this.parts[kind])];
  }

  /** What an intervention did; without a kernel, that it needs one. */
  buildChange() {
    this.status = make("p", { className: "status", role: "status", "aria-live": "polite", "data-part": "status" });
    const box = make("section", { className: "change" }, this.status);
    if (!this.facts.levels.length) {
      this.status.textContent = "This network has no CSAM: there is no gate to show or to change. Masks and slices work as they are.";
    } else if (this.ask) {
      this.undo = make("button", { type: "button", textContent: "all gates as trained", disabled: true, "data-part": "undo" });
      this.undo.addEventListener("click", () => { this.changes = {}; this.request(); });
      box.append(this.undo);
      this.report();
    } else {
      this.status.textContent = `${this.diceText(this.facts.dice)} To change a gate and see the prediction change, `
        + "run csam_lite.explore in a notebook: it needs a kernel, and this page has none.";
    }
    return box;
  }

  buildHelp() {
    const lines = [
      "slice: slider, mouse wheel, arrow keys, Page Up and Page Down, Home and End; a click on a strip or a bar",
      "cross (where the strips cut): click on the slice",
      "window and level: drag with the right button, or Shift with arrow keys; double click or r resets",
      "semantic gate: move over a bar, or left and right, to see that channel's feature map",
      ...(this.ask ? ["slice gate: drag a bar up or down, or up and down keys, to change it"] : []),
      ...(this.arrays.label ? ["white lines: the reference; coloured lines and fill: the prediction"] : []),
      "masks in more than 4000 pieces of a line, as of an untrained network, are filled but not outlined",
    ];
    const list = make("ul", {}, ...lines.map((text) => make("li", { textContent: text })));
    return make("details", { className: "help" }, make("summary", { textContent: "Keys and mouse" }), list);
  }

  /** What part of the image each picture shows: the maps no more than the network reads. */
  frame() {
    const [, high, wide] = this.facts.spacing;
    this.main.frame(this.shown.zoom ? this.field : [0, 0, this.W, this.H], wide / high);
    for (const picture of [this.doubt, this.position]) picture?.frame(this.field, wide / high);
  }

  /** A figure with a heading and, for a gate with a kernel behind it, the choice of what stands in its stead. */
  panel(kind, heading, ...children) {
    const head = make("figcaption", {}, make("span", { textContent: heading }));
    if (this.ask && GATES.includes(kind)) {
      const select = make("select", { "aria-label": `${kind} gate: as computed, or changed`, "data-part": `change-${kind}` },
        ...[["", "as computed"], ["one", "set to one"], ["mean", "set to its mean"], ...(kind === "slice" ? [["hand", "by hand"]] : [])]
          .map(([value, textContent]) => make("option", { value, textContent, disabled: value === "hand" })));
      select.addEventListener("change", () => this.change(kind, select.value || null));
      (this.selects ||= {})[kind] = select;
      head.append(select);
    }
    return figure(kind, head, ...children);
  }

  listen() {
    this.stop = new AbortController();
    const { signal } = this.stop;
    const on = (target, names, listener, options = {}) => {
      for (const name of names.split(" ")) target.addEventListener(name, listener, { signal, ...options });
    };
    on(this.root, "keydown", (event) => event.stopPropagation()); // a notebook would take keys that are meant for a slider or a list
    const box = this.main.element;
    let rolled = 0;
    on(box, "wheel", (event) => {
      if (event.ctrlKey) return; // the page's own zoom
      const [steps, left] = wheelSteps(rolled, event.deltaY, event.deltaMode);
      rolled = left;
      const to = this.slice + steps;
      if (to < 0 || to >= this.S) return; // at the ends the page scrolls on
      event.preventDefault();
      if (steps) this.setSlice(to);
    }, { passive: false });
    on(box, "keydown", (event) => this.key(event));
    on(box, "contextmenu", (event) => { event.preventDefault(); event.stopPropagation(); });
    on(box, "dblclick", () => this.resetWindow());
    on(box, "pointerdown", (event) => {
      box.focus({ preventScroll: true });
      if (event.button === 2) {
        box.setPointerCapture(event.pointerId);
        const { width, level } = this.windows[this.channel], { dark, bright } = this.facts.channels[this.channel];
        this.drag = { x: event.clientX, y: event.clientY, width, level, step: (bright - dark) / 300 };
      } else if (event.button === 0) this.moveCross(event);
    });
    on(box, "pointermove", (event) => {
      if (this.drag) {
        const { width, level, step } = this.drag;
        this.setWindow(width + (event.clientX - this.drag.x) * step, level + (event.clientY - this.drag.y) * step);
      } else if (event.buttons === 1 && event.pointerType === "mouse") this.moveCross(event);
    });
    on(box, "pointerup pointercancel", () => (this.drag = null));
    for (const picture of [this.main, this.doubt, this.position]) if (picture) on(picture.element, "pointermove", (event) => {
      const [x, y] = picture.at(event);
      if (x >= 0 && y >= 0 && x < this.W && y < this.H) this.say(x, y);
    });
    for (const [kind, picture] of Object.entries(this.strips)) {
      const point = (event) => {
        if (event.type === "pointermove" && event.buttons !== 1) return;
        const [across, down] = picture.at(event);
        this.cross[kind === "coronal" ? 0 : 1] = Math.min(Math.max(across, 0), picture.W - 1);
        this.setSlice(Math.min(Math.max(this.S - 1 - down, 0), this.S - 1));
        this.soon("drawStrips", "inkMain");
      };
      on(picture.element, "pointerdown pointermove", point);
    }
    if (this.channels) {
      on(this.channels.canvas, "pointermove pointerdown", (event) => {
        const rank = barAt(event.offsetX, this.bars.left, this.channels.size[0] - this.bars.right, this.gate("semantic")?.shape[0] || 0);
        if (rank >= 0) this.hover(rank);
      });
      on(this.channels.canvas, "keydown", (event) => {
        const step = { ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1 }[event.key];
        if (!step || !this.gate("semantic")) return;
        event.preventDefault();
        this.hover(Math.min(Math.max(this.hovered + step, 0), this.gate("semantic").shape[0] - 1));
      });
      on(this.slices.canvas, "pointerdown", (event) => this.grip(event));
      on(this.slices.canvas, "pointermove", (event) => this.pull(event));
      on(this.slices.canvas, "pointerup pointercancel", () => (this.held = null));
      on(this.slices.canvas, "keydown", (event) => this.nudge(event));
    }
    const theme = () => this.setTheme();
    on(window.matchMedia("(prefers-color-scheme: dark)"), "change", theme);
    const body = new MutationObserver(theme);
    body.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "class"] });
    const size = new ResizeObserver(() => this.inks.forEach((ink) => ink.fit()));
    this.inks.forEach((ink) => size.observe(ink.canvas));
    signal.addEventListener("abort", () => { body.disconnect(); size.disconnect(); });
  }

  // What a hand does.

  key(event) {
    const width = this.windows[this.channel].width, level = this.windows[this.channel].level;
    const { dark, bright } = this.facts.channels[this.channel], step = (bright - dark) / 20;
    const contrast = { ArrowRight: [step, 0], ArrowLeft: [-step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    const to = { ArrowUp: this.slice + 1, ArrowRight: this.slice + 1, ArrowDown: this.slice - 1, ArrowLeft: this.slice - 1,
      PageUp: this.slice + 5, PageDown: this.slice - 5, Home: 0, End: this.S - 1 }[event.key];
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.shiftKey && contrast) this.setWindow(width + contrast[0], level + contrast[1]);
    else if (event.key === "r") this.resetWindow();
    else if (to !== undefined) this.setSlice(Math.min(Math.max(to, 0), this.S - 1));
    else return;
    event.preventDefault();
  }

  setSlice(s) {
    if (s === this.slice) return;
    const window = this.window;
    this.slice = s;
    this.drawSlice();
    this.soon("drawMaps", "inkStrips", ...(window === this.window ? ["drawSliceOfGates"] : ["drawLevel"]));
  }

  /** Draw what is linked to the slice before the next frame: once, however many events come until then. */
  soon(...methods) {
    if (!this.pending.size) requestAnimationFrame(() => {
      const now = [...this.pending];
      this.pending.clear();
      for (const method of now) this[method]();
    });
    for (const method of methods) this.pending.add(method);
  }

  moveCross(event) {
    const [x, y] = this.main.at(event);
    this.cross = [Math.min(Math.max(x, 0), this.W - 1), Math.min(Math.max(y, 0), this.H - 1)];
    this.soon("drawStrips", "inkMain");
  }

  setWindow(width, level) {
    const { dark, bright } = this.facts.channels[this.channel];
    this.windows[this.channel] = { width: Math.max(width, (bright - dark) / 500), level };
    this.drawSlice();
    this.soon("drawMaps", "drawStrips");
  }

  resetWindow() {
    const { dark, bright } = this.facts.channels[this.channel];
    this.setWindow(bright - dark, (dark + bright) / 2);
  }

  setLevel(level) {
    this.level = level;
    this.hovered = 0;
    this.drawAll();
  }

  hover(rank) {
    if (rank === this.hovered) return;
    this.hovered = rank;
    this.channels.redraw();
    this.drawFeature();
  }

  // Interventions: what stands in a gate's stead goes to the kernel; the last wish wins, one question at a time.

  change(kind, value) {
    const { name } = this.scale;
    this.changes[name] = { ...this.changes[name], [kind]: value };
    if (value === null) delete this.changes[name][kind];
    if (!Object.keys(this.changes[name]).length) delete this.changes[name];
    this.request();
  }

  /** Set the gate of slice s by hand. */
  lift(s, value) {
    const { name } = this.scale, before = this.changes[name]?.slice;
    const list = Array.isArray(before) ? [...before] : Array(this.S).fill(before ? this.barHeight(s) : null); // null: as computed
    list[s] = Math.min(Math.max(value, 0), 1);
    this.change("slice", list);
  }

  request() {
    this.undo.disabled = !Object.keys(this.changes).length;
    this.drawSelects();
    this.slices?.redraw();
    if (this.waiting) { this.again = true; return; }
    this.again = false;
    this.waiting = true;
    this.status.textContent = "asking the network …";
    this.patience = setTimeout(() => {
      this.waiting = false;
      this.status.textContent = "No answer from the kernel. Run the cell again.";
    }, 30000);
    this.asked = `${this.id}.${Date.now()}`; // the widget may be shown in two cells
    this.ask({ id: this.asked, gates: this.changes });
  }

  /** A message from the kernel. */
  async hear(message, buffers) {
    if (message.id !== this.asked) return;
    clearTimeout(this.patience);
    if (message.kind === "error") {
      this.waiting = false;
      this.status.textContent = `The network could not answer: ${message.text}`;
      if (this.again) this.request();
      return;
    }
    const bytes = buffers[0];
    const { facts, arrays } = await unpack(new Uint8Array(bytes.buffer || bytes, bytes.byteOffset || 0, bytes.byteLength));
    this.waiting = false;
    Object.assign(this.arrays, arrays);
    this.cache.clear();
    this.drawAll();
    this.report(facts);
    if (this.again) this.request();
  }

  report(answer) {
    const count = Object.values(this.changes).reduce((sum, gates) => sum + Object.keys(gates).length, 0);
    if (!answer || !count) {
      this.status.textContent = `${this.diceText(this.facts.dice)} Gates as trained.`;
      return;
    }
    const before = this.trained.prediction.data, now = this.arrays.prediction.data;
    let moved = 0;
    for (let i = 0; i < now.length; i++) moved += now[i] !== before[i];
    this.status.textContent = `${count} gate${count > 1 ? "s" : ""} changed: ${this.diceText(answer.dice, this.facts.dice)} `
      + `${moved} of ${now.length} voxels changed class (dotted: the prediction before), in ${Math.round(1000 * answer.seconds)} ms.`;
  }

  diceText(dice, before) {
    if (!dice) return "";
    const value = (number) => (number === null ? "–" : number.toFixed(3));
    const each = this.facts.classes.map(({ name }, i) => `${name} ${before ? `${value(before[i])} → ` : ""}${value(dice[i])}`);
    return `Dice with the reference: ${each.join(", ")}.`;
  }

  grip(event) {
    if (event.button !== 0 || !this.gate("slice")) return;
    const s = this.barSlice(event);
    if (s < 0) return;
    this.slices.canvas.setPointerCapture(event.pointerId);
    this.held = { s, y: event.clientY };
    this.setSlice(s);
  }

  pull(event) {
    if (!this.held || !this.ask) return;
    if (!this.held.moving && Math.abs(event.clientY - this.held.y) < 3) return;
    this.held.moving = true;
    const { top, bottom } = this.bars, height = this.slices.size[1] - top - bottom;
    this.lift(this.held.s, 1 - (event.offsetY - top) / height);
  }

  nudge(event) {
    const gate = this.gate("slice"), step = { ArrowUp: 0.05, ArrowDown: -0.05 }[event.key], aside = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!gate || !(aside || (step && this.ask))) return;
    event.preventDefault();
    if (aside) this.setSlice(Math.min(Math.max(this.slice + aside, 0), this.S - 1));
    else this.lift(this.slice, this.barHeight(this.slice) + step);
  }

  /** The slice whose bar is under the pointer; -1 outside. */
  barSlice(event) {
    const [start, stop] = this.facts.windows[this.window];
    const i = barAt(event.offsetX, this.bars.left, this.slices.size[0] - this.bars.right, this.S);
    return i >= start && i < stop ? i : -1;
  }

  barHeight(s) {
    const wish = this.changes[this.scale.name]?.slice;
    return (Array.isArray(wish) && wish[s] !== null) ? wish[s] : this.gate("slice").data[s - this.facts.windows[this.window][0]];
  }

  // Drawing.

  setTheme() {
    this.root.dataset.theme = isDark(document) ? "dark" : "light";
    const style = getComputedStyle(this.root);
    this.colours = Object.fromEntries(["ink", "soft", "bar", "mark"].map((name) => [name, style.getPropertyValue(`--csam-${name}`).trim()]));
    this.inks.forEach((ink) => ink.redraw());
  }

  drawAll() {
    this.drawSlice();
    this.drawStrips();
    this.drawMaps();
    this.drawLevel();
  }

  greyTable() {
    const { scale, offset } = this.facts.channels[this.channel], { width, level } = this.windows[this.channel];
    const count = this.arrays.image.data.BYTES_PER_ELEMENT === 2 ? 65536 : 256;
    const key = `${scale} ${offset} ${width} ${level}`;
    if (this.greyKey !== key) [this.greyKey, this.grey] = [key, greys(count, scale, offset, width, level)];
    return this.grey;
  }

  drawSlice() {
    const grey = this.greyTable();
    const image = plane(this.stored(), this.volume, "slice", this.slice);
    const mask = this.shown.prediction && this.mask("prediction");
    const tables = this.facts.classes.map(({ colour }) => {
      const [r, g, b] = rgb(colour), a = this.fill, mix = (c, v) => Math.round(v * (1 - a) + c * a);
      return Uint32Array.from({ length: 256 }, (_, v) => pixel(mix(r, v), mix(g, v), mix(b, v)));
    });
    tables.unshift(Uint32Array.from({ length: 256 }, (_, v) => greyPixel(v)));
    this.main.paint(this.W, mask ? (i) => tables[mask[i]][grey[image[i]]] : (i) => tables[0][grey[image[i]]]);
    this.soon("inkMain");
    const text = `${this.slice + 1} of ${this.S}`;
    this.slider.value = this.slice + 1;
    this.readout.textContent = text;
    this.main.element.setAttribute("aria-valuenow", this.slice + 1);
    this.main.element.setAttribute("aria-valuetext", `slice ${text}`);
    const { width, level } = this.windows[this.channel];
    this.contrast.textContent = `window ${plain(width)}, level ${plain(level)}`;
  }

  /** Values under the pointer. */
  say(x, y) {
    const i = (this.slice * this.H + y) * this.W + x, of = (name) => this.arrays[name]?.data[i];
    const name = (k) => (k ? this.facts.classes[k - 1].name : "background"), channel = this.facts.channels[this.channel].name;
    const parts = [`column ${x + 1}, row ${y + 1}: ${channel} ${plain(this.intensity(x, y))}`, `prediction ${name(of("prediction"))}`];
    if (this.arrays.label) parts.push(`reference ${name(of("label"))}`);
    if (this.doubt) parts.push(`uncertainty ${plain(of("uncertainty") / 510)}`);
    const gate = this.gate("positional"), at = gate && this.inField(x, y, gate.shape);
    if (at >= 0) parts.push(`positional gate ${plain(gate.data[at])}`);
    this.values.textContent = parts.join("; ");
  }

  /** Where in a map (h, w) of what the network reads the pixel x, y of the image lies; -1 outside. */
  inField(x, y, [h, w]) {
    const [left, top, right, bottom] = this.facts.field;
    const column = Math.floor(((x + 0.5 - left) / (right - left)) * w), row = Math.floor(((y + 0.5 - top) / (bottom - top)) * h);
    return column >= 0 && row >= 0 && column < w && row < h ? row * w + column : -1;
  }

  drawStrips() {
    const grey = this.greyTable();
    for (const [kind, picture] of Object.entries(this.strips)) {
      const index = kind === "coronal" ? this.cross[1] : this.cross[0];
      const cut = plane(this.stored(), this.volume, kind, index);
      picture.paint(picture.W, (i) => greyPixel(grey[cut[i]]));
      picture.ink.redraw();
      const along = kind === "coronal" ? "row" : "column", axial = !this.letters || this.letters.up === "S";
      const name = axial ? kind[0].toUpperCase() + kind.slice(1) : `Cut along a ${along}`; // of slices that are not axial
      this.stripNames[kind].textContent = `${name}, ${along} ${index + 1}`;
    }
  }

  /** The maps over the image: the positional gate and the uncertainty. */
  drawMaps() {
    const grey = this.greyTable(), image = plane(this.stored(), this.volume, "slice", this.slice);
    const table = this.arrays.cividis.data;
    if (this.doubt) {
      const doubt = this.mask("uncertainty"), most = this.facts.uncertainty * 510;
      this.doubt.paint(this.W, (i) => this.mix(grey[image[i]], table, shade(doubt[i], 0, most)));
      this.doubt.ink.redraw();
      this.doubtValue.textContent = `highest in this slice: ${plain(doubt.reduce((a, b) => Math.max(a, b), 0) / 510)}`;
    }
    const gate = this.gate("positional");
    if (!gate) return;
    const [low, high] = limits(gate.data);
    const places = this.cached(`places ${gate.shape}`, () => Int32Array.from({ length: this.W * this.H },
      (_, i) => this.inField(i % this.W, Math.floor(i / this.W), gate.shape)));
    this.position.paint(this.W, (i) => {
      const at = places[i], g = grey[image[i]];
      return at < 0 ? greyPixel(g) : this.mix(g, table, shade(gate.data[at], low, high));
    });
    this.position.ink.redraw();
    this.positionScale.set(low, high);
    const mean = gate.data.reduce((a, b) => a + b, 0) / gate.data.length, flat = gate.data.every((value) => value === gate.data[0]);
    this.positionValue.textContent = flat ? `${plain(mean)} everywhere` : `between ${plain(low)} and ${plain(high)}, mean ${plain(mean)}`;
  }

  mix(grey, table, row) {
    const a = this.veil, mix = (c) => Math.round(grey * (1 - a) + c * a);
    return pixel(mix(table[3 * row]), mix(table[3 * row + 1]), mix(table[3 * row + 2]));
  }

  /** All that depends on the scale but the positional gate. */
  drawLevel() {
    if (!this.scale) return;
    this.drawMaps();
    for (const kind of GATES) this.parts[kind].hidden = !this.scale.gates.includes(kind);
    this.order = this.gate("semantic") && sorted(this.gate("semantic").data);
    this.channels.redraw();
    this.slices.redraw();
    this.drawFeature();
    this.drawCovariance();
    this.describeSlices();
    this.drawSelects();
  }

  drawSelects() {
    for (const [kind, select] of Object.entries(this.selects || {})) {
      const value = this.changes[this.scale.name]?.[kind] ?? "";
      select.value = Array.isArray(value) ? "hand" : value;
    }
  }

  drawSliceOfGates() {
    this.slices?.redraw();
    this.drawFeature();
    this.describeSlices();
  }

  inkMain() { this.main.ink.redraw(); }
  inkStrips() { for (const picture of Object.values(this.strips)) picture.ink.redraw(); }

  /** A picture of w x h values in `box`, made anew only where its size changes. */
  small(box, name, w, h, ratio) {
    if (box.picture?.W !== w || box.picture?.H !== h) {
      box.picture = new Picture(name, name).frame([0, 0, w, h], ratio);
      box.replaceChildren(box.picture.element);
    }
    return box.picture;
  }

  drawFeature() {
    const gate = this.gate("semantic"), maps = this.arrays[`${this.scale?.name}/maps`];
    if (!gate || !maps) return;
    const channel = this.order[this.hovered], [S, C, h, w] = maps.shape, s = S > 1 ? this.slice : 0;
    const low = this.arrays[`${this.scale.name}/low`].data[channel], high = this.arrays[`${this.scale.name}/high`].data[channel];
    const [left, top, right, bottom] = this.facts.field, [, tall, wide] = this.facts.spacing;
    const picture = this.small(this.feature, "feature", w, h, ((right - left) * wide * h) / ((bottom - top) * tall * w));
    const values = maps.data.subarray((s * C + channel) * h * w, (s * C + channel + 1) * h * w), table = this.arrays.cividis.data;
    picture.paint(w, (i) => pixel(...table.subarray(3 * values[i], 3 * values[i] + 3)));
    this.featureScale.set(low, high);
    const text = `channel ${channel}, gate ${plain(gate.data[channel])}`;
    this.featureName.textContent = `${text}; feature map, ${S > 1 ? `slice ${this.slice + 1}` : "mean over the stack"}`;
    this.channels.canvas.setAttribute("aria-valuenow", gate.data[channel].toFixed(3));
    this.channels.canvas.setAttribute("aria-valuetext", text);
  }

  drawCovariance() {
    const covariance = this.gate("slice_covariance");
    this.covarianceBox.hidden = !covariance;
    if (!covariance) return;
    const [n] = covariance.shape, most = covariance.data.reduce((a, b) => Math.max(a, Math.abs(b)), 1e-12);
    const picture = this.small(this.covariance, "covariance", n, n, 1), table = this.arrays.PuOr.data;
    picture.paint(n, (i) => {
      const row = shade(covariance.data[i], -most, most);
      return pixel(...table.subarray(3 * row, 3 * row + 3));
    });
    this.covarianceScale.set(-most, most);
    const [start, stop] = this.facts.windows[this.window];
    this.covarianceName.textContent = `slice by slice, ${start + 1} to ${stop}, from the upper left`;
  }

  describeSlices() {
    const gate = this.gate("slice");
    if (!gate) return;
    const [start, stop] = this.facts.windows[this.window], value = this.barHeight(this.slice), spread = this.spread(this.slice);
    const draws = spread ? `, 68 of 100 draws between ${plain(spread[0])} and ${plain(spread[1])}` : "";
    const text = `slice ${this.slice + 1}: gate ${plain(value)}${draws}`;
    this.sliceValue.textContent = text + (this.facts.windows.length > 1 ? `; window of slices ${start + 1} to ${stop}` : "");
    this.slices.canvas.setAttribute("aria-valuenow", value.toFixed(3));
    this.slices.canvas.setAttribute("aria-valuetext", text);
  }

  /** Where the middle 68 of 100 draws of a slice's gate lie: the sigmoid keeps the order, so it maps mean ± one standard deviation. */
  spread(s) {
    const mean = this.gate("slice_mean"), covariance = this.gate("slice_covariance");
    if (!mean || this.changes[this.scale.name]?.slice) return null;
    const i = s - this.facts.windows[this.window][0], deviation = Math.sqrt(covariance.data[i * mean.shape[0] + i]);
    return [sigmoid(mean.data[i] - deviation), sigmoid(mean.data[i] + deviation)];
  }

  // Ink: what is drawn with lines and letters.

  trace(g, picture, mask, key, W, H, w, h, style) {
    this.facts.classes.forEach(({ colour }, k) => {
      const lines = this.cached(`${key} ${k}`, () => outlines(mask, W, H, k + 1));
      if (!lines.length) return;
      const path = new Path2D();
      for (const line of lines) {
        for (let i = 0; i < line.length; i += 2) path[i ? "lineTo" : "moveTo"](...picture.place(line[i], line[i + 1], w, h));
        path.closePath();
      }
      g.setLineDash(style === "before" ? [1.5, 2.5] : []);
      g.strokeStyle = "rgb(0 0 0 / 60%)"; // a dark rim keeps light lines legible on light tissue
      g.lineWidth = style === "label" ? 2.6 : 3;
      g.stroke(path);
      g.strokeStyle = style === "label" ? "#ffffff" : colour;
      g.lineWidth = style === "label" ? 1.3 : 1.7;
      g.stroke(path);
    });
    g.setLineDash([]);
  }

  /** The outlines of all masks in one plane (W x H) of the volume. */
  traceAll(g, picture, kind, index, W, H, w, h) {
    const trace = (name, from) => this.trace(g, picture, plane(from.data, this.volume, kind, index), `${name} ${kind} ${index}`, W, H, w, h, name);
    if (this.shown.prediction) {
      const { prediction } = this.arrays;
      trace("prediction", prediction);
      if (prediction !== this.trained.prediction && Object.keys(this.changes).length) trace("before", this.trained.prediction);
    }
    if (this.shown.label && this.arrays.label) trace("label", this.arrays.label);
  }

  letter(g, text, x, y, align = "center", size = 13) {
    g.font = `600 ${size}px system-ui, sans-serif`;
    g.textAlign = align;
    g.textBaseline = "middle";
    g.lineWidth = 3;
    g.lineJoin = "round";
    g.strokeStyle = "rgb(0 0 0 / 75%)";
    g.strokeText(text, x, y);
    g.fillStyle = "#ffffff";
    g.fillText(text, x, y);
  }

  inkSlice(g, w, h) {
    this.traceAll(g, this.main, "slice", this.slice, this.W, this.H, w, h);
    if (!this.shown.zoom && (this.field[2] < this.W || this.field[3] < this.H)) {
      const [left, top, wide, high] = this.field, [x, y] = this.main.place(left, top, w, h);
      const [right, bottom] = this.main.place(left + wide, top + high, w, h);
      g.strokeStyle = "rgb(255 255 255 / 45%)";
      g.setLineDash([2, 4]);
      g.strokeRect(x, y, right - x, bottom - y);
      g.setLineDash([]);
    }
    if (this.shown.cross) {
      const [x, y] = this.main.place(this.cross[0] + 0.5, this.cross[1] + 0.5, w, h);
      g.strokeStyle = "rgb(255 255 255 / 55%)";
      g.lineWidth = 1;
      g.beginPath();
      for (const [a, b, c, d] of [[x, 0, x, y - 8], [x, y + 8, x, h], [0, y, x - 8, y], [x + 8, y, w, y]]) { g.moveTo(a, b); g.lineTo(c, d); }
      g.stroke();
    }
    if (this.letters) {
      const { top, bottom, left, right } = this.letters;
      [[top, w / 2, 12], [bottom, w / 2, h - 12], [left, 12, h / 2], [right, w - 12, h / 2]].forEach(([text, x, y]) => this.letter(g, text, x, y));
    }
    const total = this.main.W * this.facts.spacing[2], length = roundLength(total / 4), px = (length / total) * w;
    g.lineWidth = 5;
    for (const [colour, thick] of [["rgb(0 0 0 / 75%)", 5], ["#ffffff", 2.5]]) {
      g.strokeStyle = colour;
      g.lineWidth = thick;
      g.beginPath();
      g.moveTo(12, h - 12);
      g.lineTo(12 + px, h - 12);
      g.stroke();
    }
    this.letter(g, `${plain(length)} ${this.facts.unit}`, 12, h - 24, "left", 12);
  }

  inkMap(g, w, h) {
    this.traceAll(g, this.position || this.doubt, "slice", this.slice, this.W, this.H, w, h); // both show the same box
  }

  inkStrip(kind, g, w, h) {
    const across = kind === "coronal" ? this.W : this.H;
    this.traceAll(g, this.strips[kind], kind, kind === "coronal" ? this.cross[1] : this.cross[0], across, this.S, w, h);
    const y = ((this.S - 0.5 - this.slice) / this.S) * h, half = h / this.S / 2;
    g.strokeStyle = "#F0E442";
    g.lineWidth = 1.2;
    g.strokeRect(0.6, Math.max(y - half, 0.6), w - 1.2, Math.min(2 * half, h - 1.2));
    if (!this.letters) return;
    const { up, down, left, right, top, bottom } = this.letters;
    const ends = kind === "coronal" ? [left, right] : [top, bottom];
    this.letter(g, ends[0], 10, h / 2, "center", 12);
    this.letter(g, ends[1], w - 10, h / 2, "center", 12);
    if (h > 60) { this.letter(g, up, w / 2, 9, "center", 12); this.letter(g, down, w / 2, h - 9, "center", 12); }
  }

  get bars() { return { left: 34, right: 8, top: 8, bottom: 30 }; }

  /** Axes of bars from 0 to 1; returns the place of the value v. */
  axes(g, w, h, label) {
    const { left, right, top, bottom } = this.bars, y = (v) => top + (1 - v) * (h - top - bottom);
    g.font = "11px system-ui, sans-serif";
    g.fillStyle = this.colours.ink;
    g.textBaseline = "middle";
    for (const v of [0, 0.5, 1]) {
      g.strokeStyle = this.colours.soft;
      g.lineWidth = 1;
      g.beginPath();
      g.moveTo(left, y(v));
      g.lineTo(w - right, y(v));
      g.stroke();
      g.textAlign = "right";
      g.fillText(v === 0.5 ? "0.5" : String(v), left - 5, y(v));
    }
    g.textAlign = "center";
    g.fillText(label, (left + w - right) / 2, h - 8);
    return y;
  }

  inkSemantic(g, w, h) {
    const gate = this.gate("semantic");
    if (!gate || !this.order) return;
    const [C] = gate.shape, y = this.axes(g, w, h, `${C} channels, the most open first`), { left, right } = this.bars;
    const step = (w - left - right) / C;
    this.order.forEach((channel, rank) => {
      const x = left + rank * step, value = gate.data[channel];
      g.fillStyle = rank === this.hovered ? this.colours.mark : this.colours.bar;
      g.fillRect(x + (step > 4 ? 0.5 : 0), y(Math.min(value, 1)), Math.max(step - (step > 4 ? 1 : 0), 0.5), y(0) - y(Math.min(value, 1)));
    });
  }

  inkGates(g, w, h) {
    const gate = this.gate("slice");
    if (!gate) return;
    const letters = this.letters ? ` (${this.letters.down} to ${this.letters.up})` : "";
    const y = this.axes(g, w, h, `slice${letters}`), { left, right } = this.bars, step = (w - left - right) / this.S;
    const [start, stop] = this.facts.windows[this.window], before = this.gate("slice", this.trained);
    const label = Math.ceil(this.S / Math.max(Math.floor((w - left - right) / 30), 1));
    for (let s = 0; s < this.S; s++) {
      const x = left + s * step;
      g.fillStyle = this.colours.ink;
      if (s % label === 0) g.fillText(s + 1, x + step / 2, h - 22);
      if (s < start || s >= stop) continue;
      const value = this.barHeight(s), was = before.data[s - start], spread = this.spread(s);
      g.fillStyle = s === this.slice ? this.colours.mark : this.colours.bar;
      g.fillRect(x + 0.5, y(Math.min(value, 1)), Math.max(step - 1, 0.5), y(0) - y(Math.min(value, 1)));
      g.strokeStyle = this.colours.ink;
      g.lineWidth = 1.2;
      g.beginPath();
      if (spread) {
        const middle = x + step / 2, wide = Math.min(step / 4, 4);
        g.moveTo(middle, y(spread[0]));
        g.lineTo(middle, y(spread[1]));
        for (const end of spread) { g.moveTo(middle - wide, y(end)); g.lineTo(middle + wide, y(end)); }
      }
      if (Math.abs(was - value) > 1e-6) { g.moveTo(x, y(was)); g.lineTo(x + step, y(was)); }
      g.stroke();
    }
  }

  close() {
    this.stop.abort();
    clearTimeout(this.patience);
  }
}

/** [smallest, largest]; spread a little where they are one, so that a flat gate has a colour scale. */
function limits(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) { if (value < low) low = value; if (value > high) high = value; }
  return high - low > 1e-6 ? [low, high] : [low - 0.05, high + 0.05];
}

/** Show what `unpack` cannot read as a line, never as a blank. */
async function open(root, packed, ask) {
  try {
    return (root.explorer = new Explorer(root, await unpack(packed), ask));
  } catch (error) {
    root.textContent = `The explorer could not open: ${error.message || error}. It needs a browser of 2023 or newer.`;
    console.error(error);
    return null;
  }
}

function bytesOf(letters) {
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

/** The saved page. */
export async function openPage() {
  const text = document.getElementById("packed").textContent;
  const packed = Uint8Array.fromBase64 ? Uint8Array.fromBase64(text) : bytesOf(atob(text));
  await open(document.getElementById("explorer"), packed, null);
}

/** The notebook widget, as anywidget wants it. */
export default {
  render({ model, el }) {
    const root = el.appendChild(make("div", { textContent: "opening …" }));
    const packed = model.get("packed");
    const bytes = new Uint8Array(packed.buffer || packed, packed.byteOffset || 0, packed.byteLength);
    const hear = (message, buffers) => opened.then((explorer) => explorer?.hear(message, buffers));
    const opened = open(root, bytes, (question) => model.send(question));
    model.on("msg:custom", hear);
    return () => {
      model.off("msg:custom", hear);
      opened.then((explorer) => explorer?.close());
    };
  },
};
