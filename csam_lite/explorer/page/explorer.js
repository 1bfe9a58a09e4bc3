// The attention explorer in the browser: puts the panels together, for the notebook widget and for the saved
// page. It uses no library and asks nothing of a network.
//
// script.py joins the files of this folder into one script. Therefore each import starts a line and renames
// nothing.

import { ChannelPanel, StackPanel, TablePanel } from "./bars.js";
import { isDark, make, swatch } from "./canvas.js";
import { ChangePanel } from "./change.js";
import { CutPanel } from "./cuts.js";
import { bytesOfBuffer, bytesOfText, pause, unpack } from "./data.js";
import { Engine } from "./engine.js";
import { Kernel } from "./kernel.js";
import { MapPanel, UncertaintyPanel } from "./maps.js";
import { packedGates } from "./other.js";
import { ScalesPanel } from "./scales.js";
import { SlicePanel } from "./slice.js";
import { State } from "./state.js";
import { TaskPanel } from "./task.js";
import { Tour } from "./tour.js";
import { canDraw, DrawButton } from "./uncertainty.js";
import { wordsOf } from "./words.js";

/** The panel that shows a gate is chosen by the gate's axes. */
function gatePanel(state, gate) {
  if (gate.axes === "C") return new ChannelPanel(state, gate);
  if (gate.axes === "S") return new StackPanel(state, gate);
  return gate.axes.endsWith("HW") ? new MapPanel(state, gate) : new TablePanel(state, gate);
}

export class Explorer {
  /**
   * root: an empty element. data: from `unpack`. engine: answers interventions, see ChangePanel; null where
   * there is none.
   */
  constructor(root, data, engine) {
    Object.assign(this, { root, engine });
    const state = this.state = new State(data), { arrays, description } = state;
    state.canAsk = Boolean(engine);
    this.slice = new SlicePanel(state);
    this.change = new ChangePanel(state, engine);
    this.cuts = ["coronal", "sagittal"].map((kind) => new CutPanel(state, kind));
    this.stop = new AbortController();
    if (arrays.uncertainty || canDraw(engine)) this.cuts.push(new UncertaintyPanel(state));
    if (canDraw(engine) && !arrays.uncertainty) {
      const { element, status } = this.change, tell = (line) => (status.textContent = line);
      const button = new DrawButton(state, engine, this.stop.signal, tell);
      element.querySelector(".controls").append(button.element);
    }
    const { levels } = state, all = levels.flatMap((level) => level.gates);
    const gates = new Map(all.map((gate) => [`${gate.name} ${gate.axes}`, gate])); // each once
    this.gates = [...gates.values()].map((gate) => gatePanel(state, gate));
    const scales = levels.length > 1 ? [new ScalesPanel(state)] : [];
    // A bar of the stack is dragged while its slice is watched, so that both must be on the screen together.
    const stacks = this.gates.filter((panel) => panel instanceof StackPanel);
    this.gates.find((panel) => panel instanceof MapPanel)?.element.classList.add("tall");
    const canSolve = engine && arrays.label && state.S > 1 && stacks.length;
    const task = canSolve ? [new TaskPanel(state, stacks[0].name, engine)] : [];
    const beside = this.gates.map((panel) => panel.aside || panel.element);
    this.stack = canSolve ? stacks[0] : null; // of the task and the tour
    this.panels = [this.slice, ...this.cuts, ...scales, ...this.gates, this.change];

    root.classList.add("csam-explorer");
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", `Attention explorer, ${description.title}`);
    root.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes the arrow keys
    const elements = (panels) => panels.map(({ element }) => element);
    const classes = state.classes.map(({ name, colour }) => make("span", {}, swatch("dot", colour), name));
    root.replaceChildren(
      make("header", {}, make("strong", { textContent: description.title }),
        make("div", { className: "classes" }, ...classes)),
      make("div", { className: "columns" },
        make("section", { className: "views" }, this.slice.element, ...elements(stacks)),
        make("div", { className: "beside" },
          make("section", { className: "change" }, this.change.element, ...elements(task)),
          make("section", { className: "cuts" }, ...elements(this.cuts))),
        this.slice.settings,
        make("section", { className: "gates" }, ...elements(scales), ...beside)),
      this.help(), this.words());
    this.listen();
    this.setTheme();
    state.changed("level", "shown");
    // milliseconds after the page was asked for, for the tests: once all is drawn
    state.soon(() => (this.opened = performance.now()));
  }

  /** What keys and mouse do. */
  help() {
    const { state, gates } = this;
    const namesOf = (Panel) => gates.filter((panel) => panel instanceof Panel).map(({ name }) => name);
    const stacks = state.canAsk ? namesOf(StackPanel) : [];
    const lines = [
      "slice: slider, mouse wheel, arrow keys, Page Up and Page Down, Home and End; "
        + "a click on a strip or a bar",
      "cross (where the strips cut): click on the slice or a map, or the keys w, a, s and d",
      "magnify: Ctrl with the wheel, two fingers, or + and -; 0 goes back; the middle button moves it",
      "window and level: drag with the right button, or Shift with arrow keys; double click or r resets",
      ...namesOf(ChannelPanel).map((name) =>
        `${name} gate: move over a bar, or left and right, to see that channel's feature map`),
      ...stacks.map((name) => `${name} gate: drag a bar up or down, or up and down keys, to change it`),
      ...(state.canAsk ? ["u: undo the last change; hold b: the prediction before all changes"] : []),
      ...(state.arrays.label ? ["white lines: the reference; coloured lines and fill: the prediction"] : []),
      "masks in more than 4000 pieces of a line, as of an untrained network, are filled but not outlined",
    ];
    const list = make("ul", {}, ...lines.map((text) => make("li", { textContent: text })));
    return make("details", { className: "help" }, make("summary", { textContent: "Keys and mouse" }), list);
  }

