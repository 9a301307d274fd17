/** What the page tells about itself: the save state, sentences above the buttons, errors. */
import { hurry } from "./api.js";
import { $, button, h } from "./dom.js";
import { t } from "./i18n.js";

const SENTENCES = [
  "unauthorized", "forbidden", "not_found", "conflict", "lease_lost", "invalid", "safety_conflict",
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
  const more = detail && h("p", { class: "hint" }, `${t("error.detail")} `, h("span", { lang: "en" }, detail));
  $("#notice").replaceChildren(h("p", {}, t(key)), ...(more ? [more] : []), ...buttons);
  $("#notice").hidden = false;
}

export const hush = () => ($("#notice").hidden = true);

/** What was refused, or failed and is not tried again. */
export function explain(error, actions = []) {
  if (!error.code) throw error;
  if (error.status === 0) return tell(`undone.${error.code}`, actions);
  const ways = error.status === 401 ? [["action.join", () => location.assign("/join")]] : actions;
  const problems = error.status === 422 ? (error.body.problems ?? []) : [];
  return tell(`error.${SENTENCES.includes(error.code) ? error.code : "unknown"}`, ways, problems.join("; "));
}

const net = (code) => (code === "offline" ? "offline" : "unreachable");

/** While an answer is sent again and again. */
export function waiting({ code }) {
  report(code === "offline" ? "status.offline" : "status.retry");
  tell(`error.${net(code)}`, [["action.retry", hurry]]);
}

/** While anything else is: nothing is unsaved for it. */
export const onhold = ({ code }) => tell(`wait.${net(code)}`, [["action.retry", hurry]]);
