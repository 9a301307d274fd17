/** Exports: what they hold is looked at before it is written; earlier ones stay. */
import { button, h } from "./dom.js";
import { lang, t } from "./i18n.js";
import { api, call, within } from "./manage_api.js";
import { amount, check, facts, field, fold, form, grid, heading, hint, moment, nothing, number, outcome, pager, panel, run, select, table, worded } from "./manage_ui.js";

const SIZE = 20;
const LAYOUTS = ["pairs", "trl", "openrlhf", "hh", "ranks", "kto", "pku", "criteria", "edits", "facts"];
const PAIRED = ["pairs", "trl", "openrlhf", "hh"];
const UNLABELLED = ["edits", "facts"];
const OF = ["pairs", "rankings", "helpful", "safer", "edits"];
const LONGEST = 160;

export async function show(view) {
  const earlier = h("section", { class: "card panel", "aria-labelledby": "earlier" });
  const page = (offset) => list(earlier, view.project, offset, page);
  await page(0);
  view.draw(heading(t("manage.tab.export"), t("manage.export.hint")), wanted(view.project, () => page(0)), earlier);
}

const named = (prefix, values) => values.map((one) => [one, t(`${prefix}.${one}`)]);

/** The settings as the server takes them; fields that a layout has no use for are hidden and not sent. */
function fields() {
  const layout = select(named("manage.layout", LAYOUTS));
  const of = select(named("manage.of", OF));
  const expand = select(named("manage.expand", ["all", "adjacent", "best"]));
  const prompt = select(named("manage.promptform", ["explicit", "implicit"]));
  const method = select(named("manage.method", ["smoothed", "majority", "dawid_skene"]));
  const rankings = select(named("manage.rankings", ["plackett_luce", "bradley_terry"]));
  const ties = select(named("manage.ties", ["half", "drop"]));
  const margin = select(named("manage.margin", ["none", "strength", "log_odds"]));
  const prior = number(0.5, { min: 0.001, max: 10, required: true });
  const largest = number(3, { min: 0.001, required: true });
  const adjudicated = number(0.95, { min: 0.501, max: 1, required: true });
  const reliability = number("", { min: 0, max: 1 });
  const held = number(0, { min: 0, max: 99, required: true });
  const watermark = number("", { min: 0, step: 1 });
  const language = select(named("manage.lang", ["ko", "en"]), lang());
  const guidelines = select(named("manage.under", ["all", "newest"]));
  const strength = check(t("manage.label.by_strength"), false, t("manage.label.by_strength.hint"));
  const [models, gzip, csv] = ["models", "gzip", "csv"].map((name) => check(t(`manage.export.${name}`), false, t(`manage.export.${name}.hint`)));
  const label = (name, control) => field(t(`manage.label.${name}`), control, t(`manage.label.${name}.hint`));
  const own = { layout: field(t("manage.export.layout"), layout, " "), of: field(t("manage.export.of"), of), expand: field(t("manage.export.expand"), expand), prompt: field(t("manage.export.prompt"), prompt, t("manage.export.prompt.hint")) };
  const labels = fold(t("manage.export.labels"), hint(t("manage.export.labels.hint")), grid(label("method", method), label("rankings", rankings), label("prior", prior), label("ties", ties), label("margin", margin), label("largest_margin", largest), label("adjudicated", adjudicated), label("guidelines", guidelines), label("min_reliability", reliability), strength));
  const fit = () => {
    own.layout.querySelector(".hint").textContent = t(`manage.layout.${layout.value}.hint`);
    own.of.hidden = !PAIRED.includes(layout.value);
    own.expand.hidden = own.of.hidden || of.value !== "rankings";
    own.prompt.hidden = layout.value !== "trl";
    labels.hidden = UNLABELLED.includes(layout.value);
  };
  [layout, of].forEach((node) => node.addEventListener("change", fit));
  fit();
  const read = () => ({
    layout: layout.value,
    settings: {
      ...(own.of.hidden ? {} : { of: of.value }), ...(own.expand.hidden ? {} : { expand: expand.value }), ...(own.prompt.hidden ? {} : { prompt: prompt.value }),
      held_out: held.valueAsNumber / 100, models: models.input.checked, gzip: gzip.input.checked, csv: csv.input.checked, lang: language.value,
      ...(watermark.value ? { watermark: watermark.valueAsNumber } : {}),
      labels: {
        method: method.value, rankings: rankings.value, ties: ties.value, margin: margin.value, prior: prior.valueAsNumber, largest_margin: largest.valueAsNumber,
        adjudicated: adjudicated.valueAsNumber, guidelines: guidelines.value, by_strength: strength.input.checked, ...(reliability.value ? { min_reliability: reliability.valueAsNumber } : {}),
      },
    },
  });
  const shown = [grid(own.layout, own.of, own.expand, own.prompt, field(t("manage.export.held_out"), held, t("manage.export.held_out.hint"))), labels,
    fold(t("manage.export.more"), grid(models, csv, gzip, field(t("manage.export.lang"), language, t("manage.export.lang.hint")), field(t("manage.export.watermark"), watermark, t("manage.export.watermark.hint"))))];
  return { shown, read };
}

