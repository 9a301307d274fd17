/** What the page tells about itself: the save state, sentences above the buttons, errors. */
import { hurry } from "./api.js";
import { $, button, h } from "./dom.js";
import { t } from "./i18n.js";

const SENTENCES = [
  "offline", "unreachable", "unauthorized", "forbidden", "not_found", "conflict", "lease_lost", "invalid", "safety_conflict",
  "too_large", "rate_limited", "busy", "bad_origin",
];
let state = ["status.ready"];

/** The save state; without arguments the same once more, in the language of now. */
export function report(...next) {
  if (next.length) state = next;
  $("#status").textContent = t(...state);
  $("#status").dataset.state = state[0];
}

export const reported = () => state;

/** A sentence above the buttons, with what can be done about it: [[label, run], ...]. */
export function tell(key, actions = [], detail = "") {
  const buttons = actions.map(([label, run]) => button(t(label), run, { look: "small" }));
  $("#notice").replaceChildren(h("p", {}, t(key)), ...(detail ? [h("p", { class: "hint", lang: "en" }, detail)] : []), ...buttons);
  $("#notice").hidden = false;
}

export const hush = () => ($("#notice").hidden = true);

export function explain(error, actions = []) {
  if (!error.code) throw error;
  const ways = error.status === 401 ? [["action.join", () => location.assign("/join")]] : actions;
  const problems = error.status === 422 ? (error.body.problems ?? []) : [];
  tell(`error.${SENTENCES.includes(error.code) ? error.code : "unknown"}`, ways, problems.join("; "));
}

/** While a request is tried again and again. */
export function waiting({ code }) {
  report(code === "offline" ? "status.offline" : "status.retry");
  tell(`error.${code === "offline" ? "offline" : "unreachable"}`, [["action.retry", hurry]]);
}