  /** What the words of this page mean. */
  words() {
    const items = wordsOf(this.state).map(([word, meaning]) => make("li", {}, make("b", {}, word), `: ${meaning}`));
    const properties = { className: "help", "data-part": "words" };
    return make("details", properties, make("summary", {}, "Words"), make("ul", {}, ...items));
  }

  listen() {
    const { state } = this, { signal } = this.stop;
    const on = (target, names, listener, options = {}) => {
      for (const name of names.split(" ")) target.addEventListener(name, listener, { signal, ...options });
    };
    // else a notebook would take keys that are meant for a slider or a list
    on(this.root, "keydown", (event) => event.stopPropagation());
    on(this.root, "keydown keyup", (event) => this.key(event));
    on(this.root, "focusout", ({ relatedTarget }) => {
      if (!this.root.contains(relatedTarget)) state.setBefore(false);
    });
    for (const panel of this.panels) panel.listen?.(on);
    for (const { picture } of this.panels.filter(({ overSlice }) => overSlice)) {
      on(picture.element, "pointermove pointerdown", (event) => {
        const [x, y] = picture.at(event), isInside = x >= 0 && y >= 0 && x < state.W && y < state.H;
        this.slice.point(isInside ? [x, y] : null);
        if (event.type === "pointerdown" && event.button === 0) state.setCross(x, y);
      });
      // a finger that is lifted goes on pointing
      on(picture.element, "pointerleave", ({ pointerType }) => pointerType !== "touch" && this.slice.point(null));
    }
    const theme = () => this.setTheme();
    on(globalThis.matchMedia("(prefers-color-scheme: dark)"), "change", theme);
    const body = new MutationObserver(theme);
    body.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "class"] });
    this.inks = this.panels.flatMap(({ inks }) => inks);
    const fits = new Map(this.inks.map((ink) => [ink.canvas, () => ink.fit()]));
    const size = new ResizeObserver((changes) => {
      for (const { target } of changes) state.soon(fits.get(target));
    });
    this.inks.forEach((ink) => size.observe(ink.canvas));
    signal.addEventListener("abort", () => { body.disconnect(); size.disconnect(); });
  }

  /** The keys that count wherever the focus is. */
  key(event) {
    const { state } = this;
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches("select")) return;
    if (event.key === "b") state.setBefore(event.type === "keydown" && state.isChanged);
    else if (event.key === "u" && event.type === "keydown") state.undo();
  }

  setTheme() {
    this.root.dataset.theme = isDark(document) ? "dark" : "light";
    const style = getComputedStyle(this.root), { state } = this, { colours } = state;
    for (const name of ["ink", "soft", "bar", "mark"])
      colours[name] = style.getPropertyValue(`--csam-${name}`).trim();
    for (const ink of this.inks) state.soon(() => ink.redraw());
  }

  close() { this.stop.abort(); }
}

/** engineOf: from what is unpacked to the engine. What cannot be read is shown as a line, never as a blank. */
async function open(root, packed, engineOf) {
  try {
    const data = await unpack(packed);
    await pause();
    const engine = engineOf(data);
    await pause();
    return (root.explorer = new Explorer(root, { ...data, other: packedGates(data) }, engine));
  } catch (error) {
    root.textContent = `The explorer could not open: ${error.message || error}. `
      + "It needs a browser of 2023 or newer.";
    console.error(error);
    return null;
  }
}

/** The saved page. */
export async function openPage() {
  const text = document.getElementById("packed").textContent;
  const packed = Uint8Array.fromBase64 ? Uint8Array.fromBase64(text) : bytesOfText(atob(text));
  const explorer = await open(document.getElementById("explorer"), packed, networkInside);
  // the page is the explorer's alone: its keys count after a click beside it, too
  for (const name of ["keydown", "keyup"])
    addEventListener(name, (event) => event.target === document.body && explorer?.key(event));
  // what goes wrong is told by ChangePanel
  explorer?.engine?.take(explorer.state).then((maps) => explorer.state.setMaps(maps), () => {});
  if (explorer?.stack && explorer.state.arrays.label.data.some(Boolean)) explorer.tour = new Tour(explorer, explorer.stack);
}

/** The engine of a saved page; null where it was saved without the network. */
function networkInside(data) {
  if (!data.arrays.input) return null;
  return new Engine();
}

/** The notebook widget, as anywidget wants it. */
export default {
  render({ model, el }) {
    const root = el.appendChild(make("div", { textContent: "opening …" }));
    const kernel = new Kernel((question) => model.send(question));
    const hear = (message, buffers) => kernel.hear(message, buffers);
    model.on("msg:custom", hear);
    const opened = open(root, bytesOfBuffer(model.get("packed")), () => kernel);
    return () => {
      model.off("msg:custom", hear);
      kernel.close();
      opened.then((explorer) => explorer?.close());
    };
  },
};
