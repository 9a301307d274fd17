/** How far raters agree, and habits that have nothing to do with the answers. Every figure has n and an interval, or a reason. */
import { intervals } from "./chart.js";
import { button, h } from "./dom.js";
import { lang, t } from "./i18n.js";
import { call, page, within } from "./manage_api.js";
import { amount, chance, decimal, fold, heading, hint, nothing, outcome, panel, percent, reason, run, share, table } from "./manage_ui.js";

const COEFFICIENTS = ["raw", "alpha", "fleiss", "cohen", "ac1", "kendall_tau", "kendall_w"];
const DETAILS = /^(strength\/|severity)/; // of another question's answer
const USUAL = [0.6, 0.77]; // raw agreement on preferences
const SHARES = [[0, "0%"], [0.25, "25%"], [0.5, "50%"], [0.75, "75%"], [1, "100%"]];
const HABITS = ["left", "longer", "repeats", "quick"];

export async function show(view) {
  const [found, bias, { criteria }] = await Promise.all([call("GET", within(view.project, "agreement")), call("GET", within(view.project, "bias")), call("GET", within(view.project, "criteria"))]);
  const name = namer(criteria);
  view.draw(
    heading(t("manage.tab.agreement"), t("manage.agreement.hint")),
    found.scales.length ? [charts(found.scales, name), coefficients(found.scales, name), versions(found.guidelines, name), colleagues(found.raters)] : panel(t("manage.agreement.title"), nothing(t("manage.agreement.none"), t("manage.agreement.none.hint"))),
    habits(view.project, bias),
  );
  if (location.hash === "#bias") document.getElementById("bias").scrollIntoView();
}

/** A question's name: of the page's words, a criterion's in its project's. */
function namer(criteria) {
  const labels = new Map(criteria.map(({ key, labels: own }) => [key, (own[lang()] ?? Object.values(own)[0])?.name ?? key]));
  return (scale) => (scale.startsWith("score/") ? t("manage.scale.score", { name: labels.get(scale.slice(6)) ?? scale.slice(6) }) : t(`manage.scale.${scale.replace("/", ".")}`));
}


function charts(scales, name) {
  const main = scales.filter(({ scale }) => !DETAILS.test(scale));
  const line = (key, show) => main.map((one) => ({ label: name(one.scale), ...one[key], shown: one[key].undefined === undefined ? show(one[key]) : "", reason: one[key].undefined }));
  const shares = line("raw", (found) => `${percent(found.value)} · ${t("manage.n", { n: found.n })}`);
  const alphas = line("alpha", (found) => `${decimal(found.value)} · ${t("manage.n", { n: found.n })}`);
  const least = Math.min(0, ...alphas.map(({ low }) => Math.floor((low ?? 0) * 2) / 2));
  const ticks = [least, 0, 0.5, 1].filter((value, at, all) => all.indexOf(value) === at).map((value) => [value, decimal(value)]);
  return h("div", { class: "two" },
    panel(t("manage.raw"), hint(t("manage.raw.hint")), intervals(t("manage.raw"), t("manage.chart.text", { n: shares.length }), shares, { low: 0, high: 1, ticks: SHARES, band: USUAL })),
    panel(t("manage.alpha"), hint(t("manage.alpha.hint")), intervals(t("manage.alpha"), t("manage.chart.text", { n: alphas.length }), alphas, { low: least, high: 1, ticks, mark: 0 })));
}

function coefficient(found) {
  if (!found) return null;
  if (found.undefined !== undefined) return h("span", { class: "note why", lang: "en" }, reason(found));
  return h("span", { class: "share" }, h("b", {}, decimal(found.value)), " ", h("span", { class: "note" }, `${t("manage.range", { low: decimal(found.low), high: decimal(found.high) })} · ${t("manage.n", { n: amount(found.n) })}`));
}

