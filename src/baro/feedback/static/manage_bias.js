/** Habits that have nothing to do with the answers, and the judgments behind each figure. */
import { intervals } from "./chart.js";
import { button, h } from "./dom.js";
import { lang, t } from "./i18n.js";
import { call, page, within } from "./manage_api.js";
import { SHARES, amount, chance, decimal, estimate, fold, hint, nothing, outcome, panel, percent, reason, run, seconds, share, table } from "./manage_ui.js";

const HABITS = ["left", "longer", "repeats", "quick"];
const ENDS = ["early", "late"];

export function habits(project, bias) {
  const where = outcome();
  const root = panel(t("manage.bias"), hint(t("manage.bias.hint")), chart(bias), figures(project, bias, where), sitting(project, bias, where), where, persons(bias.raters));
  root.id = "bias";
  return root;
}

function chart(bias) {
  const lines = HABITS.map((key) => ({ label: t(`manage.habit.${key}`), ...bias[key], reason: bias[key].undefined && reason(bias[key]), shown: bias[key].n ? `${percent(bias[key].value)} · ${t("manage.n", { n: amount(bias[key].n) })}` : "" }));
  return lines.some(({ n }) => n) && intervals(t("manage.bias"), t("manage.chart.text", { n: lines.length }), lines, { low: 0, high: 1, ticks: SHARES, mark: 0.5 });
}

/** A button that shows the judgments of a habit. */
function shows(project, key, n, where, label = t("manage.habit.items")) {
  const look = button(label, () => run(look, where, () => items(project, key)), { look: "small", disabled: !n, "aria-label": `${label}: ${t(`manage.habit.${key}`)}` });
  return look;
}

function figures(project, bias, where) {
  const rows = HABITS.map((key) => {
    const one = bias[key];
    return [t(`manage.habit.${key}`), share(one), one.p === undefined ? null : chance(one.p), h("span", {}, t(`manage.habit.${key}.hint`, { ms: amount(bias.quick.ms_per_character, 1) })), shows(project, key, one.n, where)];
  });
  const { length } = bias;
  const pull = length.undefined !== undefined ? null : [t("manage.habit.length"), estimate(powers(length), times), null, h("span", {}, t("manage.habit.length.hint", { n: amount(length.characters) })), shows(project, "longer", bias.longer.n, where)];
  if (pull) rows.splice(2, 0, pull);
  return table(t("manage.bias"), [t("manage.habit"), [t("manage.share"), "at"], [t("manage.p"), "num"], [t("manage.habit.means"), "long"], [t("manage.actions"), "acts"]], rows);
}

const powers = ({ value, low, high, n }) => ({ value: Math.exp(value), low: Math.exp(low), high: Math.exp(high), n });
const times = (value) => `× ${decimal(value)}`;
const points = (value) => t("manage.points", { n: new Intl.NumberFormat(lang(), { maximumFractionDigits: 0, signDisplay: "exceptZero" }).format(value * 100) });

/** What changes from the first to the last third of a sitting. */
function sitting(project, bias, where) {
  const { agreement, speed, seconds: taken, gap_minutes: gap, least } = bias.drift;
  const title = h("h3", {}, t("manage.drift"));
  const about = hint(t("manage.drift.hint", { gap, least }));
  if (agreement.undefined !== undefined && speed.undefined !== undefined) return [title, about, nothing(t("manage.drift.none"), t("manage.drift.none.hint", { least }))];
  const look = h("div", { class: "row-tools" }, ENDS.map((key) => shows(project, key, bias[key].n, where, t(`manage.drift.show.${key}`))));
  const rows = [
    agreement.undefined === undefined && [t("manage.drift.agreement"), share(bias.early), share(bias.late), estimate(agreement, points), h("span", {}, t("manage.drift.agreement.hint")), look],
    speed.undefined === undefined && [t("manage.drift.speed"), seconds(taken[0]), seconds(taken[1]), estimate(speed, times), h("span", {}, t("manage.drift.speed.hint")), null],
  ].filter(Boolean);
  const heads = [t("manage.figures"), t("manage.drift.early"), t("manage.drift.late"), [t("manage.drift.change"), "at"], [t("manage.habit.means"), "long"], [t("manage.actions"), "acts"]];
  return [title, about, table(t("manage.drift"), heads, rows)];
}

function persons(raters) {
  if (!raters.length) return null;
  const rows = raters.map((one) => [h("bdi", {}, one.pseudonym), share(one), one.p === undefined ? null : chance(one.p)]);
  return fold(t("manage.bias.raters"), table(t("manage.bias.raters"), [t("manage.rater"), t("manage.habit.left"), [t("manage.p"), "num"]], rows));
}

/** The judgments behind one figure, each with its task. */
async function items(project, habit) {
  const { items: found, total } = await call("GET", within(project, `bias/${habit}?limit=100`));
  if (!found.length) return t("manage.habit.none");
  const counted = ENDS.includes(habit) ? t("manage.drift.agrees") : t(`manage.habit.${habit}`);
  const rows = found.map((one) => [h("a", { href: page(project, "tasks", `task/${one.task}`) }, h("bdi", {}, one.prompt_start || one.task)), h("bdi", {}, one.pseudonym), t(one.counted ? "manage.yes" : "manage.no")]);
  return [h("h3", {}, t(`manage.habit.${habit}`)), hint(t("manage.habit.shown", { n: amount(found.length), total: amount(total) })), table(t(`manage.habit.${habit}`), [t("manage.prompt"), t("manage.rater"), counted], rows)];
}
