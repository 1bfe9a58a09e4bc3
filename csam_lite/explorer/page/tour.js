// The guided tour of a saved page: six steps for a visitor who knows nothing. A step waits for the reader's own
// action, or does it when asked. Every number that it tells is counted in the page, in what the reader sees.

import { make, write } from "./canvas.js";
import { plain, plane, windowOf } from "./data.js";

const ENOUGH = 5;      // slices that a reader looks at in the first step
const STOP = 400;      // milliseconds after which a reader has stopped at a slice
const TWICE = 1000;    // milliseconds after a new step in which a click belongs to the step before
const SHUT = 0.03;     // a bar that is dragged so low counts as shut
const OPEN = 0.97;     // and one so high as open
const FOUND = 0.5;     // Dice from which on the network has found the organ in a slice
const WORTH = 0.2;     // Dice that a bar must cost to be worth a tour
const ALIKE = 0.01;    // a smaller difference in Dice is told as none
const MOMENT = "One moment: the network is looking at the scan again …";

const times = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
const partsOf = ({ classes, description: { tour } }) => tour?.parts
  || (classes.length > 1 ? `${classes.map(({ name }) => name).join(" and ")} are its parts.` : "");
const whichOf = (letters, { slice, beyond }) => (letters?.down === "I" && beyond !== null
  ? `, its ${beyond < slice ? "lowest" : "highest"},` : "");
const two = (value) => (Number.isNaN(value) ? "–" : value.toFixed(2));
// Keys are told where there are some: a telephone has none.
const keys = (text) => (matchMedia("(hover: none)").matches ? "" : text);

/** What the fifth step tells where the bar has this value, and no other is changed. */
function comparison({ goal: { slice }, state: { S, classes }, gateValue }, value, { before, now }) {
  const cost = before.dice - now.dice, chosen = two(gateValue);
  const better = cost > 0 ? "worse" : "better";
  const verdict = value <= SHUT
    ? (cost >= WORTH ? "So the number matters. It need not be the best one." : "So the number matters little here.")
    : value >= OPEN ? `With 1 the mask is ${Math.abs(cost) < ALIKE ? "as good here as" : `${better} here than`} with the `
      + `network's ${chosen}. One slice of one scan makes no rule.`
      : `Now its bar is at ${two(value)}. Drag it to 0, or to 1.`;
  return [
    `In slice ${slice + 1} the mask had ${times(before.size, "pixel")} and now has ${now.size.toLocaleString("en")} `
      + `(dotted: ${classes.length > 1 ? "its parts" : "the mask"} before). Dice is its overlap with the white lines, `
      + "from 0 (none) to 1 (the same). "
      + `It went from ${two(before.dice)} to ${two(now.dice)}.`,
    `In the other ${S - 1} slices, ${times(now.elsewhere, "pixel")} changed${now.elsewhere ? "" : ": a bar acts on its own "
      + `slice, though ${chosen} was computed from all`}. ${verdict}`];
}

/**
 * The steps as data. Each has a title; tell(tour): its paragraphs, null: those that stand there; todo(tour): what
 * the reader does; isDone(tour); act(tour): does it for the reader; points(tour): the elements meant. Some have
 * enter(tour): what must be true; waits(tour): whether nothing can be done yet; longest(tour): the paragraphs that
 * need most room; done(tour): what to do next.
 */
