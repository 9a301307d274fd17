/**
 * A score for each criterion and response; "overall" comes last.
 *
 * One row for each criterion: its steps are described once, above, and every response has the same scale below, side by
 * side, so that none is scored under another's impression. The letters of the responses stand at the steps they were given.
 */
import { button, h } from "./dom.js";
import { lang, t } from "./i18n.js";
import { cards, letter, named, reach } from "./responses.js";

const OPEN = ""; // not answered yet; null says that the criterion does not apply

const words = (criterion) => criterion.labels[lang()] ?? Object.values(criterion.labels)[0] ?? { name: criterion.key, anchors: [] };
export const blank = (task) => ({ kind: "criteria", scores: Object.fromEntries(task.criteria.map(({ key }) => [key, task.responses.map(() => OPEN)])) });
export const payload = (state) => state;
export const missing = ({ scores }) => (Object.values(scores).flat().includes(OPEN) ? "need.scores" : null);
export const summary = ({ scores }, task) =>
  task.criteria.map((one) => `${words(one).name}: ${(scores[one.key] ?? []).map((score, at) => `${letter(at)} ${score === OPEN ? "–" : (score ?? t("criteria.na"))}`).join(", ")}`).join("\n");

export function mount(task, state, ui) {
  state.scores = { ...blank(task).scores, ...state.scores }; // what was kept may be older than a criterion
  const shown = task.responses.length;
  const view = cards(task, ui);
  const rows = task.criteria.map((criterion) => rowOf(criterion, task, (position, value) => ui.change(() => (state.scores[criterion.key][position] = value))));
  const cells = rows.flatMap(({ cells: own }) => own);
  const said = ({ criterion: { key }, position }) => state.scores[key][position];
  let current = Math.max(0, cells.findIndex((cell) => said(cell) === OPEN));
  const go = (at) => {
    current = Math.max(0, Math.min(cells.length - 1, at));
    update();
    reach(cells[current].root);
  };
  const over = (by) => cells[current + by] && go(current + by);
  const byKey = (value) => {
    const { criterion: { low, high }, score } = cells[current];
    if (value !== null && (value < low || value > high)) return;
    score(value);
    go(current + 1);
  };
  cells.forEach(({ root }, at) => root.addEventListener("focusin", () => at !== current && ((current = at), update())));
  function update() {
    cells.forEach((cell, at) => {
      cell.radios.forEach(({ value, input }) => (input.checked = said(cell) === value));
      cell.root.classList.toggle("current", at === current);
    });
    rows.forEach(({ criterion: { key }, steps }) => steps.forEach(({ value, letters }) => {
      letters.textContent = shown > 1 ? state.scores[key].map((score, at) => (score === value ? letter(at) : "")).join(" ").trim() : "";
    }));
    view.update();
  }
  const numbers = [...new Set(task.criteria.flatMap(({ low, high }) => [low, high]))];
  const keys = [
    ...Array.from({ length: 10 }, (_, n) => [[`Digit${n}`], `${Math.min(...numbers)}–${Math.max(...numbers)}`, n ? null : "key.score", () => byKey(n)]),
    [["KeyN"], "N", "criteria.na.long", () => byKey(null)],
    [["ArrowLeft"], "←", "key.previous", () => go(current - 1)], [["ArrowRight"], "→", "key.next", () => go(current + 1)],
    [["ArrowUp"], "↑", "key.criterion.before", () => over(-shown)], [["ArrowDown"], "↓", "key.criterion.after", () => over(shown)],
  ];
  const bar = h("div", { class: "answers" }, button(t("action.submit"), ui.submit, { cap: "↵", look: "primary" }));
  return { main: h("div", { class: "stack" }, view.element, h("div", { class: "criteria" }, rows.map(({ root }) => root))), bar, keys, update };
}

/** One criterion: its name, what its steps mean, and a scale for each response. */
function rowOf(criterion, task, onscore) {
  const { key, low, high } = criterion;
  const { name, anchors = [] } = words(criterion);
  const scale = [...Array.from({ length: high - low + 1 }, (_, i) => [low + i, `${low + i}`, anchors[i] ?? ""]), [null, t("criteria.na"), ""]];
  const steps = scale.filter(([, , anchor]) => anchor).map(([value, label, anchor]) => {
    const letters = h("span", { class: "given" });
    return { value, letters, root: h("li", {}, h("b", {}, label), letters, h("span", { class: "anchor" }, anchor)) };
  });
  const cells = task.responses.map((_, position) => {
    const radios = scale.map(([value, label, anchor]) => {
      const input = h("input", { type: "radio", name: `${key}-${position}`, onchange: () => onscore(position, value) });
      return { value, input, root: h("label", { class: "step", title: anchor }, input, h("b", {}, label), anchor && h("span", { class: "sr" }, anchor)) };
    });
    const whose = task.responses.length > 1 ? [h("span", { class: "letter", "aria-hidden": true }, letter(position))] : [];
    const label = task.responses.length > 1 ? `${name}, ${named(position)}` : name;
    const root = h("div", { class: "scale", role: "radiogroup", "aria-label": label }, whose, h("div", { class: "numbers" }, radios.map((one) => one.root)));
    return { criterion, position, radios, root, score: (value) => onscore(position, value) };
  });
  const over = task.responses.length === 1 && steps.length === scale.length - 1; // the only scale stands right below
  const described = steps.length > 0 && h("ol", { class: `anchors ${over ? "over" : ""}`, "aria-hidden": true }, steps.map(({ root }) => root));
  const root = h("section", { class: "card criterion" }, h("h2", {}, name), described, h("div", { class: "scales" }, cells.map((cell) => cell.root)));
  return { criterion, cells, steps, root };
}
