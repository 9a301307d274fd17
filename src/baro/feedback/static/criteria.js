/** A score for each criterion and response, on scales whose steps are described; "overall" comes last. */
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
  const cells = task.criteria.flatMap((criterion) => task.responses.map((_, position) => ({ criterion, position })));
  let current = Math.max(0, cells.findIndex(({ criterion: { key }, position }) => state.scores[key][position] === OPEN));
  const view = cards(task, ui);
  const score = ({ criterion: { key }, position }, value) => ui.change(() => (state.scores[key][position] = value));
  const go = (at) => {
    current = Math.max(0, Math.min(cells.length - 1, at));
    update();
    reach(cells[current].root);
  };
  const byKey = (value) => {
    const cell = cells[current];
    if (value !== null && (value < cell.criterion.low || value > cell.criterion.high)) return;
    score(cell, value);
    go(current + 1);
  };
  cells.forEach((cell, at) => {
    const { criterion: { key, low, high, labels }, position } = cell;
    const { anchors = [] } = words({ key, labels });
    const scale = [...Array.from({ length: high - low + 1 }, (_, i) => [low + i, `${low + i}`, anchors[i] ?? ""]), [null, t("criteria.na"), ""]];
    cell.radios = scale.map(([value, label, anchor]) => {
      const input = h("input", { type: "radio", name: `${key}-${position}`, onchange: () => score(cell, value) });
      return { value, input, root: h("label", { class: "step", title: anchor }, input, h("b", {}, label), h("span", { class: "anchor" }, anchor)) };
    });
    const several = task.responses.length > 1;
    const legend = h("legend", { class: several ? "" : "sr" }, h("span", { class: "sr" }, words({ key, labels }).name), several && [" ", named(position)]);
    cell.root = h("fieldset", { class: "scale", onfocusin: () => at !== current && ((current = at), update()) }, legend, cell.radios.map(({ root }) => root));
  });
  const list = task.criteria.map((criterion) =>
    h("section", { class: "criterion" }, h("h2", {}, words(criterion).name), cells.filter((cell) => cell.criterion === criterion).map(({ root }) => root)),
  );
  function update() {
    cells.forEach(({ criterion: { key }, position, radios, root }, at) => {
      radios.forEach(({ value, input }) => (input.checked = state.scores[key][position] === value));
      root.classList.toggle("current", at === current);
    });
    view.update();
  }
  const numbers = [...new Set(task.criteria.flatMap(({ low, high }) => [low, high]))];
  const keys = [
    ...Array.from({ length: 10 }, (_, n) => [[`Digit${n}`], `${Math.min(...numbers)}–${Math.max(...numbers)}`, n ? null : "key.score", () => byKey(n)]),
    [["KeyN"], "N", "criteria.na.long", () => byKey(null)],
    [["ArrowUp", "ArrowLeft"], "↑", "key.previous", () => go(current - 1)], [["ArrowDown", "ArrowRight"], "↓", "key.next", () => go(current + 1)],
  ];
  const bar = h("div", { class: "answers" }, button(t("action.submit"), ui.submit, { cap: "↵", look: "primary" }));
  return { main: h("div", { class: "stack" }, view.element, h("div", { class: "criteria" }, list)), bar, keys, update };
}
