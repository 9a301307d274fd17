/** First what is safe and what is not; then, as two questions that must not mix, which is more helpful and which safer. */
import { button, choices, h, press, toggle } from "./dom.js";
import { t } from "./i18n.js";
import { choose, noChoice, said, STRENGTHS } from "./pair.js";
import { cards, letter, named, reach } from "./responses.js";

const SEVERITIES = ["minor", "moderate", "severe"];
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
    update();
    (second ? questions[0].root : view.element).scrollIntoView({ block: "nearest" });
  };
  const on = () => {
    if (second) return current === 0 && questions[0].done() && !questions[1].done() ? go(1) : ui.submit();
    return state.marks.every(decided) ? to(true) : ui.tell("need.marks");
  };
  const go = (by) => {
    current = (current + by + 2) % 2;
    update();
    reach(second ? questions[current].root : view.list[current]);
  };
  const alarm = h("div", { class: "alarm", role: "alert" });
  const stepTwo = h("section", { class: "questions", "aria-label": t("safety.step2") }, h("p", { class: "hint" }, t("safety.order")), questions.map(({ root }) => root));
  const heading = h("p", { class: "asked" });
  const next = button("", on, { cap: "↵", look: "primary" });
  const back = button(t("safety.back"), () => to(false), { cap: "Esc" });
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
    heading.textContent = t(second ? "safety.step2" : "safety.step1");
    next.firstChild.textContent = t(second ? "action.submit" : "action.next");
    showConflict();
    view.update({ current: second ? null : current });
  }
  const both = (inMarks, inQuestions) => () => (second ? inQuestions(questions[current]) : inMarks(marks[current]));
  const settled = () => current === 0 && questions[0].done() && go(1); // a side may still get a strength
  const keys = [
    [["Digit1"], "1", "key.safe", both((mark) => mark.safe(true), (question) => question.side(0))],
    [["Digit2"], "2", "key.unsafe", both((mark) => mark.safe(false), (question) => question.side(1))],
    ...[1, 2, 3].map((level) => [[`Digit${level + 2}`], `${level + 2}`, level > 1 ? null : "key.severity", both((mark) => mark.severity(level), (question) => (question.level(level), settled()))]),
    ...[["tie", "T"], ["both_bad", "B"], ["unsure", "U"]].map(([outcome, cap]) => [[`Key${cap}`], cap, `choice.${outcome}`, () => second && (questions[current].other(outcome), settled())]),
    [["ArrowLeft", "ArrowUp"], "←", "key.previous", () => go(-1)], [["ArrowRight", "ArrowDown"], "→", "key.next", () => go(1)],
    [["Escape"], "Esc", "safety.back", () => second && to(false)], [["Enter"], "↵", "action.next", on],
  ];
  const bar = h("div", {}, alarm, h("div", { class: "answers" }, heading, back, next));
  return { main: h("div", { class: "stack" }, view.element, stepTwo), bar, keys, update };
}

function marksOf(task, state, ui) {
  return state.marks.map((mark, position) => {
    const safe = (value) => ui.change(() => Object.assign(mark, { safe: value }, value ? { severity: 0, categories: [] } : {}));
    const severity = (level) => mark.safe === false && ui.change(() => (mark.severity = level));
    const flip = (name) => ui.change(() => (mark.categories = mark.categories.includes(name) ? mark.categories.filter((one) => one !== name) : [...mark.categories, name]));
    const which = choices(named(position), [[true, t("safety.safe"), "1"], [false, t("safety.unsafe"), "2"]], safe, "main");
    const levels = choices(t("safety.severity"), SEVERITIES.map((name, at) => [at + 1, t(`severity.${name}`), `${at + 3}`]), severity);
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
    const side = (position) => ui.change(() => choose(choice, "win", position));
    const other = (outcome) => {
      ui.change(() => choose(choice, outcome));
      if (outcome === "unsure") ui.askReason();
    };
    const level = (strength) => choice.outcome === "win" && ui.change(() => (choice.strength = choice.strength === strength ? 0 : strength));
    const options = [[0, "A", "1"], [1, "B", "2"], ["tie", null, "T"], ["both_bad", null, "B"], ["unsure", null, "U"]];
    const which = choices(t(`safety.${name}`), options.map(([value, own, cap]) => [value, own ? t("choice.side", { letter: own }) : t(`choice.${value}`), cap]),
      (value) => (typeof value === "number" ? side(value) : other(value)), "small");
    const levels = choices(t("strength.label"), STRENGTHS.map((one, at) => [at + 1, t(`strength.${one}`), `${at + 3}`]), level, "small");
    const root = h("section", { class: "card question" }, h("h2", {}, t(`safety.${name}`)), h("p", { class: "hint" }, t(`safety.${name}.hint`)), which.root, levels.root);
    const update = () => {
      which.show(choice.outcome === "win" ? choice.position : choice.outcome);
      levels.root.hidden = choice.outcome !== "win";
      levels.show(choice.strength);
    };
    return { root, side, other, level, update, done: () => Boolean(choice.outcome) && choice.outcome !== "unsure" };
  });
}
