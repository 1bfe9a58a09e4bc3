// What an intervention does to the mask: asks the engine, tells the change, takes it back. Without an engine,
// a line says what would be needed.

import { make } from "./canvas.js";
import { changedVoxels, diceOf } from "./data.js";

export class ChangePanel {
  /** engine: an object with answer(gates), a promise of {description, arrays}; null where there is none. */
  constructor(state, engine) {
    const { changes } = state;
    Object.assign(this, { state, engine, busy: false, again: false, inks: [], answeredFor: changes });
    const properties = { className: "status", role: "status", "aria-live": "polite", "data-part": "status" };
    this.status = make("p", properties);
    this.element = make("div", { className: "part" }, this.status);
    if (!state.levels.length) {
      this.status.textContent = "This network has no CSAM: there is no gate to show or to change. "
        + "Masks and slices work as they are.";
    } else if (engine) {
      this.element.prepend(this.controls());
      state.on("changes", () => this.request(), { atOnce: true });
      this.report();
      engine.ready?.catch((error) => (this.status.textContent = error.message));
    } else {
      this.status.textContent = `${this.diceText(state.trained.prediction)} `
        + "To change a gate and see the prediction change, run csam_lite.explore in a notebook, "
        + "or save this page with the network inside: it was saved without.";
    }
  }

  controls() {
    const { state } = this;
    const button = (part, text, title) => make("button", { type: "button", title, "data-part": part }, text);
    this.undo = button("undo", "undo", "take back the last change of a gate (u)");
    this.reset = button("reset-gates", "reset all gates", "take back all changes");
    this.before = button("before", "before", "while it is held: the prediction before all changes (b)");
    this.undo.addEventListener("click", () => state.undo());
    this.reset.addEventListener("click", () => state.isChanged && state.clearChanges());
    const box = make("input", { type: "checkbox", "data-part": "every-level" });
    box.addEventListener("change", () => (state.everyLevel = box.checked));
    const hidden = state.levels.length < 2;
    const every = make("label", { className: "tick", hidden }, box, "change all scales at once");
    const controls = make("div", { className: "controls" }, this.undo, this.before, this.reset, every);
    if (state.other) {
      const { title } = state.other, text = `all gates as in ${title}`;
      const all = button("other-gates", text, `replace all gates by those that the network chose for ${title}`);
      all.addEventListener("click", () => state.takeOther());
      controls.append(all);
    }
    return controls;
  }

  listen(on) {
    if (!this.before) return;
    const { state } = this, isKey = ({ key }) => key === " " || key === "Enter";
    // Held until it is let go, even where the page moves the button away from under the pointer meanwhile.
    on(this.before, "pointerdown", (event) => {
      if (event.button !== 0) return;
      this.before.setPointerCapture(event.pointerId);
      state.setBefore(state.isChanged);
    });
    on(this.before, "pointerup pointercancel lostpointercapture blur", () => state.setBefore(false));
    on(this.before, "keydown", (event) => isKey(event) && state.setBefore(state.isChanged));
    on(this.before, "keyup", (event) => isKey(event) && state.setBefore(false));
    on(this.before, "contextmenu", (event) => event.preventDefault()); // a long touch
  }

  /** Ask for the changes as they are. One question at a time; of those that come meanwhile, the last. */
  async request() {
    this.enable();
    this.again = true;
    if (this.busy) return;
    this.busy = true;
    while (this.again) {
      this.again = false;
      const { state } = this, { changes } = state, start = performance.now();
      if (!state.isChanged) {
        this.answeredFor = changes;
        state.setAnswer(state.trained);
        this.report();
        continue;
      }
      this.status.textContent = "asking the network …";
      try {
        const { arrays } = await this.engine.answer(changes);
        this.answeredFor = changes;
        state.setAnswer(arrays);
        this.report(performance.now() - start);
      } catch (error) {
        this.status.textContent = error.message;
        state.changed("trouble");
      }
    }
    this.busy = false;
  }

  /** Whether what is seen is the answer to the changes as they are. */
  get isAnswered() { return this.answeredFor === this.state.changes; }

  /** Say which buttons have something to do. They keep the focus: else keys would go to the page around. */
  enable() {
    const { state, undo, reset, before } = this;
    for (const [button, can] of [[undo, state.history.length > 0], [reset, state.isChanged], [before, state.isChanged]])
      button.setAttribute("aria-disabled", String(!can));
    if (!state.isChanged) state.setBefore(false);
  }

  report(milliseconds) {
    const { state } = this, { trained, arrays } = state;
    this.enable();
    if (!state.isChanged) {
      this.status.textContent = `${this.diceText(trained.prediction)} All gates are as the network chose them.`;
      return;
    }
    this.milliseconds = milliseconds; // for the tests
    const { changed, mask } = changedVoxels(trained.prediction.data, arrays.prediction.data);
    const share = mask ? `${((100 * changed) / mask).toFixed(1)} % of the mask` : "the mask";
    const [some, all] = [changed, mask].map((count) => count.toLocaleString("en"));
    this.status.textContent = `${this.changesText()} changed. Whole scan: `
      + `${share} changed, ${some} of ${all} pixels (dotted: before). `
      + this.diceText(arrays.prediction, trained.prediction);
  }

  /** What is changed: a bar is one number of a gate. */
  changesText() {
    const each = Object.entries(this.state.changes).flatMap(([level, gates]) =>
      Object.entries(gates).map(([gate, value]) => {
        if (!Array.isArray(value)) return `the ${gate} gate of ${level}`;
        const count = value.filter((bar) => bar !== null).length;
        return `${count} bar${count === 1 ? "" : "s"} of ${level}`;
      }));
    const text = each.length > 2 ? `${each.length} gates` : each.join(" and ");
    return text[0].toUpperCase() + text.slice(1);
  }

  /** Dice of each class with the reference; with `before`, from that to this. */
  diceText(prediction, before) {
    const { label } = this.state.arrays;
    if (!label) return "";
    const value = ({ data }, k) => {
      const dice = diceOf(data, label.data, k);
      return Number.isNaN(dice) ? "–" : dice.toFixed(3);
    };
    const each = this.state.classes.map(({ name }, i) =>
      `${name} ${before ? `${value(before, i + 1)} → ` : ""}${value(prediction, i + 1)}`);
    return `Dice with the reference${before ? "" : ", whole scan"}: ${each.join(", ")}.`;
  }
}
