// What an intervention did to the mask; without a kernel, that it needs one.

import { make } from "./canvas.js";
import { Kernel } from "./kernel.js";

export class ChangePanel {
  /** ask(question): sends it to the kernel; null where there is none. */
  constructor(state, ask) {
    this.state = state;
    this.inks = [];
    const properties = { className: "status", role: "status", "aria-live": "polite", "data-part": "status" };
    this.status = make("p", properties);
    this.element = make("section", { className: "change" }, this.status);
    if (!state.levels.length) {
      this.status.textContent = "This network has no CSAM: there is no gate to show or to change. "
        + "Masks and slices work as they are.";
    } else if (ask) {
      this.kernel = new Kernel(state, ask, (description, trouble) => this.report(description, trouble));
      const properties = { type: "button", disabled: true, "data-part": "undo" };
      this.undo = make("button", properties, "all gates as trained");
      this.undo.addEventListener("click", () => state.clearChanges());
      this.element.append(this.undo);
      state.on("changes", () => this.request(), { atOnce: true });
      this.report(null, null);
    } else {
      this.status.textContent = `${this.diceText(state.description.dice)} `
        + "To change a gate and see the prediction change, run csam_lite.explore in a notebook: "
        + "it needs a kernel, and this page has none.";
    }
  }

  request() {
    this.undo.disabled = !Object.keys(this.state.changes).length;
    this.status.textContent = "asking the network …";
    this.kernel.request();
  }

  report(answer, trouble) {
    const { state } = this, { dice } = state.description;
    const count = Object.values(state.changes).reduce((sum, gates) => sum + Object.keys(gates).length, 0);
    if (trouble) this.status.textContent = trouble;
    else if (!answer || !count) this.status.textContent = `${this.diceText(dice)} Gates as trained.`;
    else {
      const before = state.trained.prediction.data, now = state.arrays.prediction.data;
      let moved = 0;
      for (let i = 0; i < now.length; i++) moved += now[i] !== before[i];
      this.status.textContent = `${count} gate${count > 1 ? "s" : ""} changed: `
        + `${this.diceText(answer.dice, dice)} ${moved} of ${now.length} voxels changed class `
        + `(dotted: the prediction before), in ${Math.round(1000 * answer.seconds)} ms.`;
    }
  }

  diceText(dice, before) {
    if (!dice) return "";
    const value = (number) => (number === null ? "–" : number.toFixed(3));
    const change = (i) => (before ? `${value(before[i])} → ${value(dice[i])}` : value(dice[i]));
    const each = this.state.classes.map(({ name }, i) => `${name} ${change(i)}`);
    return `Dice with the reference: ${each.join(", ")}.`;
  }
}
