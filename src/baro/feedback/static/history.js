/** A rater's own judgments so far: how many, how long it took today, and which came before which. */
import { api } from "./api.js";
import { today } from "./i18n.js";

const FARTHEST = 200; // the server tells no more at once
let known = { done: 0, today_ms: 0, items: [] };
let reach = 20;
let counted = Promise.resolve();

export const history = () => known;
export const settled = () => counted; // the newest may still be on its way

export function recount(path) {
  counted = api("GET", `${path}?limit=${reach}&since=${today()}`).then((found) => (known = found), () => {});
  return counted;
}

/** {assignment} of what was judged before this one, the newest for none; {problem} where Back leads no further. */
export async function before(path, assignment) {
  const find = () => known.items[known.items.findIndex((one) => one.assignment === assignment) + 1];
  if (!find() && known.items.length < known.done && reach < FARTHEST) {
    reach = FARTHEST;
    await recount(path);
  }
  return find() ?? { problem: known.items.length < known.done ? "history.end" : "history.none" };
}
