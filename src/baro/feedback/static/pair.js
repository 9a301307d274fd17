/** Which of two is better, and by how much. */
import { button, h, press, toggle } from "./dom.js";
import { t } from "./i18n.js";
import { cards, letter } from "./responses.js";

export const STRENGTHS = ["slightly", "better", "much"];
export const noChoice = () => ({ outcome: null, position: null, strength: 0 });

export function choose(choice, outcome, position = null) {
  Object.assign(choice, { outcome, position, strength: 0 });
}

export function said(choice) {
  if (choice.outcome !== "win") return t(`choice.${choice.outcome ?? "none"}`);
  const better = t("choice.win", { letter: letter(choice.position) });
  return choice.strength ? `${better} · ${t(`strength.${STRENGTHS[choice.strength - 1]}`)}` : better;
}

export const blank = () => ({ kind: "pair", choice: noChoice() });
export const payload = (state) => state;
export const summary = (state) => said(state.choice);

export function missing({ choice }, task, comment) {
  if (!choice.outcome) return "need.choice";
  return choice.outcome === "unsure" && !comment.trim() ? "need.reason" : null;
}

export function mount(task, state, ui) {
  const { choice } = state;
  const view = cards(task, ui);
  const pick = (outcome, position) => ui.change(() => choose(choice, outcome, position));
  const side = (position) => choice.position !== position && pick("win", position);
  const level = (strength) => ui.change(() => (choice.strength = strength), ui.submit);
  const settle = (outcome) => {
    pick(outcome);
    if (outcome === "unsure") ui.askReason();
    else ui.submit();
  };
  const byKey = (digit) => (choice.outcome === "win" ? level(digit) : digit < 3 && side(digit - 1));
  const sides = [0, 1].map((position) => toggle(t("choice.win", { letter: letter(position) }), () => side(position), { cap: `${position + 1}`, look: "main" }));
  const others = [["tie", "T"], ["both_bad", "B"], ["unsure", "U"]].map(([outcome, cap]) => [outcome, toggle(t(`choice.${outcome}`), () => settle(outcome), { cap })]);
  const levels = STRENGTHS.map((name, at) => toggle(t(`strength.${name}`), () => level(at + 1), { cap: `${at + 1}`, look: "main" }));
  const question = h("p", { class: "asked", "aria-live": "polite" });
  const first = h("div", { class: "answers" }, sides[0], ...others.map(([, node]) => node), sides[1]);
  const second = h("div", { class: "answers" }, question, ...levels,
    button(t("strength.none"), ui.submit, { cap: "↵" }), button(t("strength.back"), () => pick(null), { cap: "Esc", look: "quiet" }));
  function update() {
    const won = choice.outcome === "win";
    const [chose, again] = [first, second].map((part) => part.contains(document.activeElement));
    first.hidden = won;
    second.hidden = !won;
    question.textContent = won ? t("strength.ask", { letter: letter(choice.position) }) : "";
    others.forEach(([outcome, node]) => press(node, choice.outcome === outcome));
    levels.forEach((node, at) => press(node, choice.strength === at + 1));
    view.update({ chosen: won ? [choice.position] : [] });
    if (won && chose) levels[0].focus();
    if (!won && again) sides[0].focus();
  }
  const keys = [
    [["Digit1"], "1", "key.first", () => byKey(1)], [["Digit2"], "2", "key.second", () => byKey(2)],
    [["Digit3"], "1–3", "key.strength", () => byKey(3)],
    [["ArrowLeft"], "←", "key.left", () => side(0)], [["ArrowRight"], "→", "key.right", () => side(1)],
    [["KeyT"], "T", "choice.tie", () => settle("tie")], [["KeyB"], "B", "choice.both_bad", () => settle("both_bad")],
    [["KeyU"], "U", "choice.unsure", () => settle("unsure")], [["Escape"], "Esc", "strength.back", () => choice.outcome && pick(null)],
  ];
  return { main: view.element, bar: h("div", {}, first, second), keys, update };
}
