// What the words on the page mean, for a reader who meets them for the first time.

const OF_CHANNELS = {
  T2: "a kind of MRI picture, in which water is bright",
  ADC: "a kind of MRI picture, which shows how freely water moves",
};
const OF_GATES = { // by their axes
  C: "a gate with a number for each channel", S: "a gate with a number for each slice",
  HW: "a gate with a number for each place in the picture, the same in all slices",
};

/** [word, meaning] of what stands on this page. */
export function wordsOf({ channels, levels, letters, arrays, classes }) {
  const gates = new Map(levels.flatMap((level) => level.gates).map(({ name, axes }) => [name, OF_GATES[axes]]));
  const has = (given, ...entries) => (given ? entries : []);
  return [
    ...channels.filter(({ name }) => OF_CHANNELS[name]).map(({ name }) => [name, OF_CHANNELS[name]]),
    ...has(letters, ["A, P, R, L, S, I", "front (anterior), back (posterior), right, left, upper (superior) and lower "
      + "(inferior) end of the body, as if it faced you"]),
    ["mask, prediction", `where the network believes ${classes.map(({ name }) => name).join(", ")} to be`],
    ...has(arrays.label, ["reference", "where they really are, or where an expert has drawn them"],
      ["Dice", "how much a mask and the reference overlap, from 0 (not at all) to 1 (they are the same)"]),
    ...has(levels.length, ["gate", "numbers from 0 (shut) to 1 (open), with which the network multiplies what it has found"],
      ["csam.0, csam.1, …", "the places in the network that have gates, from the finest picture to the coarsest; CSAM "
        + "is short for cross-slice attention module"],
      ["scale", "the size in which the network sees a slice at such a place, for example 12 × 12"],
      ["channel, feature map", "a picture of one thing that the network has learned to look for; bright is where it found it"]),
    ...[...gates].filter(([, meaning]) => meaning).map(([name, meaning]) => [`${name} gate`, meaning]),
    ["window, level", "how wide the range of values is that is shown from black to white, and the middle of this range"],
  ];
}
