// Questions to the kernel: what does the network answer with these gates replaced? One question at a time; of
// those that come while the kernel works, the last is asked.

import { bytesOfBuffer, unpack } from "./data.js";

const PATIENCE = 30000; // milliseconds
let numbered = 0; // for the ids of questions: a page may hold several explorers, two cells the same widget

export class Kernel {
  /**
   * ask(question): sends it, with state.changes. heard(description of the answer or null, trouble or null):
   * follows.
   */
  constructor(state, ask, heard) {
    Object.assign(this, { state, ask, heard, id: ++numbered, asked: null, waiting: false, again: false });
  }

  request() {
    if (this.waiting) { this.again = true; return; }
    this.again = false;
    this.waiting = true;
    this.patience = setTimeout(() => {
      this.waiting = false;
      this.heard(null, "No answer from the kernel. Run the cell again.");
    }, PATIENCE);
    this.asked = `${this.id}.${Date.now()}`;
    this.ask({ id: this.asked, gates: this.state.changes });
  }

  /** A message from the kernel. */
  async hear(message, buffers) {
    if (message.id !== this.asked) return;
    clearTimeout(this.patience);
    if (message.kind === "error") {
      this.waiting = false;
      this.heard(null, `The network could not answer: ${message.text}`);
    } else {
      const { description, arrays } = await unpack(bytesOfBuffer(buffers[0]));
      this.waiting = false;
      this.state.setAnswer(arrays);
      this.heard(description, null);
    }
    if (this.again) this.request();
  }

  close() { clearTimeout(this.patience); }
}
