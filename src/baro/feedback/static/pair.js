/** Which of two is better, and by how much. */
import { button, h } from "./dom.js";
import { t } from "./i18n.js";
import { cards } from "./responses.js";
import { noChoice, said, scale, scaleKeys } from "./scale.js";

export const blank = () => ({ kind: "pair", choice: noChoice() });
export const payload = (state) => state;
export const summary = (state) => said(state.choice);

export function missing({ choice }, task, comment) {
  if (!choice.outcome) return "need.choice";
  return choice.outcome === "unsure" && !comment.trim() ? "need.reason" : null;
}

export function mount(task, { choice }, ui) {
  const view = cards(task, ui);
  const seven = scale(choice, ui, t("kind.pair.title"));
  const bar = h("div", { class: "answer-rows" }, seven.row,
    h("div", { class: "answers" }, seven.others, button(t("action.submit"), ui.submit, { cap: "↵", look: "primary" })));
  function update() {
    seven.update();
    view.update({ chosen: choice.outcome === "win" ? [choice.position] : [] });
  }
  return { main: view.element, bar, keys: scaleKeys(() => seven), update };
}
