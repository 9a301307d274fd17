/** Ranks as places: pure functions on [rank or null, ...]. */

/** The ranked positions, best place first: [[position, ...tied with it], ...]. */
export function places(ranks) {
  const given = [...new Set(ranks.filter((rank) => rank !== null))].sort((one, other) => one - other);
  return given.map((rank) => ranks.flatMap((own, position) => (own === rank ? [position] : [])));
}

/** Ranks that leave no number out. */
export const dense = (ranks) => fromPlaces(places(ranks), ranks.length);

/** Puts one response beside those at place `at`, or, if `between`, into a new place before them. null: unranked. */
export function move(ranks, position, at, between) {
  const kept = places(ranks).map((group) => group.filter((own) => own !== position));
  if (at !== null && between) kept.splice(at, 0, [position]);
  else if (at !== null) kept[at].push(position);
  return fromPlaces(kept.filter((group) => group.length), ranks.length);
}

/** One step better (-1) or worse (+1): past the next place, or out of a tie. An unranked response enters as the last. */
export function step(ranks, position, by) {
  const groups = places(ranks);
  const at = groups.findIndex((group) => group.includes(position));
  if (at < 0) return move(ranks, position, groups.length, true);
  if (groups[at].length > 1) return move(ranks, position, by < 0 ? at : at + 1, true);
  return at + by < 0 || at + by >= groups.length ? ranks : move(ranks, position, by < 0 ? at - 1 : at + 2, true);
}

function fromPlaces(groups, count) {
  const ranks = Array(count).fill(null);
  groups.forEach((group, at) => group.forEach((position) => (ranks[position] = at + 1)));
  return ranks;
}
