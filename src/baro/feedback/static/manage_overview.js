/** How far a project is, what it cost, and what to do next. */
import { bars, intervals, parts } from "./chart.js";
import { h } from "./dom.js";
import { lang, t } from "./i18n.js";
import { api, call, page, within } from "./manage_api.js";
import { statePanel } from "./manage_state.js";
import { amount, chance, facts, fold, heading, hint, money, moment, nothing, outcome, panel, percent, range, run, share, table, worded } from "./manage_ui.js";

const DAY_MS = 86400000;
const SHOWN_DAYS = 30;
const RATE_DAYS = 7;
const LOOK_MS = 12000;
const REST = 20; // times as long as a look took before the next one: a large project takes seconds to count
const STATES = ["done", "begun", "waiting", "closed", "withdrawn", "gold", "repeats"];

export async function show(view) {
  const { project } = view;
  const [progress, bias, known, { projects }, guidelines] = await Promise.all([
    call("GET", within(project, "progress")), call("GET", within(project, "bias")), call("GET", within(project)), call("GET", `${api}/projects`), call("GET", within(project, "guidelines?limit=1")),
  ]);
  const counts = projects.find(({ name }) => name === project);
  const steps = [
    ["prompts", "prompts", counts.prompts > 0], ["answers", "prompts", counts.responses > 0], ["tasks", "tasks", counts.tasks > 0],
    ["guideline", "guidelines", guidelines.total > 0], ["invite", "raters", counts.judging > 0],
  ];
  const ready = steps.every(([, , done]) => done);
  view.draw(
    heading(t("manage.tab.overview"), t("manage.overview.hint")),
    known.state !== "open" && statePanel(view, known.state, () => show(view)),
    (!ready || !progress.judgments) && next(project, steps),
    counts.tasks > 0 && live(view, progress, known.settings),
    progress.judgments > 0 && h("div", { class: "two" }, days(progress), sides(project, bias)),
    events(project),
  );
}

/** The way from an empty project to the first judgment. */
function next(project, steps) {
  const first = steps.findIndex(([, , done]) => !done);
  const items = steps.map(([name, tab, done], at) => h("li", { class: done ? "step-done" : at === first ? "step-next" : "" },
    h("span", { class: "step-mark", "aria-hidden": true }, done ? "✓" : String(at + 1)),
    h("div", {}, h("a", { href: page(project, tab) }, t(`manage.next.${name}`)), h("span", { class: "sr" }, done ? ` (${t("manage.next.done")})` : ""), hint(t(`manage.next.${name}.hint`)))));
  return panel(t("manage.next.title"), h("ol", { class: "steps" }, items), first < 0 && hint(t("manage.next.wait")));
}

/** The counts, drawn anew while people work; the whole page once there is a first judgment to show. */
function live(view, first, settings) {
  const root = h("div", { class: "live" });
  let shown = first;
  const draw = () => root.replaceChildren(figures(shown, settings), states(shown));
  const look = async () => {
    if (!root.isConnected) return; // another tab of the page, or another language
    const begun = performance.now();
    try {
      const found = document.hidden ? shown : await call("GET", within(view.project, "progress"));
      const changed = JSON.stringify(found) !== JSON.stringify(shown);
      if (changed && !shown.judgments && !view.main.contains(document.activeElement) && root.isConnected) return void (await show(view));
      shown = found;
      if (changed) draw();
    } catch (error) {
      if (!error.passing) return;
    }
    setTimeout(look, Math.max(LOOK_MS, REST * (performance.now() - begun)));
  };
  draw();
  setTimeout(look, LOOK_MS);
  return root;
}

/** Judgments a day over the last week, and how many days are left at that rate. */
function pace({ per_day: days, wanted }) {
  const from = Math.max(days.length ? Date.parse(days[0].day) : 0, Math.floor(Date.now() / DAY_MS) * DAY_MS - (RATE_DAYS - 1) * DAY_MS);
  const recent = days.filter(({ day }) => Date.parse(day) >= from).reduce((sum, { judgments }) => sum + judgments, 0);
  const rate = recent / Math.max(1, Math.ceil((Date.now() - from) / DAY_MS));
  return { rate, left: wanted === 0 ? 0 : rate > 0 ? wanted / rate : null };
}