const STEPS = [
  {
    title: "Go through the slices",
    tell: ({ state: { S, spacing, description: { unit, tour } } }) => [
      ...(tour ? [tour.intro] : []),
      `A scan is a stack of pictures, called slices: here ${S}`
        + `${unit === "mm" ? `, one every ${plain(spacing[0])} mm` : ""}.`,
      "You need only what has a frame. “Words”, below, explains the rest."],
    todo: ({ seen }) => `Look at ${ENOUGH} slices (${seen.size} so far): move the slider under the picture`
      + `${keys(", or turn the mouse wheel over it")}.`,
    isDone: ({ seen, state }) => seen.size >= Math.min(ENOUGH, state.S),
    act: (tour) => tour.walk(),
    points: ({ parts }) => [parts.slice, parts.slider],
  },
  {
    title: "See an end",
    tell: ({ state, state: { classes, description: { tour } }, goal, otherEnd }) => [
      "The colours are a mask: they say where a network, a program that learned from examples, believes the organ "
        + `to be. ${partsOf(state)} The white lines, the reference, show where `
        + `${classes.length > 1 ? "they really are" : "it really is"}.`,
      `The organ ends here: slice ${goal.slice + 1}${whichOf(state.letters, goal)} still holds it`
        + `${goal.beyond === null ? "." : `, slice ${goal.beyond + 1} does not. ${tour?.ends || ""}The pictures look `
        + "alike: so the ends are hardest."}`
        + (otherEnd ? ` The other end is between slices ${otherEnd.slice + 1} and ${otherEnd.beyond + 1}.` : "")],
    todo: ({ goal: { slice, beyond }, stopped }) => (beyond === null ? `Go to slice ${slice + 1}, and stop there.`
      : !stopped.has(slice) ? `Stop at slice ${slice + 1}, and then at slice ${beyond + 1}.`
        : `Now stop at slice ${beyond + 1}. The white lines go. How much does the picture change?`),
    done: ({ goal: { beyond }, wronglyFound: wrong }) => (beyond === null ? "" : `Done. In slice ${beyond + 1} the network `
      + `${wrong ? `still marks ${times(wrong, "pixel")}, wrongly` : "stops, as it should"}. Go on with “next”.`),
    isDone: ({ stopped, goal }) => stopped.has(goal.slice) && (goal.beyond === null || stopped.has(goal.beyond)),
    act: (tour) => tour.showEnd(),
    enter: (tour) => { tour.state.setSlice(tour.middle); tour.stopped.clear(); },
    points: ({ parts }) => [parts.slice, parts.slider],
  },
  {
    title: "Look at the slice gate",
    tell: ({ state: { S, levels }, gateValue, valueOf, goal, isFound }) => [
      `The ${S} bars under the picture are a gate. Each bar is a number from 0 (shut) to 1 (open), which multiplies `
        + "what the network has found in its slice.",
      "The network computes the numbers from all slices together: this is “attention across slices”. "
        + `${levels.length > 1 ? `It has such a gate at ${levels.length} places; ` : ""}`
        + (isFound ? `${levels.length > 1 ? `you see the one named ${levels[goal.level].name}. ` : ""}`
          + `The bar of slice ${goal.slice + 1} is ${two(gateValue)}.`
          + (goal.beyond !== null && valueOf(goal.beyond) > gateValue ? " A high bar does not mean “organ here”: slice "
            + `${goal.beyond + 1}, without it, has ${two(valueOf(goal.beyond))}.` : "")
          : `${levels.length > 1 ? "the" : "The"} page is trying in which one slice ${goal.slice + 1} matters most.`)],
    todo: ({ goal: { slice }, isFound, state, away }) => away || (state.isChanged ? "You moved a bar: that comes in the next "
      + "step. Press “show me”, which puts it back." : !isFound ? "One moment: the page shuts one bar after the other …"
      : state.slice === slice ? `You are in slice ${slice + 1}: its bar has the colour of the frame. Click it.`
        : `Click the bar over the ${slice + 1}.`) + keys(isFound ? " (Keyboard: Shift+Tab, then left and right.)" : ""),
    isDone: ({ isFound, isChosen, state, away }) => isFound && isChosen && !state.isChanged && !away,
    waits: ({ isFound }) => !isFound,
    act: (tour) => {
      if (tour.state.isChanged) tour.state.clearChanges();
      tour.chooseLevel();
      tour.state.setSlice(tour.goal.slice);
      tour.isChosen = true;
    },
    enter: (tour) => { tour.isChosen = false; tour.chooseLevel(); },
    points: ({ parts }) => [parts.bars],
  },
  {
    title: "Shut one bar",
    tell: ({ goal }) => [
      `What is that number worth? Shut the bar of slice ${goal.slice + 1} alone. The network inside this page then `
        + "looks at the whole scan again."],
    todo: (tour) => {
      const { goal: { slice }, changed: { value, others }, away } = tour;
      if (away) return away;
      if (others) return `You changed ${others}. The tour needs the bar of slice ${slice + 1} alone. Press “undo”, `
        + "or “show me”.";
      if (tour.isShut) return MOMENT;
      return `${value === null ? "" : `The bar is at ${two(value)}. `}Drag the bar over the ${slice + 1} down to 0.`
        + keys(" (Keyboard: Shift+Tab, then down until it says 0.)");
    },
    isDone: (tour) => tour.isShut && tour.change.isAnswered,
    act: (tour) => tour.shut(),
    enter: (tour) => { tour.chooseLevel(); tour.state.setSlice(tour.goal.slice); },
    points: ({ parts }) => [parts.slice, parts.bars],
  },
  {
    title: "See what the bar does",
    tell: (tour) => {
      const { goal: { slice }, changed: { value, others }, change } = tour;
      if (others) return [`You changed ${others}. So these numbers would say nothing about the bar of slice ${slice + 1} alone.`];
      if (value === null) return [`The bar of slice ${slice + 1} is as at the start, so there is nothing to compare.`];
      return change.isAnswered ? comparison(tour, value, tour.count(slice)) : null;
    },
    longest: (tour) => comparison(tour, 0, tour.count(tour.goal.slice)),
    todo: (tour) => {
      const { goal: { slice }, changed: { others }, isAlone, change, state, away } = tour;
      if (away) return away;
      if (state.slice !== slice) return `You look at slice ${state.slice + 1}. Go back to slice ${slice + 1}, or press “show me”.`;
      if (!isAlone) return others ? `Press “undo”, or “show me”, which shuts the bar of slice ${slice + 1} alone.`
        : "Drag it down to 0 again, or press “show me”.";
      return change.isAnswered ? `Hold down “before”${keys(" or the key b")} to see the mask as it was, and let go.` : MOMENT;
    },
    done: ({ changed: { value } }) => (value < OPEN ? "Done. Try the value 1, or go on with “next”." : "Done. Go on with “next”."),
    isDone: ({ sawBefore, isAlone, change }) => sawBefore && isAlone && change.isAnswered,
    act: (tour) => {
      if (!tour.isAlone) { tour.shut(); return 0; }
      tour.chooseLevel();
      tour.state.setSlice(tour.goal.slice);
      return tour.flash();
    },
    enter: (tour) => {
      tour.sawBefore = false;
      tour.chooseLevel();
      tour.state.setSlice(tour.goal.slice);
      if (!tour.isAlone) tour.shut();
    },
    points: ({ parts, isAlone, isDone }) => [parts.slice, isAlone && !isDone ? parts.before : parts.bars],
  },
  {
    title: "Put it back",
    tell: (tour) => {
      const { state: { isChanged, S, trained, description }, change } = tour;
      if (isChanged || !change.isAnswered) return [
        "Take your change back. Does every pixel return?"];
      const { all } = tour.count(tour.goal.slice).now, { length } = trained.prediction.data;
      return [`The mask is back: in all ${S} slices, ${all.toLocaleString("en")} of ${times(length, "pixel")} differ from the `
        + "start.",
      `${description.tour?.last || ""}Go on: try the task “Which one bar costs most Dice?” `
        + "Notebook 04 of the CSAM Lite course builds such a gate."];
    },
    done: () => "Done. “end” closes this card. The page goes on working.",
    todo: () => "Press “reset all gates”.",
    isDone: ({ state, change }) => !state.isChanged && change.isAnswered,
    act: ({ state }) => state.clearChanges(),
    enter: (tour) => { if (!tour.state.isChanged) tour.shut(); },
    points: ({ parts }) => [parts.slice, parts.reset],
  },
];
const LAST = STEPS.length - 1;

