// The gates of another scan, which was seen before: what would the network answer here with the gates that it
// chose there?

/**
 * The gates that the network chose for the scan of this state: {title, S, most, gates: CSAM -> gate -> array}.
 * most: how many slices the network reads at once. null for a deeper scan, whose windows have gates of their
 * own.
 */
export function gatesOf({ S, levels, windows, trained, description }, most) {
  if (windows.length > 1) return null;
  const ofLevel = ({ gates }) => Object.fromEntries(gates.map(({ name, arrays }) =>
    [name, trained[arrays.values[0]]]));
  const gates = Object.fromEntries(levels.map((level) => [level.name, ofLevel(level)]));
  return { title: description.title, S, most, gates };
}

/** The same of a page that Python wrote: `other` of the description names the arrays. */
export function packedGates({ description: { other }, arrays }) {
  if (!other) return null;
  const ofLevel = (names) => Object.fromEntries(Object.entries(names).map(([gate, name]) => [gate, arrays[name]]));
  const gates = Object.entries(other.gates).map(([level, names]) => [level, ofLevel(names)]);
  return { ...other, gates: Object.fromEntries(gates) };
}

/**
 * What replaces a gate with these axes in a scan of S slices, as a list: that of `other`. Each scan stands in
 * the middle of the network's stack, and a slice gets the value of the slice that stood in its place there;
 * null where none stood.
 */
export function valuesOf({ S: count, most, gates }, csam, { name, axes }, S) {
  const { data } = gates[csam][name], each = data.length / count;
  if (axes[0] !== "S") return Array.from(data);
  const first = (n) => Math.floor((most - n) / 2), shift = first(S) - first(count);
  return Array.from({ length: S * each }, (_, i) => data[i + shift * each] ?? null);
}
