// Zoom and pan of a picture: Ctrl with the wheel or two fingers, the middle button, keys, and a slider.

import { range } from "./canvas.js";
import { zoomAbout } from "./data.js";

const MOST = 8; // times

export class Zoom {
  /** about(): the pixel about which slider and keys zoom. changed(): draws what lies over the pixels. */
  constructor(picture, about, changed) {
    Object.assign(this, { picture, about, changed });
    const steps = { min: 1, max: MOST, step: 0.25, value: 1 };
    [this.slider, this.field] = range("magnify", "magnify", steps, (scale) => this.to(scale));
  }

  /** Zoom so that `place`, a point of the box in 0..1, stays where it is; by default what `about` says. */
  to(scale, place = this.placeOf(...this.about())) {
    const clamped = Math.min(Math.max(scale, 1), MOST);
    this.show(zoomAbout(this.picture.view, clamped, place));
  }

  /** Move the picture by a part of the box. */
  pan(across, down) {
    const { scale, left, top } = this.picture.view;
    this.show(zoomAbout({ scale, left: left - across / scale, top: top - down / scale }, scale, [0, 0]));
  }

  /** Bring a pixel into sight. */
  follow(x, y) {
    const [across, down] = this.placeOf(x, y), off = (part) => (part < 0 || part > 1 ? 0.5 - part : 0);
    if (off(across) || off(down)) this.pan(off(across), off(down));
  }

  placeOf(x, y) { return this.picture.place(x + 0.5, y + 0.5, 1, 1); }

  show(view) {
    this.picture.setView(view);
    this.slider.value = view.scale;
    this.changed();
  }

  listen(on) {
    const { picture: { element } } = this, pointers = new Map();
    const placeAt = ({ clientX, clientY }) => {
      const box = element.getBoundingClientRect();
      return [(clientX - box.left) / box.width, (clientY - box.top) / box.height];
    };
    on(element, "wheel", (event) => {
      if (!event.ctrlKey) return; // a step through the slices
      event.preventDefault();
      this.to(this.picture.view.scale * Math.exp(-event.deltaY / 300), placeAt(event));
    }, { passive: false });
    on(element, "pointerdown", (event) => {
      if (event.button === 1) event.preventDefault(); // no automatic scrolling
      if (event.button !== 1 && event.pointerType !== "touch") return;
      element.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, placeAt(event));
    });
    on(element, "pointermove", (event) => {
      if (!pointers.has(event.pointerId)) return;
      const before = [...pointers.values()];
      pointers.set(event.pointerId, placeAt(event));
      const now = [...pointers.values()];
      if (event.pointerType === "touch" && now.length < 2) return;
      const mean = (places, i) => places.reduce((sum, place) => sum + place[i], 0) / places.length;
      const middle = (places) => [mean(places, 0), mean(places, 1)];
      const apart = ([a, b]) => Math.hypot(a[0] - b[0], a[1] - b[1]);
      const [x, y] = middle(before), [u, v] = middle(now);
      this.pan(u - x, v - y);
      if (now.length > 1) this.to((this.picture.view.scale * apart(now)) / apart(before), [u, v]);
    });
    on(element, "pointerup pointercancel", (event) => pointers.delete(event.pointerId));
    on(element, "keydown", ({ key, ctrlKey, metaKey }) => {
      const factor = { "+": 1.25, "=": 1.25, "-": 0.8, 0: 0 }[key];
      if (factor !== undefined && !ctrlKey && !metaKey) this.to(this.picture.view.scale * factor);
    });
  }
}
