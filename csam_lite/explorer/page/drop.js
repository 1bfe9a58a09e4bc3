// The page to drop a scan on: takes a NIfTI file, shows its mask in the explorer, saves the mask. The scan
// stays on the reader's computer: the page's rules (Content-Security-Policy) allow no request.

import { make } from "./canvas.js";
import { pause, plain } from "./data.js";
import { Engine } from "./engine.js";
import { Explorer } from "./explorer.js";
import { gatesOf } from "./other.js";

class DropPage {
  constructor(root) {
    this.engine = new Engine();
    this.facts = this.engine.facts;
    this.turn = 0; // a file that is dropped later overtakes
    const input = make("input", { type: "file", accept: ".nii,.gz", "data-part": "file" });
    input.addEventListener("change", () => { this.take(input.files[0]); input.value = ""; });
    const { channels, labels } = this.facts, wants = channels.join(" + ");
    const classes = Object.values(labels).join(", ");
    this.zone = make("label", { className: "zone", "data-part": "zone" },
      make("strong", {}, "Drop a scan here, or choose a file"),
      make("span", {}, `NIfTI (.nii or .nii.gz), ${wants}. The network marks ${classes}.`), input);
    const live = { className: "status", role: "status", "aria-live": "polite", "data-part": "progress" };
    this.status = make("p", live);
    this.choice = make("div", { className: "controls", hidden: true, "data-part": "choice" });
    this.volumes = make("span", { "data-part": "volumes" });
    this.save = make("button", { type: "button", "data-part": "save" }, "save the mask as NIfTI");
    this.save.addEventListener("click", () => this.saveMask());
    this.result = make("div", { className: "result", hidden: true }, this.volumes, this.save);
    this.explorer = make("div", { hidden: true });
    root.replaceChildren(this.zone, this.status, this.choice, this.result, this.explorer);
    addEventListener("dragover", (event) => { event.preventDefault(); this.zone.classList.add("over"); });
    addEventListener("dragleave", () => this.zone.classList.remove("over"));
    addEventListener("drop", (event) => {
      event.preventDefault();
      this.zone.classList.remove("over");
      this.take(event.dataTransfer.files[0]);
    });
    this.engine.ready.catch((error) => this.tell(error.message));
  }

  tell(line) { this.status.textContent = line; }

  /** Run `work(progress)` for the last file that was dropped; what goes wrong becomes a line. */
  async run(work) {
    const turn = ++this.turn, current = () => turn === this.turn;
    try {
      await work((line) => current() && this.tell(`${line} …`), current);
    } catch (error) {
      if (current()) this.tell(error.message);
    }
  }

  take(file) {
    if (!file) return this.tell("That is no file; drop one NIfTI file.");
    this.choice.hidden = true;
    return this.run(async (progress, current) => {
      const start = performance.now(), wanted = this.facts.channels.length;
      progress(`reading ${file.name}`);
      const { channels } = await this.engine.ask("read", { file });
      if (!current()) return;
      if (channels === wanted) await this.segment([...Array(channels).keys()], start, progress, current);
      else if (channels < wanted)
        this.tell(`${file.name}: has ${channels} channel(s), the network was trained on ${wanted} `
          + `(${this.facts.channels.join(", ")}); give one file with all of them`);
      else this.ask(file.name, channels);
    });
  }

  /** Ask which channels of the file are those of the network. */
  ask(name, count) {
    const options = () => Array.from({ length: count }, (_, value) =>
      make("option", { value }, `channel ${value + 1}`));
    const selects = this.facts.channels.map((channel, i) => {
      const select = make("select", { "data-part": `choose-${i}` }, ...options());
      select.selectedIndex = i;
      return [select, make("label", { className: "field" }, make("span", {}, channel), select)];
    });
    const go = make("button", { type: "button", "data-part": "choose" }, "segment");
    go.addEventListener("click", () => {
      const channels = selects.map(([select]) => Number(select.value));
      if (new Set(channels).size < channels.length) return this.tell("Choose each channel once.");
      this.choice.hidden = true;
      return this.run((progress, current) => this.segment(channels, performance.now(), progress, current));
    });
    this.choice.replaceChildren(...selects.map(([, label]) => label), go);
    this.choice.hidden = false;
    this.tell(`${name}: holds ${count} channels. Which of them does the network read?`);
  }

  async segment(channels, start, progress, current) {
    const { engine, facts } = this;
    const question = { channels, colours: facts.colours };
    const { description, arrays, remarks } = await engine.ask("segment", question, progress);
    if (!current()) return;
    for (const [name, rows] of Object.entries(facts.tables))
      arrays[name] = { data: Uint8Array.from(rows), shape: [256, 3] };
    const last = this.explorer.explorer, other = last && gatesOf(last.state, facts.slices.most);
    last?.close();
    this.explorer.hidden = this.result.hidden = false;
    const shown = this.explorer.explorer = new Explorer(this.explorer, { description, arrays, other }, engine);
    shown.state.on("answer", () => this.tellVolumes());
    await pause();
    if (!current()) return;
    this.tellVolumes();
    this.seconds = (performance.now() - start) / 1000;
    this.tell([`${description.title}: done in ${this.seconds.toFixed(1)} s.`, ...remarks].join(" "));
  }

  /** The volume of each class in the mask that is seen. */
  tellVolumes() {
    const { arrays: { prediction }, spacing, classes } = this.explorer.explorer.state;
    const voxel = spacing.reduce((product, mm) => product * mm, 1) / 1000, counts = new Uint32Array(256);
    for (const k of prediction.data) counts[k]++;
    const each = classes.map(({ name }, k) => `${name} ${plain(counts[k + 1] * voxel)} ml`);
    this.volumes.textContent = each.join(", ");
  }

  saveMask() {
    return this.run(async () => {
      const mask = this.explorer.explorer.state.arrays.prediction.data;
      const { bytes, name } = await this.engine.ask("save", { mask });
      const link = make("a", { href: URL.createObjectURL(new Blob([bytes])), download: name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60000);
      this.tell(`${name}: saved; it lies on the scan's own grid`);
    });
  }
}

/** The page itself. */
export function openDropPage() {
  const root = document.getElementById("drop");
  try {
    root.page = new DropPage(root);
  } catch (error) {
    root.textContent = `The page could not open: ${error.message || error}. `
      + "It needs a browser of 2023 or newer.";
    console.error(error);
  }
}