function wanted(project, after) {
  const { shown, read } = fields();
  const where = outcome();
  const look = button(t("manage.export.preview"), () => look.form.reportValidity() && run(look, where, async () => preview(await call("POST", within(project, "exports/preview"), read()))), { look: "primary" });
  const work = async () => {
    const made = await call("POST", within(project, "exports"), read());
    await after();
    return [h("p", { class: "done" }, t("manage.export.written", { n: amount(made.rows) })), h("p", {}, download(made))];
  };
  return panel(t("manage.export.new"), form(t("manage.export.write"), work, shown, { look: "", before: [look] }), where);
}

const download = ({ id, layout }) => h("a", { class: "button small", href: `${api}/exports/${id}/download`, download: true, "aria-label": `${t("manage.export.download")}: ${layout}` }, t("manage.export.download"));

/** Why something was left out, in words; the server's where there are none of ours. */
function why(name) {
  const [, part, own] = /^(helpful|safer)_(.+)$/.exec(name) ?? [null, null, name];
  const words = worded("manage.drop", own);
  return part ? `${t(`manage.of.${part}`)}: ${words}` : words;
}

const left_out = (dropped) => table(t("manage.export.dropped"), [t("manage.ledger.because"), [t("manage.count"), "num"]], Object.entries(dropped).map(([name, n]) => [why(name), amount(n)]));

function preview({ rows, count, dropped }) {
  const none = Object.keys(dropped).length === 0;
  const all = Object.values(dropped).reduce((sum, n) => sum + n, 0);
  const told = [h("h3", {}, t("manage.export.preview")), facts([[t("manage.export.rows"), amount(count)], [t("manage.export.dropped"), amount(all)]]), !none && left_out(dropped)];
  if (!rows.length) return [...told, nothing(t("manage.export.empty"), t("manage.export.empty.hint"))];
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const cell = (value) => (typeof value === "number" ? amount(value, 4) : h("span", { class: "cell", dir: "auto" }, short(typeof value === "string" ? value : JSON.stringify(value ?? null))));
  return [...told, hint(t("manage.export.first", { n: amount(rows.length) })), table(t("manage.export.preview"), columns, rows.map((row) => columns.map((name) => cell(row[name]))), { keeps: true })];
}

const short = (text) => (text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text);

async function list(root, project, offset, go) {
  const found = await call("GET", within(project, `exports?offset=${offset}&limit=${SIZE}`));
  const title = h("h2", { id: "earlier" }, t("manage.export.earlier"));
  if (!found.total) return root.replaceChildren(title, nothing(t("manage.export.none"), t("manage.export.none.hint")));
  const rows = found.items.map((one) => Object.assign([
    moment(one.created_ms), t(`manage.layout.${one.layout}`), amount(one.rows), amount(Object.values(one.dropped).reduce((sum, n) => sum + n, 0)), amount(one.watermark),
    one.here ? h("div", { class: "row-tools" }, download(one)) : h("span", { class: "note" }, t("manage.export.elsewhere")),
  ], { below: h("p", { class: "note" }, "SHA-256 ", h("code", { class: "digest" }, one.sha256)) }));
  const heads = [t("manage.created"), t("manage.export.layout"), [t("manage.export.rows"), "num"], [t("manage.export.dropped"), "num"], [t("manage.export.watermark"), "num"], [t("manage.actions"), "acts"]];
  return root.replaceChildren(...[title, table(t("manage.export.earlier"), heads, rows), pager(found, SIZE, go), hint(t("manage.export.same"))].filter(Boolean));
}
