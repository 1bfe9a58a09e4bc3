// The network behind the page: the worker that runs it, and what the explorer asks of it.

/** The text of a part of the page. */
const partOf = (id) => document.getElementById(id).textContent;

export class Engine {
  /** Start the worker of this page and bring up the network. */
  constructor() {
    Object.assign(this, { asked: 0, waiting: new Map() });
    this.facts = JSON.parse(partOf("facts"));
    const script = new Blob([partOf("runtime"), "\n", partOf("worker")], { type: "text/javascript" });
    const url = URL.createObjectURL(script);
    try {
      this.worker = new Worker(url);
      this.worker.onmessage = ({ data }) => this.hear(data);
      this.worker.onerror = (event) => this.fail(event.message || "the browser did not start the worker");
    } catch (error) {
      this.fail(error.message);
    }
    this.ready = this.ask("start", { wasm: partOf("wasm"), onnx: partOf("onnx"), facts: this.facts });
    this.ready.catch((error) => this.fail(error.message)).finally(() => URL.revokeObjectURL(url));
  }

  /**
   * A promise of the worker's result of this job, rejected with a line for the reader. progress(line):
   * meanwhile.
   */
  ask(kind, given = {}, progress = () => {}) {
    if (this.broken) return Promise.reject(new Error(this.broken));
    const id = ++this.asked;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, progress });
      this.worker.postMessage({ id, kind, ...given });
    });
  }

  /** Take the volume of a page that Python wrote, so that it can be asked about; gives its feature maps. */
  async take({ description: { field }, arrays: { image, input } }) {
    const { arrays } = await this.ask("take", { x: input.data, field, volume: image.shape.slice(1) });
    return arrays;
  }

  /** For the explorer: a promise of {description, arrays} with these gates replaced (see State.setChange). */
  answer(gates) { return this.ask("ask", { gates }); }

  hear({ id, result, error, progress }) {
    const question = this.waiting.get(id);
    if (!question) return;
    if (progress) { question.progress(progress); return; }
    this.waiting.delete(id);
    if (error) question.reject(new Error(error));
    else question.resolve(result);
  }

  /** Nothing more can be asked. */
  fail(reason) {
    this.broken ??= `The network does not run in this browser (${reason}); it needs one of 2023 or newer.`;
    for (const { reject } of this.waiting.values()) reject(new Error(this.broken));
    this.waiting.clear();
  }
}