export class Tour {
  /** slice: the SlicePanel. stack: the panel whose bars are dragged. change: the ChangePanel. engine: answers interventions. */
  constructor({ root, state, change, engine, slice }, stack) {
    Object.assign(this, { root, state, change, engine, slice, stack, at: -1, left: 0, seen: new Set(), stopped: new Set(),
      sawBefore: false, isFound: false, isChosen: false });
    const part = (name) => root.querySelector(`[data-part="${name}"]`);
    this.parts = { slice: part("slice"), slider: part("slider").parentElement, bars: stack.ink.canvas, before: part("before"), reset: part("reset-gates") };
    this.open = make("button", { type: "button", "data-part": "tour-open" }, "guided tour");
    this.open.addEventListener("click", () => (this.left ? this.resume() : this.start()));
    this.again = make("button", { type: "button", hidden: true, "data-part": "tour-again" }, "start again");
    this.again.addEventListener("click", () => this.start());
    root.querySelector("header").append(this.open, this.again);
    this.panel = this.makePanel();
    root.querySelector(".beside").prepend(this.panel);
    state.on("slice before", () => this.see(), { atOnce: true });
    state.on("slice before changes answer trouble level", () => this.look());
    for (const name of ["pointerdown", "keydown"]) stack.ink.canvas.addEventListener(name, () => this.choose());
    new ResizeObserver(() => this.reserve()).observe(root);
    addEventListener("keydown", (event) => this.key(event), { capture: true }); // the explorer keeps its own
    const { hash } = location;
    if (hash ? hash === "#tour" : state.description.tour) this.start(false);
    addEventListener("hashchange", () => { if (location.hash === "#tour") this.start(); });
  }

