// Questions to the kernel: what does the network answer with these gates replaced? The last wish wins, one question at a time.

import { unpack } from "./data.js";

const PATIENCE = 30000; // milliseconds
let numbered = 0; // for the ids of questions: several explorers may share a page, and a widget may be shown in two cells

export class Kernel {
  /** ask(question): sends it. state.changes is what is asked. heard(description of the answer or null, trouble or null) follows. */
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
      const bytes = buffers[0];
      const { description, arrays } = await unpack(new Uint8Array(bytes.buffer || bytes, bytes.byteOffset || 0, bytes.byteLength));
      this.waiting = false;
      this.state.setAnswer(arrays);
      this.heard(description, null);
    }
    if (this.again) this.request();
  }

  close() { clearTimeout(this.patience); }
}
