// Elements and canvases: what every panel is drawn with.

import { plain } from "./data.js";

/** A pixel as canvases keep it, little-endian. */
export const pixel = (r, g, b) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
export const greyPixel = (v) => pixel(v, v, v);
export const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

/** Whether the page around is dark: what the host says (JupyterLab, VS Code, Colab), else the system. */
export function isDark(document) {
  const { body, documentElement } = document;
  if (body.dataset.jpThemeLight) return body.dataset.jpThemeLight === "false";
  if (body.classList.contains("vscode-dark")) return true;
  if (body.classList.contains("vscode-light")) return false;
  if (documentElement.getAttribute("theme")) return documentElement.getAttribute("theme") === "dark";
  return document.defaultView.matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Set properties, and attributes (names with a dash, and role). */
export function set(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  return element;
}

export function make(tag, properties = {}, ...children) {
  const element = set(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Write a text in place of another. The same one written anew would have the browser lay out the page again. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export const figure = (name, ...children) => make("figure", { className: `part part-${name}` }, ...children);

/** A small sign of a colour, as it is in the picture. */
export function swatch(className, colour) {
  const sign = make("i", { className });
  sign.style.color = colour;
  return sign;
}

/** A slider and the label around it. */
export function range(part, text, properties, listener) {
  const input = make("input", { type: "range", "aria-label": text, "data-part": part, ...properties });
  input.addEventListener("input", () => listener(Number(input.value)));
  return [input, make("label", { className: "field" }, make("span", { textContent: text }), input)];
}

/** A canvas that is as sharp as the screen; `draw(context, width, height)` works in CSS pixels. */
export class Ink {
  constructor(className, draw) {
    this.canvas = make("canvas", { className });
    this.draw = draw;
    this.context = this.canvas.getContext("2d");
    this.size = [0, 0];
  }

  fit() {
    const { canvas } = this, sharp = globalThis.devicePixelRatio || 1;
    this.size = [canvas.clientWidth, canvas.clientHeight];
    const [width, height] = this.size.map((length) => Math.round(length * sharp));
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
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

/** A box of an image: a canvas with its pixels, stretched to true proportions, and one on top for lines. */
export class Picture {
  constructor(name, label, drawInk) {
    this.pixels = make("canvas", { className: "pixels" });
    this.context = this.pixels.getContext("2d", { willReadFrequently: true });
    this.ink = new Ink("ink", drawInk || (() => {}));
    const properties = { className: "picture", "data-part": name, role: "img", "aria-label": label };
    this.element = make("div", properties, this.pixels, this.ink.canvas);
    this.view = { scale: 1, left: 0, top: 0 }; // see zoomAbout
  }

  /** Show a part of the picture, magnified. */
  setView({ scale, left, top }) {
    this.view = { scale, left, top };
    const move = `translate(${-100 * left * scale}%, ${-100 * top * scale}%)`;
    this.pixels.style.transform = scale === 1 ? "" : `${move} scale(${scale})`;
  }

  /** Show the box [left, top, width, height], in pixels of the image, each `ratio` times as wide as high. */
  frame(box, ratio) {
    [this.left, this.top, this.W, this.H] = box;
    this.pixels.width = this.W;
    this.pixels.height = this.H;
    this.data = this.context.createImageData(this.W, this.H);
    this.words = new Uint32Array(this.data.data.buffer);
    this.element.style.aspectRatio = String((this.W * ratio) / this.H);
    // few pixels are shown as what they are
    this.element.classList.toggle("blocky", Math.max(this.W, this.H) < 200);
    return this;
  }

  /** Colour each pixel: colour(index). */
  paint(colour) {
    const { words } = this;
    for (let i = 0; i < words.length; i++) words[i] = colour(i);
    this.context.putImageData(this.data, 0, 0);
  }

  /**
   * Colour each pixel of the box from an image `across` pixels wide, by what stands in `table` in the row of
   * `rows` (null: always the first) and the column of its grey. One loop without calls, because a reader who
   * steps through the slices waits for it.
   */
  paintRows(across, image, grey, table, rows) {
    const { left, top, W, H, words } = this;
    for (let y = top, i = 0; y < top + H; y++)
      for (let at = y * across + left, end = at + W; at < end; at++)
        words[i++] = table[(rows ? rows[at] << 8 : 0) | grey[image[at]]];
    this.context.putImageData(this.data, 0, 0);
  }

  /** The pixel of the image under a pointer; it may lie outside. */
  at(event) {
    const box = this.element.getBoundingClientRect();
    const across = (event.clientX - box.left) / box.width, down = (event.clientY - box.top) / box.height;
    const { scale, left, top } = this.view, x = left + across / scale, y = top + down / scale;
    return [this.left + Math.floor(x * this.W), this.top + Math.floor(y * this.H)];
  }

  /** A point of the image on the ink, of w x h CSS pixels. */
  place(x, y, w, h) {
    const { scale, left, top } = this.view;
    return [((x - this.left) / this.W - left) * scale * w, ((y - this.top) / this.H - top) * scale * h];
  }
}

/** A colour bar with numbers: `set(low, high)` writes them. */
export class ColourBar {
  constructor(table, label) {
    const rows = Array.from({ length: 9 }, (_, i) => 3 * Math.min(i * 32, 255));
    const stops = rows.map((i) => `rgb(${table.slice(i, i + 3).join(" ")})`);
    this.ticks = [0, 1, 2].map(() => make("span"));
    this.box = make("div", { className: "colourbar" },
      make("div", { className: "ramp" }), make("div", { className: "ticks" }, ...this.ticks),
      make("div", { className: "unit", textContent: label }));
    this.box.firstChild.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
  }

  set(low, high) {
    [low, (low + high) / 2, high].forEach((value, i) => write(this.ticks[i], plain(value)));
  }
}

/**
 * Call `follow(event)` at a press of the main button in an element and at each move until it ends, also outside.
 * A press that began elsewhere is none of the element's business.
 */
export function onDrag(on, element, follow, kinds = ["mouse", "pen", "touch"]) {
  let held = null;
  on(element, "pointerdown", (event) => {
    if (event.button !== 0 || !kinds.includes(event.pointerType)) return;
    element.setPointerCapture(event.pointerId);
    held = event.pointerId;
    follow(event);
  });
  on(element, "pointermove", (event) => held === event.pointerId && follow(event));
  on(element, "pointerup pointercancel lostpointercapture", () => (held = null));
}

/** A letter or a text that is legible on light and dark pixels. */
export function letter(g, text, x, y, align = "center", size = 13) {
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

/** Where bars stand in their canvas: CSS pixels around them. */
export const MARGIN = { left: 34, right: 8, top: 8, bottom: 30 };

/** Axes of bars from 0 to 1 in a canvas of w x h; returns the function from a value to its place. */
export function drawAxes(g, w, h, label, colours) {
  const { left, right, top, bottom } = MARGIN, y = (v) => top + (1 - v) * (h - top - bottom);
  g.font = "11px system-ui, sans-serif";
  g.fillStyle = colours.ink;
  g.textBaseline = "middle";
  for (const v of [0, 0.5, 1]) {
    g.strokeStyle = colours.soft;
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