  makePanel() {
    const button = (part, key, listener) => {
      const sign = make("span", { className: "key" }, ` (${key})`);
      const element = make("button", { type: "button", "data-part": `tour-${part}` }, make("span", {}, part), sign);
      element.addEventListener("click", listener);
      return element;
    };
    this.title = make("h2", { tabIndex: -1 });
    this.text = make("div", { "data-part": "tour-text" });
    this.todo = make("p", { className: "todo", role: "status", "aria-live": "polite", "data-part": "tour-todo" });
    this.back = button("back", "p", () => this.go(this.at - 1));
    this.next = button("next", "n", ({ detail }) => {
      const isSecond = detail > 0 && !this.isDone && performance.now() - this.since < TWICE; // detail 0: by key
      if (!isSecond) this.forward();
    });
    this.leave = button("leave", "Esc", () => this.stop());
    const told = make("div", { "aria-live": "polite" }, this.title, this.text);
    const properties = { className: "tour", hidden: true, "aria-label": "Guided tour", "data-part": "tour" };
    const controls = make("div", { className: "controls" }, this.back, this.next, this.leave);
    return make("section", properties, told, this.todo, controls);
  }

  get step() { return STEPS[this.at]; }
  get isDone() { return this.step.isDone(this); }

  /** Begin with the gates as the network chose them. takesFocus: the reader asked for it. */
  start(takesFocus = true) {
    const { state } = this;
    if (state.isChanged) state.clearChanges();
    state.setSlice(this.middle);
    this.seen.clear();
    const { tour } = state.description;
    if (tour?.goal && !this.goal) {
      [this.goal, this.isFound, this.searching] = [tour.goal, true, Promise.resolve()];
      this.chooseLevel();
    }
    this.goal ??= this.findEnds()[0]; // until it is known what each bar costs
    this.left = 0;
    this.resume(takesFocus);
    this.searching ??= this.search().catch(() => this.look());
  }

  /** Go on where the reader left. */
  resume(takesFocus = true) {
    const box = this.root.querySelector('[data-part="every-level"]');
    box.checked = this.state.everyLevel = false; // a change at all scales would be another one than the tour's
    box.disabled = true;
    this.panel.hidden = false;
    this.open.hidden = this.again.hidden = true;
    this.root.classList.add("touring");
    this.go(this.left, takesFocus);
    this.reserve();
  }

  stop() {
    this.left = this.at === LAST && this.isDone ? 0 : this.at;
    this.open.textContent = this.left ? `guided tour: go on at step ${this.left + 1}` : "guided tour";
    this.root.querySelector('[data-part="every-level"]').disabled = false;
    this.panel.hidden = true;
    this.open.hidden = false;
    this.again.hidden = !this.left;
    this.root.classList.remove("touring");
    this.point([]);
    this.stack.want(null);
    this.stack.lock(false);
    this.at = -1;
    this.open.focus();
  }

  /** Keep room for the longest step, so that nothing moves under the pointer. A sheet at the foot needs none. */
  reserve() {
    const { panel } = this;
    panel.style.minHeight = "";
    if (this.at < 0 || getComputedStyle(panel).position !== "static") return;
    // measured in a copy, because a screen reader would say what is written in the panel
    const copy = make("section", { className: "tour", "aria-hidden": "true" });
    Object.assign(copy.style, { position: "absolute", visibility: "hidden", width: `${panel.offsetWidth}px` });
    panel.after(copy);
    const heights = STEPS.map((step) => {
      const paragraphs = (step.longest || step.tell)(this) || [], words = [...paragraphs, step.todo(this)];
      copy.replaceChildren(make("h2", {}, step.title), ...words.map((text) => make("p", {}, text)),
        make("div", { className: "controls" }, this.back.cloneNode(true)));
      copy.querySelector("p:last-of-type").className = "todo";
      return copy.offsetHeight;
    });
    copy.remove();
    panel.style.minHeight = `${Math.max(...heights, panel.offsetHeight)}px`;
  }

