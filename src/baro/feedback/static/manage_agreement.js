/** How far raters agree. Every figure has n and an interval, or a reason. What is biased stands below (manage_bias.js). */
import { intervals } from "./chart.js";
import { choices, h } from "./dom.js";
import { lang, t } from "./i18n.js";
import { call, within } from "./manage_api.js";
import { habits } from "./manage_bias.js";
import { SHARES, amount, decimal, estimate, fold, heading, hint, nothing, panel, percent, reason, share, table } from "./manage_ui.js";

const COEFFICIENTS = ["raw", "noise", "alpha", "fleiss", "cohen", "ac1", "kendall_tau", "kendall_w"];
const DETAILS = /^(strength\/|severity)/; // of another question's answer
const USUAL = [0.6, 0.77]; // raw agreement on preferences

const CHOSEN = ["margin", "disagreement"]; // by a reward model

export async function show(view, under = "all", policy = "all") {
  const [found, bias, { criteria }] = await Promise.all([call("GET", within(view.project, `agreement?guidelines=${under}&policy=${policy}`)), call("GET", within(view.project, "bias")), call("GET", within(view.project, "criteria"))]);
  const name = namer(criteria);
  const filter = choices(t("manage.under"), ["all", "newest"].map((one) => [one, t(`manage.under.${one}`)]), (one) => show(view, one, policy), "small");
  filter.show(under);
  const asked = choices(t("manage.asked"), ["all", "random"].map((one) => [one, t(`manage.asked.${one}`)]), (one) => show(view, under, one), "small");
  asked.show(policy);
  const chosen = CHOSEN.some((one) => found.policies[one]);
  view.draw(
    heading(t("manage.tab.agreement"), t("manage.agreement.hint")),
    (found.guidelines.length > 1 || under !== "all") && filter.root,
    chosen && [asked.root, hint(t("manage.asked.hint", { n: amount(CHOSEN.reduce((sum, one) => sum + (found.policies[one] ?? 0), 0)) }))],
    found.beyond > 0 && hint(t("manage.agreement.beyond", { n: amount(found.beyond) })),
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
  const line = (key, show) => main.map((one) => ({ label: name(one.scale), ...one[key], shown: one[key].undefined === undefined ? show(one[key]) : "", reason: one[key].undefined && reason(one[key]) }));
  const shares = line("raw", (found) => `${percent(found.value)} · ${t("manage.n", { n: found.n })}`);
  const alphas = line("alpha", (found) => `${decimal(found.value)} · ${t("manage.n", { n: found.n })}`);
  const least = Math.min(0, ...alphas.map(({ low }) => Math.floor((low ?? 0) * 2) / 2));
  const ticks = [least, 0, 0.5, 1].filter((value, at, all) => all.indexOf(value) === at).map((value) => [value, decimal(value)]);
  return h("div", { class: "two" },
    panel(t("manage.raw"), hint(t("manage.raw.hint")), intervals(t("manage.raw"), t("manage.chart.text", { n: shares.length }), shares, { low: 0, high: 1, ticks: SHARES, band: USUAL }), noise(main, name)),
    panel(t("manage.alpha"), hint(t("manage.alpha.hint")), intervals(t("manage.alpha"), t("manage.chart.text", { n: alphas.length }), alphas, { low: least, high: 1, ticks, mark: 0 })));
}

/** The share of flipped labels that would explain the agreement, beside it: what robust DPO wants to know. */
function noise(scales, name) {
  const compared = scales.filter((one) => one.noise);
  if (!compared.length) return null;
  const value = (found) => (found.undefined === undefined ? estimate(found, (one) => `ε = ${decimal(one)}`, decimal) : h("span", { class: "note" }, reason(found)));
  const lines = compared.map((one) => h("li", {}, `${name(one.scale)}: `, value(one.noise)));
  return h("div", { class: "noise" }, h("h3", {}, t("manage.noise")), h("ul", { class: "plain-list" }, lines), hint(t("manage.noise.hint")), some(compared, ["noise"]));
}

/** What "few" means, where it stands beside a figure. */
const some = (scales, keys) => scales.some((one) => keys.some((key) => one[key]?.few)) && hint(t("manage.few.hint"));

const coefficient = (found) => (found && found.undefined === undefined ? estimate(found, decimal) : null);

/** Why some of a row's coefficients are undefined, each under its name. */
function reasons(one, keys) {
  const lines = keys.filter((key) => one[key]?.undefined !== undefined).map((key) => h("p", { class: "note" }, `${t(`manage.coefficient.${key}`)}: `, reason(one[key])));
  return lines.length > 0 ? lines : undefined;
}

function coefficients(scales, name) {
  const used = COEFFICIENTS.filter((key) => scales.some((one) => one[key]));
  const heads = [t("manage.question"), ...used.map((key) => t(`manage.coefficient.${key}`))];
  const rows = scales.map((one) => {
    const counts = t("manage.coefficients.counts", { items: amount(one.items), judgments: amount(one.judgments), raters: amount(one.raters) });
    return Object.assign([[name(one.scale), h("p", { class: "note" }, counts)], ...used.map((key) => coefficient(one[key]))], { below: reasons(one, used) });
  });
  return panel(t("manage.coefficients"), hint(t("manage.coefficients.hint")), some(scales, COEFFICIENTS), table(t("manage.coefficients"), heads, rows));
}

function versions(guidelines, name) {
  const given = guidelines.flatMap(({ version, scales }) => scales.map((one) => ({ ...one, version })));
  const order = [...new Set(given.map(({ scale }) => scale))]; // versions of one question stand below each other
  const rows = given.toSorted((one, other) => order.indexOf(one.scale) - order.indexOf(other.scale)).map((one) => Object.assign(
    [name(one.scale), one.version ? t("manage.version", { n: one.version }) : t("manage.unversioned"), amount(one.judgments), coefficient(one.raw), coefficient(one.alpha)], { below: reasons(one, ["raw", "alpha"]) }));
  return panel(t("manage.by.guideline"), hint(t("manage.by.guideline.hint")), table(t("manage.by.guideline"), [t("manage.question"), t("manage.guidelines.version"), [t("manage.figure.judgments"), "num"], t("manage.raw"), t("manage.alpha")], rows));
}

function colleagues(raters) {
  if (!raters.length) return panel(t("manage.by.rater"), nothing(t("manage.by.rater.none"), t("manage.by.rater.none.hint")));
  const lines = raters.map((one) => ({ label: one.pseudonym, ...one, reason: one.undefined && reason(one), shown: one.n ? `${percent(one.value)} · ${t("manage.n", { n: amount(one.n) })}` : "" }));
  const rows = raters.map((one) => [h("bdi", {}, one.pseudonym), share(one)]);
  return panel(t("manage.by.rater"), hint(t("manage.by.rater.hint")), intervals(t("manage.by.rater"), t("manage.chart.text", { n: lines.length }), lines, { low: 0, high: 1, ticks: SHARES }), fold(t("manage.as.table"), table(t("manage.by.rater"), [t("manage.rater"), t("manage.agrees")], rows)));
}
