// A task to solve by hand: which one bar of the slice gate costs most Dice? The network checks the answer.

import { make } from "./canvas.js";
import { diceOf } from "./data.js";

export class TaskPanel {
  /** gate: the name of a gate with the axis S. engine: as in ChangePanel. */
  constructor(state, gate, engine) {
    Object.assign(this, { state, gate, engine });
    this.costs = new Map(); // name of the CSAM -> what each bar costs
    this.field = make("input", { type: "number", min: 1, max: state.S, "data-part": "task-answer" });
    this.button = make("button", { type: "submit", "data-part": "task-check" }, "check");
    this.verdict = make("p", {
      className: "status", role: "status", "aria-live": "polite", "data-part": "task-verdict" });
    const form = make("form", { className: "controls" },
      make("label", { className: "field" }, "slice", this.field), this.button);
    form.addEventListener("submit", (event) => { event.preventDefault(); this.check(); });
    this.element = make("details", { className: "task", "data-part": "task" },
      make("summary", {}, "Task: which one bar costs most Dice?"),
      make("p", {}, `Drag one bar of the ${gate} gate at this scale down to 0, read the Dice, and undo. `
        + "For which slice does the mean Dice fall most? The check shuts each bar in turn, "
        + "with all other gates as the network chose."),
      form, this.verdict);
  }

  /** Compare the answer with what the network says. */
  async check() {
    const { state, field, button } = this, { name } = state.level, answer = Number(field.value) - 1;
    if (!Number.isInteger(answer) || answer < 0 || answer >= state.S) {
      this.verdict.textContent = `Give a slice from 1 to ${state.S}.`;
      return;
    }
    button.disabled = true;
    try {
      if (!this.costs.has(name)) this.costs.set(name, await this.costOfEachBar(name));
      this.verdict.textContent = this.judge(this.costs.get(name), answer);
    } catch (error) {
      this.verdict.textContent = error.message;
    }
    button.disabled = false;
  }

  /** The mean Dice that is lost where the bar of one slice is 0, for each slice. */
  async costOfEachBar(name) {
    const { state, gate, engine } = this, before = this.meanDice(state.trained.prediction), costs = [];
    for (let s = 0; s < state.S; s++) {
      this.verdict.textContent = `asking the network: ${s + 1} of ${state.S} …`;
      const list = Array(state.S).fill(null).with(s, 0);
      const { arrays } = await engine.answer({ [name]: { [gate]: list } });
      costs.push(before - this.meanDice(arrays.prediction));
    }
    return costs;
  }

  meanDice({ data }) {
    const { classes, arrays: { label } } = this.state;
    const each = classes.map((_, i) => diceOf(data, label.data, i + 1)).filter(Number.isFinite);
    return each.reduce((a, b) => a + b, 0) / each.length;
  }

  judge(costs, answer) {
    const most = Math.max(...costs), cost = costs[answer].toFixed(3), slice = answer + 1;
    if (most < 0.0005) return "At this scale no single bar costs Dice. Try another scale.";
    if (costs[answer] < most - 1e-9)
      return `Shutting the bar of slice ${slice} costs ${cost} of mean Dice. Another costs more; try again.`;
    const second = Math.max(...costs.filter((_, s) => s !== answer));
    return `Right: shutting the bar of slice ${slice} costs ${cost} of mean Dice. `
      + `The second dearest costs ${second.toFixed(3)}.`;
  }
}