  go(to, takesFocus = true) {
    if (to < 0) return;
    if (to >= STEPS.length) { this.stop(); return; }
    Object.assign(this, { at: to, since: performance.now(), isShowing: false });
    clearTimeout(this.showing);
    this.root.dataset.step = to + 1;
    this.step.enter?.(this);
    this.stack.want(to > 1 ? this.goal.slice : null);
    this.stack.lock(to < 2); // before the bars are spoken of
    this.see();
    this.look();
    for (const element of this.step.points(this)) element.scrollIntoView({ block: "nearest" });
    if (takesFocus) this.title.focus({ preventScroll: true });
  }

  /** On to the next step, or do what this one waits for. */
  forward() {
    if (this.isDone) { this.go(this.at + 1); return; }
    if (this.isShowing || this.step.waits?.(this)) return;
    const milliseconds = this.step.act(this);
    if (milliseconds) {
      this.isShowing = true;
      this.showing = setTimeout(() => { this.isShowing = false; this.look(); }, milliseconds);
    }
    this.look();
  }

  key(event) {
    const { target, key } = event, { root } = this;
    const isHere = root.contains(target) || target === document.body;
    if (this.at < 0 || !isHere || event.altKey || event.ctrlKey || event.metaKey) return;
    if (key === "Escape") this.stop();
    else if (target.matches("select")) return; // there letters choose
    else if ((target === this.title || target === document.body) && key.startsWith("Arrow") && !event.shiftKey) this.slice.key(event);
    else if (key === "n") this.forward();
    else if (key === "p") this.go(this.at - 1);
    else return;
    event.preventDefault();
  }

  /** A slice is seen, or the prediction before all changes. */
  see() {
    if (!this.goal) return; // the tour has not begun
    const { slice, before } = this.state;
    this.seen.add(slice);
    clearTimeout(this.stopping);
    this.stopping = setTimeout(() => { this.stopped.add(slice); this.look(); }, STOP);
    if (this.isSeeing && !before) this.sawBefore = true; // it was let go
    this.isSeeing = before && this.isAlone && slice === this.goal.slice;
  }

  /** The reader pressed a bar, or a key on the bars, whose own listeners have chosen the slice. */
  choose() {
    if (this.state.slice !== this.goal?.slice) return;
    this.isChosen = true;
    this.look();
  }

  /** Write what is true now. Words that stay are not written anew, because a screen reader would say them. */
  look() {
    if (this.at < 0) return;
    const { step, at, isDone, change, panel } = this;
    write(this.title, `${at + 1} of ${STEPS.length}: ${step.title}`);
    const paragraphs = step.tell(this);
    if (paragraphs && this.text.textContent !== paragraphs.join(""))
      this.text.replaceChildren(...paragraphs.map((text) => make("p", {}, text)));
    const last = at === LAST, done = step.done?.(this) || "Done. Go on with “next”.";
    const refused = !change.busy && !change.isAnswered && change.status.textContent;
    const broken = at > 1 && (this.engine.broken || refused);
    write(this.todo, broken || (isDone ? done : step.todo(this)));
    panel.classList.toggle("done", isDone);
    write(this.next.firstChild, isDone ? (last ? "end" : "next") : this.isShowing ? "showing …" : "show me");
    this.next.setAttribute("aria-disabled", String(Boolean(!isDone && (this.isShowing || step.waits?.(this)))));
    this.point(step.points(this));
    this.leave.hidden = last && isDone;
    this.back.disabled = at === 0;
    // words that need more room than was kept keep it
    const { minHeight } = panel.style;
    if (minHeight && panel.offsetHeight > parseFloat(minHeight)) panel.style.minHeight = `${panel.offsetHeight}px`;
  }

  /** Have the reader see which elements are meant. */
  point(elements) {
    for (const old of this.root.querySelectorAll(".pointed")) old.classList.remove("pointed");
    for (const element of elements) element.classList.add("pointed");
  }

  // What the steps ask and do.

  /** The slices that hold the organ, from the lowest. */
  get held() {
    this.holding ??= [...Array(this.state.S).keys()].filter((s) => this.pixels("label", s).some(Boolean));
    return this.holding;
  }

  get middle() { return this.held[this.held.length >> 1]; }

  /** How many pixels of the slice beyond the organ the network marks. */
  get wronglyFound() {
    const { state: { trained, volume }, goal: { beyond } } = this;
    return plane(trained.prediction.data, volume, "slice", beyond).filter(Boolean).length;
  }

