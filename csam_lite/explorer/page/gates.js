// What the panels of all gates share: the heading, and the choice of what replaces the gate.

import { figure, make, Picture, write } from "./canvas.js";

/** A figure with a heading and, beside it, a control or null. */
export function panel(name, heading, control, ...children) {
  const head = make("figcaption", {}, make("span", { textContent: heading }));
  if (control) head.append(control);
  return figure(name, head, ...children);
}

export const pair = (left, ...right) => make("div", { className: "pair" }, left, make("div", {}, ...right));

/** A picture of w x h values in `box`, made anew only where its size changes. */
export function smallPicture(box, name, w, h, ratio) {
  if (box.picture?.W !== w || box.picture?.H !== h) {
    box.picture = new Picture(name, name).frame([0, 0, w, h], ratio);
    box.replaceChildren(box.picture.element);
  }
  return box.picture;
}

/** The panel of one gate, the same for all levels that have it; `byHand`: its numbers can be dragged. */
export class GatePanel {
  constructor(state, { name, axes }, byHand = false) {
    Object.assign(this, { state, name, axes, byHand });
    if (state.canAsk) state.on("changes level", () => this.drawChoice());
  }

  /** Fill the panel: what its heading says after the gate's name, and its parts. */
  fill(heading, ...children) {
    const { name, state } = this;
    if (state.canAsk) {
      const options = [["", "as the network chose"], ["one", "open: set to one"], ["zero", "shut: set to zero"],
        ["mean", "set to its mean"]];
      if (state.other) options.push(["other", `as in ${state.other.title}`]);
      if (this.byHand) options.push(["hand", "by hand"]);
      const label = `${name} gate: as the network chose, or changed`;
      const properties = { "aria-label": label, "data-part": `change-${name}` };
      this.choice = make("select", properties, ...options.map(([value, textContent]) =>
        make("option", { value, textContent, disabled: value === "hand" })));
      this.choice.addEventListener("change", () => {
        const { value } = this.choice, other = ({ gates }) => gates.find((gate) => gate.name === name);
        state.setChange(name, (level) =>
          (value === "other" ? state.otherValues(level, other(level)) : value || null));
      });
    }
    this.title = `${name[0].toUpperCase()}${name.slice(1)} gate${heading}`;
    this.element = panel("gate", this.title, this.choice, ...children);
  }

  /** The gate in this level, and its values in the window of this slice. */
  get gate() {
    return this.state.level.gates.find(({ name, axes }) => name === this.name && axes === this.axes);
  }

  get array() { return this.state.gateArray(this.gate); }

  /** Show the panel only where the level has the gate; returns whether it has. */
  show() {
    this.element.hidden = !this.gate;
    const { levels, level } = this.state;
    const heading = this.element.querySelector("figcaption span");
    if (levels.length > 1) write(heading, `${this.title}, ${level.name}`);
    return !this.element.hidden;
  }

  drawChoice() {
    const { state, gate } = this, value = state.changeOf(this.name) ?? "", isList = Array.isArray(value);
    const isOther = isList && state.other && String(value) === String(state.otherValues(state.level, gate));
    this.choice.value = isOther ? "other" : isList ? "hand" : value;
  }

  listen() {}
}
