// The guided tour of a saved page: six steps for a visitor who knows nothing. A step waits for the reader's own
// action, or does it when asked. Every number that it tells is counted in the page, in what the reader sees.

import { make } from "./canvas.js";
import { plain, plane, windowOf } from "./data.js";

const ENOUGH = 5;      // slices that a reader looks at in the first step
const SHUT = 0.03;     // a bar that is dragged so low counts as shut
const FOUND = 0.5;     // Dice from which on the network has found the organ in a slice
const WORTH = 0.2;     // Dice that a bar must cost to be worth a tour

const times = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
const partsOf = (classes) => (classes.length > 1
  ? ` (${classes.map(({ name }) => name).join(" and ")} are its parts)` : "");
const rimOf = (letters) => (letters && "AP".includes(letters.top)
  ? " At its rim, A is the front of the body, P its back, and R and L are its right and left." : "");
const whichOf = (letters, { slice, beyond }) => (letters?.down === "I" && beyond !== null
  ? `, its ${beyond < slice ? "lowest" : "highest"},` : "");
const two = (value) => (Number.isNaN(value) ? "–" : value.toFixed(2));

/**
 * The steps as data. Each has a title; tell(tour): its paragraphs; todo(tour): what the reader does; isDone(tour);
 * act(tour): does it for the reader; points(tour): the elements meant; enter(tour), if any: what must be true.
 */