  /** The last slices that hold the organ at either end, as {slice, beyond: the next slice outside, or null}. */
  findEnds() {
    const { state: { S }, held } = this, [first, last] = [held[0], held.at(-1)];
    return [[first, first - 1], [last, last + 1]].map(([slice, beyond]) =>
      ({ slice, beyond: beyond >= 0 && beyond < S ? beyond : null, level: 0 }));
  }

  /** The end that the tour does not go to; null where nothing lies beyond it. */
  get otherEnd() {
    const isOther = ({ slice, beyond }) => slice !== this.goal.slice && beyond !== null;
    return this.findEnds().find(isOther) || null;
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
    if (this.at === 0 || this.at === 1) this.chooseLevel(); // before the bars are spoken of
    if (this.at >= 2 || this.goal.slice !== at.slice) this.go(this.at, false);
    else this.look();
    this.reserve();
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

  /** The bar of the tour as the network chose it. */
  get gateValue() { return this.valueOf(this.goal.slice); }

  /** The bar of a slice as the network chose it, in the gate of the tour. */
  valueOf = (slice) => {
    const { state, stack, goal: { level } } = this, window = windowOf(slice, state.windows);
    const gate = state.levels[level].gates.find(({ name }) => name === stack.name);
    const values = state.trained[gate.arrays.values[window]];
    return values.data[slice - state.windows[window][0]];
  };

  chooseLevel() {
    const { state, goal: { level }, root } = this;
    if (state.levelIndex === level) return;
    state.setLevel(level);
    const radio = root.querySelector(`[data-part="level-${level}"]`);
    if (radio) radio.checked = true;
  }

  /** What the reader changed: {value: of the bar of the tour, or null; others: what else, in words}. */
  get changed() {
    const { state: { S, changes, levels }, stack, goal } = this, own = levels[goal.level].name, others = new Set();
    let value = null;
    for (const [level, gates] of Object.entries(changes)) for (const [gate, wish] of Object.entries(gates)) {
      if (level !== own || gate !== stack.name) { others.add("another gate"); continue; }
      if (!Array.isArray(wish)) { others.add(`all ${S} bars`); continue; }
      value = wish[goal.slice];
      const rest = [...wish.keys()].filter((s) => s !== goal.slice && wish[s] !== null);
      if (rest.length) others.add(rest.length === 1 ? `slice ${rest[0] + 1}` : `${rest.length} other bars`);
    }
    return { value, others: [...others].join(" and ") };
  }

  /** What the reader must choose again, because the bars of another scale are seen; "" where nothing. */
  get away() {
    const { state: { levels, level }, goal } = this, own = levels[goal.level];
    return own === level ? "" : `You look at ${level.name}. The tour needs the bars of ${own.name}: choose it under “Scale”, `
      + "or press “show me”.";
  }

  /** Whether the bar of the tour is changed, and nothing else; and whether it is shut. */
  get isAlone() {
    const { value, others } = this.changed;
    return value !== null && !others;
  }

  get isShut() { return this.isAlone && this.changed.value <= SHUT; }

  /** Shut the bar of the tour, with all others as the network chose them. */
  shut() {
    const { state, stack, goal } = this;
    const list = Array(state.S).fill(null).with(goal.slice, 0);
    this.chooseLevel();
    state.setChanges({ [state.levels[goal.level].name]: { [stack.name]: list } });
    state.setSlice(goal.slice);
  }

  /** Show the slices one by one. Gives, as all that takes time, how many milliseconds. */
  walk() {
    const { state } = this, middle = this.goal.slice;
    const show = (left) => {
      if (this.at !== 0 || !left) return;
      state.setSlice(state.slice + 1 < state.S ? state.slice + 1 : middle);
      setTimeout(() => show(left - 1), 250);
    };
    show(ENOUGH);
    return ENOUGH * 250;
  }

  /** Show the last slice of the organ, and then the one beyond. */
  showEnd() {
    const { state, goal: { slice, beyond }, at } = this;
    state.setSlice(slice);
    this.see();
    if (beyond !== null) setTimeout(() => this.at === at && state.setSlice(beyond), 1000);
    return (beyond === null ? 0 : 1000) + STOP + 100;
  }

  /** Show the mask before all changes for a moment. */
  flash() {
    this.state.setBefore(true);
    setTimeout(() => this.state.setBefore(false), 1200);
    return 1300;
  }
}
