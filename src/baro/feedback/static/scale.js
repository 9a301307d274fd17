/**
 * Which of two, and by how much, in one row of seven: A much, clearly, slightly; tie; B slightly, clearly, much.
 * Each place and each key is a whole answer, so the last one pressed is what is meant, and neighbours mean nearly the same.
 */
import { h, press, toggle } from "./dom.js";
import { t } from "./i18n.js";
import { letter } from "./responses.js";

const STRENGTHS = ["slightly", "better", "much"];
const STEPS = [[0, 3], [0, 2], [0, 1], null, [1, 1], [1, 2], [1, 3]]; // position and strength; null: a tie
const OTHERS = [["both_bad", "X"], ["unsure", "U"]];

export const noChoice = () => ({ outcome: null, position: null, strength: 0 });

export function choose(choice, outcome, position = null, strength = 0) {
  Object.assign(choice, { outcome, position, strength });
}

export function said(choice) {
  if (choice.outcome !== "win") return t(`choice.${choice.outcome ?? "none"}`);
  const better = t("choice.win", { letter: letter(choice.position) });
  return choice.strength ? `${better} · ${t(`strength.${STRENGTHS[choice.strength - 1]}`)}` : better;
}

/** {row, others, pick(step), other(outcome), update()}: the seven, and the two answers that are beside the scale. */
export function scale(choice, ui, label) {
  const pick = (step) => ui.change(() => (STEPS[step] ? choose(choice, "win", ...STEPS[step]) : choose(choice, "tie")));
  const other = (outcome) => {
    ui.change(() => choose(choice, outcome));
    if (outcome === "unsure") ui.askReason();
  };
  const steps = STEPS.map((one, at) => {
    if (!one) return toggle(t("choice.tie"), () => pick(at), { cap: `${at + 1}`, look: "step-of-7 tie" });
    const [side, name] = [letter(one[0]), STRENGTHS[one[1] - 1]];
    const words = h("span", {}, h("b", {}, side), " ", t(`scale.word.${name}`));
    return toggle(words, () => pick(at), { cap: `${at + 1}`, look: "step-of-7", "aria-label": t(`scale.${name}`, { letter: side }) });
  });
  const others = OTHERS.map(([outcome, cap]) => [outcome, toggle(t(`choice.${outcome}`), () => other(outcome), { cap })]);
  const row = h("div", { class: "seven", role: "group", "aria-label": label }, steps);
  const isOn = (one) => (one ? choice.outcome === "win" && choice.position === one[0] && choice.strength === one[1] : choice.outcome === "tie");
  function update() {
    steps.forEach((node, at) => press(node, isOn(STEPS[at])));
    others.forEach(([outcome, node]) => press(node, choice.outcome === outcome));
  }
  return { row, others: others.map(([, node]) => node), pick, other, update };
}

/** The keys of a scale; `which`: the scale that they go to, or null where there is none just now. */
export const scaleKeys = (which) => [
  ...STEPS.map((_, at) => [[`Digit${at + 1}`], { 0: "1 2 3", 3: "4", 4: "5 6 7" }[at] ?? "", { 0: "key.first", 3: "choice.tie", 4: "key.second" }[at] ?? null, () => which()?.pick(at)]),
  ...OTHERS.map(([outcome, cap]) => [[`Key${cap}`], cap, `choice.${outcome}`, () => which()?.other(outcome)]),
];
