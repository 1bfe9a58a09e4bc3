// Questions to the kernel of a notebook: what does the network answer with these gates replaced?

import { bytesOfBuffer, unpack } from "./data.js";

const PATIENCE = 30000; // milliseconds
let numbered = 0; // for the ids of questions: a page may hold several explorers, two cells the same widget

export class Kernel {
  /** send(question): takes {id, gates} to the kernel. */
  constructor(send) {
    Object.assign(this, { send, id: ++numbered, asked: 0, questions: new Map() });
  }

  /**
   * What the network answers with these gates (see State.setChange) replaced: a promise of {description,
   * arrays}, which is rejected, with a line for the reader, where there is no answer.
   */
  answer(gates) {
    const id = `${this.id}.${Date.now()}.${++this.asked}`;
    return new Promise((resolve, reject) => {
      const trouble = new Error("No answer from the kernel. Run the cell again.");
      const silence = () => this.settle(id, () => reject(trouble));
      this.questions.set(id, { resolve, reject, patience: setTimeout(silence, PATIENCE) });
      this.send({ id, gates });
    });
  }

  settle(id, end) {
    const question = this.questions.get(id);
    if (!question) return; // of another explorer, or too late
    clearTimeout(question.patience);
    this.questions.delete(id);
    end(question);
  }

  /** A message from the kernel. */
  hear(message, buffers) {
    this.settle(message.id, ({ resolve, reject }) => {
      if (message.kind === "error") reject(new Error(`The network could not answer: ${message.text}`));
      else resolve(unpack(bytesOfBuffer(buffers[0])));
    });
  }

  close() { for (const id of this.questions.keys()) this.settle(id, () => {}); }
}
