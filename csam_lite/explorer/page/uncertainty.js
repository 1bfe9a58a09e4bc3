// The uncertainty on demand: a button that has the network in the page draw its slice gates again and again.

import { make } from "./canvas.js";

const DRAWS = 20;

/** Whether the network of this engine can draw gates; a kernel has drawn them already. */
export const canDraw = (engine) => Boolean(engine?.facts?.gates.some(({ normal }) => normal.mean));

export class DrawButton {
  /** tell(line): says what goes wrong. signal: aborted where another scan has taken the place of this one. */
  constructor(state, engine, signal, tell) {
    Object.assign(this, { state, engine, signal, tell });
    this.element = make("button", { type: "button", "data-part": "draw" });
    this.element.addEventListener("click", () => this.draw());
    this.show();
  }

  show(done) {
    this.element.disabled = done !== undefined;
    this.element.textContent = done === undefined ? `show the uncertainty (${DRAWS} draws)`
      : done < DRAWS ? `draw ${done + 1} of ${DRAWS} …` : "the uncertainty is below";
  }

  /** Draw the gates again and again, and show how much the probabilities differ. */
  async draw() {
    try {
      for (let done = 0; done < DRAWS; done++) {
        this.show(done);
        const found = await this.engine.ask("draw", { isFirst: !done, count: DRAWS });
        if (this.signal.aborted) return;
        if (found) this.state.setUncertainty(found);
      }
      this.show(DRAWS);
    } catch (error) {
      this.tell(error.message);
      this.show();
    }
  }
}