function figures(progress, settings) {
  const { tasks, judgments, hours, cost, currency } = progress;
  const counted = tasks.done + tasks.begun + tasks.waiting;
  const { rate, left } = pace(progress);
  const time = left === null ? t("manage.left.unknown") : left === 0 ? t("manage.left.none") : t("manage.left.days", { n: amount(left, left < 3 ? 1 : 0) });
  return h("section", { class: "card panel", "aria-label": t("manage.figures") }, facts([
    [t("manage.figure.done"), counted ? percent(tasks.done / counted) : "–", t("manage.figure.done.note", { done: amount(tasks.done), all: amount(counted) })],
    [t("manage.figure.judgments"), amount(judgments), t("manage.figure.rate", { n: amount(rate, 1) })],
    [t("manage.figure.left"), time, t("manage.figure.left.note")],
    [t("manage.figure.cost"), money(cost, currency), t("manage.figure.hours", { n: amount(hours, 1) })],
    [t("manage.figure.each"), progress.cost_per_judgment === null ? "–" : money(progress.cost_per_judgment, currency), settings.cost_per_hour ? t("manage.figure.each.note", { cost: money(settings.cost_per_hour, currency) }) : t("manage.figure.free")],
  ]), progress.without_time > 0 && hint(t("manage.figure.untimed", { n: amount(progress.without_time) })));
}

function states({ tasks }) {
  const entries = STATES.map((name) => ({ name, value: tasks[name], label: t(`manage.state.${name}`) }));
  const text = entries.map(({ label, value }) => `${label} ${value}`).join(", ");
  return panel(t("manage.states.title"), parts(t("manage.states.title"), text, entries), h("ul", { class: "legend" }, entries.map(({ name, value, label }) => h("li", {}, h("span", { class: `swatch part-${name}`, "aria-hidden": true }), `${label} `, h("b", {}, amount(value))))));
}

/** Every day since the first judgment, at most the last thirty; days without any are shown, too. */
function days({ per_day: found }) {
  const known = new Map(found.map(({ day, judgments }) => [day, judgments]));
  const last = Math.max(Date.parse(found.at(-1).day), Math.floor(Date.now() / DAY_MS) * DAY_MS);
  const first = Math.max(Date.parse(found[0].day), last - (SHOWN_DAYS - 1) * DAY_MS);
  const short = new Intl.DateTimeFormat(lang(), { month: "numeric", day: "numeric", timeZone: "UTC" });
  const entries = [];
  for (let day = first; day <= last; day += DAY_MS) {
    const value = known.get(new Date(day).toISOString().slice(0, 10)) ?? 0;
    entries.push({ label: short.format(day), value, shown: `${short.format(day)}: ${value}` });
  }
  const text = t("manage.days.text", { n: entries.length, most: Math.max(...entries.map(({ value }) => value)) });
  const rows = entries.map(({ label, value }) => [label, amount(value)]);
  return panel(t("manage.days.title"), bars(t("manage.days.title"), text, entries), hint(t("manage.days.utc")), fold(t("manage.as.table"), table(t("manage.days.title"), [t("manage.day"), [t("manage.figure.judgments"), "num"]], rows)));
}

function sides(project, { left }) {
  if (!left.n) return panel(t("manage.sides.title"), nothing(t("manage.sides.none"), t("manage.sides.hint")));
  const ticks = [[0, "0%"], [0.5, "50%"], [1, "100%"]];
  const text = `${percent(left.value)}, ${range(left)}`;
  const chart = intervals(t("manage.sides.title"), text, [{ label: t("manage.sides.left"), ...left, shown: text }], { low: 0, high: 1, ticks, mark: 0.5 });
  return panel(t("manage.sides.title"), chart, h("p", {}, t(left.p < 0.01 ? "manage.sides.apart" : "manage.sides.fine", { p: chance(left.p) })), h("p", {}, share(left)), hint(t("manage.sides.hint")), h("p", {}, h("a", { href: page(project, "agreement", "bias") }, t("manage.sides.more"))));
}

/** What happened last, once somebody wants to know. */
function events(project) {
  const where = outcome();
  const load = () => run(null, where, async () => {
    const { items } = await call("GET", within(project, "events?limit=20"));
    const rows = items.map((one) => [moment(one.at_ms), h("bdi", {}, worded("manage.actor", one.actor)), worded("manage.event", one.action), `${worded("manage.entity", one.entity)} ${one.entity_id.slice(-6)}`]);
    return rows.length ? table(t("manage.events.title"), [t("manage.when"), t("manage.who"), t("manage.what"), t("manage.events.on")], rows) : t("manage.events.none");
  });
  return h("details", { class: "card panel fold", ontoggle: ({ target }) => target.open && load() }, h("summary", {}, h("h2", {}, t("manage.events.title"))), where);
}
