/**
 * Judgments on their way. Each is kept in the browser under its idempotency key before the first attempt and until the
 * server has answered, so a crash or reload loses none, and sending one again, from any tab, doubles none.
 */
import { api, patiently } from "./api.js";
import { forget, keep, kept, names } from "./store.js";

const PREFIX = "baro.outbox.";

/** randomUUID would need HTTPS; this works on a plain-HTTP network, too. */
export const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

export const put = (entry) => keep(PREFIX + entry.body.key, entry);
export const drop = (entry) => forget(PREFIX + entry.body.key);

/** What this rater has not sent yet, oldest first. */
export const unsent = (rater) =>
  names(PREFIX)
    .map(kept)
    .filter((entry) => entry?.rater === rater)
    .sort((one, other) => one.made_ms - other.made_ms);

/** The server's judgment; throws only what waiting cannot fix, and then keeps the entry. What it replaces is dropped. */
export async function send(entry, onwait) {
  const judgment = await patiently(() => api("POST", entry.path, entry.body), onwait);
  drop(entry);
  unsent(entry.rater).filter(({ assignment, made_ms }) => assignment === entry.assignment && made_ms <= entry.made_ms).forEach(drop);
  return judgment;
}