const STEPS = [
  {
    title: "Scroll",
    tell: ({ state: { S, spacing, letters, description: { unit, tour } } }) => [
      ...(tour ? [tour.intro] : []),
      `A scan is a stack of pictures, called slices: here ${S}`
        + `${unit === "mm" ? `, one every ${plain(spacing[0])} mm` : ""}. You see one of them.${rimOf(letters)}`],
    todo: ({ seen }) => "Move the slider under the picture, or turn the mouse wheel over the picture, or click "
      + `it and press the arrow keys. Look at ${ENOUGH} slices; ${seen.size} so far.`,
    isDone: ({ seen, state }) => seen.size >= Math.min(ENOUGH, state.S),
    act: (tour) => tour.walk(),
    points: ({ parts }) => [parts.slice],
  },
  {
    title: "See the ends",
    tell: ({ state: { classes, letters }, goal }) => [
      "The coloured areas are a mask: they say where a network, a program that has learned from examples, believes the "
        + `organ to be${partsOf(classes)}. The white lines, the reference, show where it really is. The network `
        + "never saw them.",
      `The organ ends between two slices: slice ${goal.slice + 1}${whichOf(letters, goal)} still holds it`
        + `${goal.beyond === null ? "." : `, slice ${goal.beyond + 1} does not. The pictures there look `
        + "alike, so that the ends are what is hardest."}`],
    todo: ({ goal }) => (goal.beyond === null ? `Go to slice ${goal.slice + 1}.`
      : `Go to slice ${goal.slice + 1}, and then to slice ${goal.beyond + 1}.`),
    isDone: ({ seen, goal }) => seen.has(goal.slice) && (goal.beyond === null || seen.has(goal.beyond)),
    act: (tour) => tour.showEnd(),
    enter: (tour) => tour.seen.clear(),
    points: ({ parts }) => [parts.slice],
  },
  {
    title: "Look at the slice gate",
    tell: ({ state: { S, levels, level }, gateValue, goal, isFound }) => [
      `The ${S} bars are a gate: one number for each slice, from 0 (shut) to 1 (open). What the network has `
        + "found in a slice is multiplied by the number of its bar before it goes on.",
      "The network chooses the numbers itself, after a look at all slices. This is what “attention across "
        + `slices” means. ${levels.length > 1 ? `It has ${levels.length} such gates. ` : ""}`
        + `${isFound ? `This page has tried them: slice ${goal.slice + 1} needs most the one called ${level.name}, which`
          : `This page is trying them. This one, called ${level.name},`} lets `
        + `${Math.round(100 * gateValue)} % of slice ${goal.slice + 1} pass.`],
    todo: ({ goal, isFound, state }) => (!isFound && state.slice === goal.slice
      ? "One moment: the page still tries which gate this slice needs most …"
      : `Click the bar of slice ${goal.slice + 1}. (Keyboard: Tab to the bars, then left and right.)`),
    isDone: ({ state, goal, isFound }) => isFound && state.slice === goal.slice,
    act: ({ state, goal }) => state.setSlice(goal.slice),
    enter: (tour) => tour.chooseLevel(),
    points: ({ parts }) => [parts.bars],
  },
  {
    title: "Shut it",
    tell: ({ goal }) => [
      `What is that one number worth? Change it and see. You are about to shut slice ${goal.slice + 1} at this `
        + "gate, and nothing else.",
      "The network is inside this page. It looks at the whole scan again and gives a new mask."],
    todo: ({ goal }) => `Drag the bar of slice ${goal.slice + 1} down to 0. (Keyboard: on the bars, press the `
      + "down key until it says 0.)",
    isDone: (tour) => tour.isShut && !tour.change.busy,
    act: (tour) => tour.shut(),
    enter: (tour) => { tour.chooseLevel(); tour.state.setSlice(tour.goal.slice); },
    points: ({ parts }) => [parts.bars, parts.slice],
  },
  {
    title: "See the mask fail",
    tell: (tour) => {
      const { goal: { slice }, state: { S } } = tour, { before, now } = tour.count(slice);
      return [
        `In slice ${slice + 1} the mask had ${times(before.size, "pixel")} and now has `
          + `${now.size.toLocaleString("en")}. Its overlap with the white lines, from 0 (none) to 1 (the same), is `
          + `called Dice: it went from ${two(before.dice)} to ${two(now.dice)}. (Dotted: the mask before.)`,
        `In the other ${S - 1} slices, ${times(now.elsewhere, "pixel")} changed. `
          + (before.dice - now.dice >= WORTH ? "So what passes this gate is what the network needs to find the "
            + "organ at its end. A gate that can be shut without harm would be decoration."
            : "So this gate is worth little in this slice.")];
    },
    todo: () => "Hold down the button “before”, or the key b, to see the mask as it was. Let it go again.",
    isDone: ({ sawBefore, state }) => sawBefore && !state.before,
    act: (tour) => tour.flash(),
    enter: (tour) => {
      tour.sawBefore = false;
      tour.chooseLevel();
      tour.state.setSlice(tour.goal.slice);
      if (!tour.isShut) tour.shut();
    },
    points: ({ parts }) => [parts.slice, parts.before],
  },
  {
    title: "Put it back",
    tell: (tour) => {
      const { isChanged } = tour.state, { all } = tour.count(tour.goal.slice).now;
      if (isChanged || tour.change.busy) return [
        "Take your change back. If it was only this one number that did the harm, the mask must come back as "
          + "it was, in every pixel."];
      const { length } = tour.state.trained.prediction.data;
      return [`The mask is back: ${all.toLocaleString("en")} of ${times(length, "pixel")} `
        + "differ from the mask at the start.",
      "That was the tour: you changed one number inside a network and saw what it is worth. Go on by yourself: "
        + "drag other bars, choose another gate in the list of scales, or try the task “which one bar costs most "
        + "Dice?”"];
    },
    todo: () => "Press the button “reset all gates”.",
    isDone: ({ state, change }) => !state.isChanged && !change.busy,
    act: ({ state }) => state.clearChanges(),
    points: ({ parts }) => [parts.slice, parts.reset],
  },
];

export class Tour {
  /** stack: the panel whose bars are dragged. change: the ChangePanel. engine: answers interventions. */
  constructor({ root, state, change, engine }, stack) {
    Object.assign(this, { root, state, change, engine, stack, at: -1, seen: new Set(), sawBefore: false,
      isFound: false });
    const part = (name) => root.querySelector(`[data-part="${name}"]`);
    this.parts = { slice: part("slice"), bars: stack.ink.canvas, before: part("before"), reset: part("reset-gates") };
    this.open = make("button", { type: "button", "data-part": "tour-open" }, "guided tour");
    this.open.addEventListener("click", () => this.start());
    root.querySelector("header").append(this.open);
    this.panel = this.makePanel();
    root.querySelector(".beside").prepend(this.panel);
    state.on("slice before", () => this.see(), { atOnce: true });
    state.on("slice before changes answer level", () => this.look());
    addEventListener("keydown", (event) => this.key(event), { capture: true }); // the explorer keeps its own
    const { hash } = location;
    if (hash ? hash === "#tour" : state.description.tour) this.start(false);
    addEventListener("hashchange", () => { if (location.hash === "#tour") this.start(); });
  }

