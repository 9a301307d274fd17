/** What stands above a task: what is special about it, what is asked, and how to answer until a rater knows. */
import { button, h } from "./dom.js";
import { t } from "./i18n.js";
import { now } from "./now.js";
import { keep, kept } from "./store.js";

const KNOWN = 5; // tasks of a kind, after which its hint waits behind a button
const answered = (kind) => `baro.answered.${now.me.id}.${kind}`;

/** One more of this kind was answered. */
export const learned = (kind) => keep(answered(kind), Math.min(KNOWN, (kept(answered(kind)) ?? 0) + 1));

/** Nodes. actions: {blurred, leave, retract, flipDiff}. */
export function head({ blurred, leave, retract, flipDiff }) {
  const { task, revising } = now;
  const again = revising && h("div", { class: "banner" }, h("p", {}, t("revise.banner")), button(t("revise.leave"), leave, { look: "small" }), button(t("action.retract"), retract, { look: "small quiet" }));
  const welfare = blurred && h("p", { class: "banner" }, t("welfare"));
  const diff = task.diff && h("div", { class: "tools" }, h("label", { class: "switch" }, h("input", { type: "checkbox", id: "diff", checked: now.diff, onchange: flipDiff }), t("diff.label"), h("kbd", { "aria-hidden": true }, "D")));
  const title = h("div", { class: "task-head" }, h("h1", { tabindex: "-1" }, t(`kind.${task.kind}.title`)), how(task.kind), diff);
  return [again, welfare, title].filter(Boolean);
}

/** How a kind is answered: said for the first tasks of it, and on demand from then on. */
function how(kind) {
  const hint = h("p", { class: "hint", id: "how" }, t(`kind.${kind}.hint`));
  if ((kept(answered(kind)) ?? 0) < KNOWN) return [hint];
  hint.hidden = true;
  const show = button(t("hint.show"), () => {
    hint.hidden = !hint.hidden;
    show.setAttribute("aria-expanded", String(!hint.hidden));
  }, { look: "small quiet", "aria-expanded": false, "aria-controls": "how" });
  return [show, hint];
}
