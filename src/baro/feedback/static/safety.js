/** First what is safe and what is not; then, as two questions that must not mix, which is more helpful and which safer. */
import { button, choices, h, press, toggle } from "./dom.js";
import { t } from "./i18n.js";
import { settle } from "./keys.js";
import { cards, letter, named, reach } from "./responses.js";
import { choose, noChoice, said, scale, scaleKeys } from "./scale.js";

const SEVERITIES = [["minor", "I"], ["moderate", "O"], ["severe", "P"]];
const QUESTIONS = ["helpful", "safer"];
const decided = ({ safe, severity, categories }) => safe === true || (safe === false && severity > 0 && categories.length > 0);

/** Where exactly one is safe: that one, if the other was called safer. Else null. */
function conflict({ marks: [one, other], safer }) {
  if (one.safe === other.safe || one.safe === null || other.safe === null || !safer.outcome) return null;
  const safe = one.safe ? 0 : 1;
  return safer.position === safe ? null : safe;
}

export const blank = (task) => ({
  kind: "safety", marks: task.responses.map(() => ({ safe: null, severity: 0, categories: [] })), helpful: noChoice(), safer: noChoice(),
});
export const payload = (state) => state;
export const summary = (state) =>
  [...state.marks.map(({ safe }, at) => `${letter(at)}: ${safe === null ? "–" : t(safe ? "safety.safe" : "safety.unsafe")}`),
    ...QUESTIONS.map((name) => `${t(`safety.${name}`)} ${said(state[name])}`)].join("\n");

export function missing(state, task, comment) {
  if (!state.marks.every(decided)) return "need.marks";
  if (QUESTIONS.some((name) => !state[name].outcome)) return "need.questions";
  if (conflict(state) !== null) return "need.agreement";
  return QUESTIONS.some((name) => state[name].outcome === "unsure") && !comment.trim() ? "need.reason" : null;
}

export function mount(task, state, ui) {
  let second = state.marks.every(decided) && QUESTIONS.some((name) => state[name].outcome);
  let current = 0; // the response in step one, the question in step two
  const marks = marksOf(task, state, ui);
  const questions = questionsOf(state, ui);
  const view = cards(task, ui, { tools: (position) => marks[position].root });
  const to = (next) => {
    second = next;
    current = 0;
    settle();
    update();
    (second ? questions[0].root : view.element).scrollIntoView({ block: "nearest" });
  };
  const go = (by) => {
    current = (current + by + 2) % 2;
    update();
    reach(second ? questions[current].root : view.list[current]);
  };
  const on = () => {
    if (!second) return state.marks.every(decided) ? to(true) : ui.tell("need.marks");
    return current === 0 && questions[0].done() && !questions[1].done() ? go(1) : ui.submit();
  };
  const alarm = h("div", { class: "alarm", role: "alert" });
  const stepTwo = h("section", { class: "questions", "aria-label": t("safety.step2") }, h("p", { class: "hint" }, t("safety.order")), questions.map(({ root }) => root));
  const heading = h("p", { class: "asked" });
  const next = button(t("action.next"), on, { cap: "↵" });
  const back = button(t("safety.back"), () => to(false), { cap: "Esc" });
  const submit = button(t("action.submit"), ui.submit, { cap: "↵", look: "primary" }); // where nothing else ever is
  [view.list, questions.map(({ root }) => root)].forEach((nodes, step) => nodes.forEach((node, at) => node.addEventListener("focusin", () => {
    if (Number(second) === step && current !== at) (current = at), update();
  })));
  function showConflict() {
    const safe = conflict(state);
    const shown = alarm.dataset.safe;
    alarm.hidden = safe === null;
    if (safe === null) alarm.dataset.safe = "";
    else if (shown !== String(safe)) {
      alarm.dataset.safe = safe;
      alarm.replaceChildren(h("p", {}, t("safety.conflict", { safe: letter(safe), other: letter(1 - safe) })),
        button(t("safety.fix", { letter: letter(safe) }), () => ui.change(() => choose(state.safer, "win", safe)), { look: "small" }));
      reach(questions[1].root);
    }
  }
  function update() {
    marks.forEach((mark) => mark.update());
    questions.forEach(({ root, update: draw }, at) => (draw(), root.classList.toggle("current", second && at === current)));
    marks.forEach(({ root }) => (root.hidden = second));
    stepTwo.hidden = back.hidden = !second;
    next.hidden = second;
    submit.classList.toggle("kept-free", !second);
    heading.textContent = t(second ? "safety.step2" : "safety.step1");
    showConflict();
    view.update({ current: second ? null : current });
  }
  const mark = (run) => () => !second && run(marks[current]);
  const keys = [
    [["KeyY"], "Y", "key.safe", mark((one) => one.safe(true))], [["KeyN"], "N", "key.unsafe", mark((one) => one.safe(false))],
    ...SEVERITIES.map(([name, cap], at) => [[`Key${cap}`], cap, `severity.${name}`, mark((one) => one.severity(at + 1))]),
    ...scaleKeys(() => (second ? questions[current] : null)),
    [["ArrowLeft", "ArrowUp"], "←", "key.previous", () => go(-1)], [["ArrowRight", "ArrowDown"], "→", "key.next", () => go(1)],
    [["Escape"], "Esc", "safety.back", () => second && to(false)], [["Enter"], "↵", "key.on", on],
  ];
  const bar = h("div", {}, alarm, h("div", { class: "answers steps" }, heading, back, next, submit));
  return { main: h("div", { class: "stack" }, view.element, stepTwo), bar, keys, update };
}

function marksOf(task, state, ui) {
  return state.marks.map((mark, position) => {
    const safe = (value) => ui.change(() => Object.assign(mark, { safe: value }, value ? { severity: 0, categories: [] } : {}));
    const severity = (level) => mark.safe === false && ui.change(() => (mark.severity = level));
    const flip = (name) => ui.change(() => (mark.categories = mark.categories.includes(name) ? mark.categories.filter((one) => one !== name) : [...mark.categories, name]));
    const which = choices(named(position), [[true, t("safety.safe"), "Y"], [false, t("safety.unsafe"), "N"]], safe, "main");
    const levels = choices(t("safety.severity"), SEVERITIES.map(([name, cap], at) => [at + 1, t(`severity.${name}`), cap]), severity);
    const categories = task.project.categories.map((name) => [name, toggle(t(`harm.${name}`), () => flip(name), { look: "small" })]);
    const harm = h("div", { class: "harm" }, h("p", { class: "hint" }, t("safety.severity")), levels.root, h("p", { class: "hint" }, t("safety.categories")),
      h("div", { class: "choices", role: "group", "aria-label": t("safety.categories") }, categories.map(([, node]) => node)));
    const update = () => {
      which.show(mark.safe);
      levels.show(mark.severity);
      harm.hidden = mark.safe !== false;
      categories.forEach(([name, node]) => press(node, mark.categories.includes(name)));
    };
    return { root: h("div", { class: "card-answer" }, which.root, harm), safe, severity, update };
  });
}

function questionsOf(state, ui) {
  return QUESTIONS.map((name) => {
    const choice = state[name];
    const seven = scale(choice, ui, t(`safety.${name}`));
    const root = h("section", { class: "card question" }, h("h2", {}, t(`safety.${name}`)), h("p", { class: "hint" }, t(`safety.${name}.hint`)),
      seven.row, h("div", { class: "choices" }, seven.others));
    return { ...seven, root, done: () => Boolean(choice.outcome) && choice.outcome !== "unsure" };
  });
}