  makePanel() {
    const button = (part, listener) => {
      const element = make("button", { type: "button", "data-part": `tour-${part}` });
      element.addEventListener("click", listener);
      return element;
    };
    this.title = make("h2", { tabIndex: -1 });
    this.text = make("div", { "data-part": "tour-text" });
    this.todo = make("p", { className: "todo", role: "status", "aria-live": "polite", "data-part": "tour-todo" });
    this.back = button("back", () => this.go(this.at - 1));
    this.next = button("next", () => this.forward());
    this.leave = button("leave", () => this.stop());
    this.back.textContent = "back (p)";
    this.leave.textContent = "leave (Esc)";
    const told = make("div", { "aria-live": "polite" }, this.title, this.text);
    const properties = { className: "tour", hidden: true, "aria-label": "Guided tour", "data-part": "tour" };
    const controls = make("div", { className: "controls" }, this.back, this.next, this.leave);
    return make("section", properties, told, this.todo, controls);
  }

  get step() { return STEPS[this.at]; }
  get isDone() { return this.step.isDone(this); }

  /** Begin with the gates as trained. takesFocus: the reader asked for it. */
  async start(takesFocus = true) {
    const { state, root } = this;
    this.panel.hidden = false;
    this.open.hidden = true;
    root.classList.add("touring");
    const box = root.querySelector('[data-part="every-level"]');
    box.checked = state.everyLevel = false;
    if (state.isChanged) state.clearChanges();
    this.seen.clear();
    this.goal ??= this.findEnds()[0]; // until it is known what each bar costs
    this.go(0, takesFocus);
    this.searching ??= this.search().catch(() => this.look());
  }

  stop() {
    this.panel.hidden = true;
    this.open.hidden = false;
    this.root.classList.remove("touring");
    this.point([]);
    this.at = -1;
    this.open.focus();
  }

  go(to, takesFocus = true) {
    if (to < 0) return;
    if (to >= STEPS.length) { this.stop(); return; }
    this.at = to;
    this.step.enter?.(this);
    this.see();
    this.look();
    const points = this.step.points(this);
    this.point(points);
    for (const element of [...points].reverse()) element.scrollIntoView({ block: "nearest" });
    if (takesFocus) this.title.focus({ preventScroll: true });
  }

  /** On to the next step, or do what this one waits for. */
  forward() {
    if (this.isDone) this.go(this.at + 1);
    else { this.step.act(this); this.look(); }
  }

  key(event) {
    const { target, key } = event, { root } = this;
    const isHere = root.contains(target) || target === document.body;
    if (this.at < 0 || !isHere || event.altKey || event.ctrlKey || event.metaKey) return;
    if (key === "Escape") this.stop();
    else if (target.matches("select")) return; // there letters choose
    else if (key === "n") this.forward();
    else if (key === "p") this.go(this.at - 1);
    else return;
    event.preventDefault();
  }

  /** A slice is seen, or the prediction before all changes. */
  see() {
    this.seen.add(this.state.slice);
    if (this.state.before) this.sawBefore = true;
  }

  /** Write what is true now. Words that stay are not written anew, because a screen reader would say them. */
  look() {
    if (this.at < 0) return;
    const { step, at, isDone } = this, write = (element, text) => {
      if (element.textContent !== text) element.textContent = text;
    };
    write(this.title, `${at + 1} of ${STEPS.length}: ${step.title}`);
    const paragraphs = step.tell(this);
    if (this.text.textContent !== paragraphs.join(""))
      this.text.replaceChildren(...paragraphs.map((text) => make("p", {}, text)));
    const last = at === STEPS.length - 1, done = last ? "" : "Done. Go on with “next”.";
    const broken = at > 2 && this.engine.broken;
    write(this.todo, broken || (isDone ? done : step.todo(this)));
    this.panel.classList.toggle("done", isDone);
    write(this.next, `${!isDone ? "show me" : last ? "end" : "next"} (n)`);
    this.back.disabled = at === 0;
  }

  /** Have the reader see which elements are meant. */
  point(elements) {
    for (const old of this.root.querySelectorAll(".pointed")) old.classList.remove("pointed");
    for (const element of elements) element.classList.add("pointed");
  }

  // What the steps ask and do.

  /** The last slices that hold the organ at either end, as {slice, beyond: the next slice outside, or null}. */
  findEnds() {
    const { state } = this, { S } = state, size = (s) => this.pixels("label", s).filter(Boolean).length;
    const held = [...Array(S).keys()].filter(size), [first, last] = [held[0], held.at(-1)];
    return [[first, first - 1], [last, last + 1]].map(([slice, beyond]) =>
      ({ slice, beyond: beyond >= 0 && beyond < S ? beyond : null, level: 0 }));
  }