function coefficients(scales, name) {
  const used = COEFFICIENTS.filter((key) => scales.some((one) => one[key]));
  const heads = [t("manage.question"), [t("manage.items"), "num"], [t("manage.figure.judgments"), "num"], [t("manage.tab.raters"), "num"], ...used.map((key) => t(`manage.coefficient.${key}`))];
  const rows = scales.map((one) => [name(one.scale), amount(one.items), amount(one.judgments), amount(one.raters), ...used.map((key) => coefficient(one[key]))]);
  return panel(t("manage.coefficients"), hint(t("manage.coefficients.hint")), table(t("manage.coefficients"), heads, rows));
}

function versions(guidelines, name) {
  const rows = guidelines.flatMap(({ version, judgments, scales }) => scales.map((one) => [version ? t("manage.version", { n: version }) : t("manage.unversioned"), amount(judgments), name(one.scale), coefficient(one.raw), coefficient(one.alpha)]));
  return panel(t("manage.by.guideline"), hint(t("manage.by.guideline.hint")), table(t("manage.by.guideline"), [t("manage.guidelines.version"), [t("manage.figure.judgments"), "num"], t("manage.question"), t("manage.raw"), t("manage.alpha")], rows));
}

function colleagues(raters) {
  if (!raters.length) return panel(t("manage.by.rater"), nothing(t("manage.by.rater.none"), t("manage.by.rater.none.hint")));
  const lines = raters.map((one) => ({ label: one.pseudonym, ...one, reason: one.undefined && reason(one), shown: one.n ? `${percent(one.value)} · ${t("manage.n", { n: amount(one.n) })}` : "" }));
  const rows = raters.map((one) => [h("bdi", {}, one.pseudonym), share(one)]);
  return panel(t("manage.by.rater"), hint(t("manage.by.rater.hint")), intervals(t("manage.by.rater"), t("manage.chart.text", { n: lines.length }), lines, { low: 0, high: 1, ticks: SHARES }), fold(t("manage.as.table"), table(t("manage.by.rater"), [t("manage.rater"), t("manage.agrees")], rows)));
}

// ---------------------------------------------------------------------------------------------------------------- bias

function habits(project, bias) {
  const lines = HABITS.map((key) => ({ label: t(`manage.habit.${key}`), ...bias[key], reason: bias[key].undefined && reason(bias[key]), shown: bias[key].n ? `${percent(bias[key].value)} · ${t("manage.n", { n: amount(bias[key].n) })}` : "" }));
  const where = outcome();
  const rows = HABITS.map((key) => {
    const one = bias[key];
    const look = button(t("manage.habit.items"), () => run(look, where, () => items(project, key)), { look: "small", disabled: !one.n, "aria-label": `${t("manage.habit.items")}: ${t(`manage.habit.${key}`)}` });
    return [t(`manage.habit.${key}`), share(one), h("span", {}, t(`manage.habit.${key}.hint`, { ms: amount(bias.quick.ms_per_character, 1) })), one.p === undefined ? null : chance(one.p), look];
  });
  const chart = lines.some(({ n }) => n) && intervals(t("manage.bias"), t("manage.chart.text", { n: lines.length }), lines, { low: 0, high: 1, ticks: SHARES, mark: 0.5 });
  const root = panel(t("manage.bias"), hint(t("manage.bias.hint")), chart, table(t("manage.bias"), [t("manage.habit"), t("manage.share"), t("manage.habit.means"), [t("manage.p"), "num"], t("manage.actions")], rows), where, persons(bias.raters));
  root.id = "bias";
  return root;
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
  const rows = found.map((one) => [h("a", { href: page(project, "tasks", `task/${one.task}`) }, h("bdi", {}, one.prompt_start || one.task)), h("bdi", {}, one.pseudonym), t(one.counted ? "manage.yes" : "manage.no")]);
  return [h("h3", {}, t(`manage.habit.${habit}`)), hint(t("manage.habit.shown", { n: amount(found.length), total: amount(total) })), table(t(`manage.habit.${habit}`), [t("manage.prompt"), t("manage.rater"), t(`manage.habit.${habit}`)], rows)];
}