  /** Find the bar at an end of the organ that is worth a look: shut each, at all scales, and measure. */
  async search() {
    const { state, stack: { name: gate }, engine } = this;
    let most = -1, found = this.goal;
    const at = this.goal;
    for (const end of this.findEnds()) {
      const { slice } = end, before = this.dice(state.trained.prediction, slice);
      if (!(before >= FOUND)) continue;
      for (const [level, { name, gates }] of state.levels.entries()) {
        if (!gates.some((other) => other.name === gate)) continue;
        const shut = { [name]: { [gate]: Array(state.S).fill(null).with(slice, 0) } };
        const { arrays } = await engine.answer(shut);
        const cost = before - this.dice(arrays.prediction, slice);
        if (cost <= most) continue;
        [most, found] = [cost, { ...end, level }];
      }
      if (most >= WORTH) break; // the other end need not be asked
    }
    [this.goal, this.isFound] = [found, true];
    if (this.at >= 2 || this.goal.slice !== at.slice) this.go(this.at, false);
    else this.look();
  }

  pixels(name, slice) { return plane(this.state.arrays[name].data, this.state.volume, "slice", slice); }

  /** Dice of a prediction with the reference in one slice, all classes as one; NaN where both are empty. */
  dice({ data }, slice) {
    const mask = plane(data, this.state.volume, "slice", slice), label = this.pixels("label", slice);
    let both = 0, sum = 0;
    for (let i = 0; i < mask.length; i++) {
      both += mask[i] > 0 && label[i] > 0;
      sum += (mask[i] > 0) + (label[i] > 0);
    }
    return (2 * both) / sum;
  }

  /** What changed in a slice, elsewhere and in all, in pixels; and the Dice in the slice. */
  count(slice) {
    const { state } = this, { prediction } = state.arrays, { prediction: trained } = state.trained;
    if (this.counted?.of === prediction && this.counted.slice === slice) return this.counted;
    const size = ({ data }) => plane(data, state.volume, "slice", slice).reduce((n, k) => n + (k > 0), 0);
    const each = state.H * state.W, start = slice * each;
    let here = 0, all = 0;
    prediction.data.forEach((k, i) => {
      if (k === trained.data[i]) return;
      all++;
      here += i >= start && i < start + each;
    });
    return (this.counted = {
      of: prediction, slice,
      before: { size: size(trained), dice: this.dice(trained, slice) },
      now: { size: size(prediction), dice: this.dice(prediction, slice), here, all, elsewhere: all - here },
    });
  }

  /** The trained gate of the slice of the tour. */
  get gateValue() {
    const { state, stack, goal: { slice } } = this, window = windowOf(slice, state.windows);
    const values = state.trained[stack.gate.arrays.values[window]];
    return values.data[slice - state.windows[window][0]];
  }

  chooseLevel() {
    const { state, goal: { level }, root } = this;
    if (state.levelIndex === level) return;
    state.setLevel(level);
    const radio = root.querySelector(`[data-part="level-${level}"]`);
    if (radio) radio.checked = true;
  }

  get isShut() {
    const { state, stack, goal } = this, wish = state.changes[state.levels[goal.level].name]?.[stack.name];
    return wish === "zero" || (Array.isArray(wish) && wish[goal.slice] !== null && wish[goal.slice] <= SHUT);
  }

  shut() { this.stack.lift(this.goal.slice, 0); }

  /** Show the slices one by one. */
  walk() {
    const { state } = this, middle = this.goal.slice;
    const show = (left) => {
      if (this.at !== 0 || !left) return;
      state.setSlice(state.slice + 1 < state.S ? state.slice + 1 : middle);
      setTimeout(() => show(left - 1), 250);
    };
    show(ENOUGH);
  }

  /** Show the last slice of the organ, and then the one beyond. */
  showEnd() {
    const { state, goal: { slice, beyond }, at } = this;
    state.setSlice(slice);
    this.see();
    if (beyond !== null) setTimeout(() => this.at === at && state.setSlice(beyond), 1000);
  }

  /** Show the mask before all changes for a moment. */
  flash() {
    this.state.setBefore(true);
    setTimeout(() => this.state.setBefore(false), 1200);
  }
}
