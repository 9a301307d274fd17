/** Prompts and answers: brought in from files, or drawn from models. */
import { button, h, press, toggle } from "./dom.js";
import { t } from "./i18n.js";
import { call, within } from "./manage_api.js";
import { generation } from "./manage_generate.js";
import { amount, area, check, confirmed, outcome, run, facts, field, fold, form, grid, heading, hint, input, nothing, pager, panel, select, table, tag, when } from "./manage_ui.js";

const SIZE = 20;
const AFTER_MS = 200;
const LARGEST = 64 * 1024 * 1024; // of a request, in which quotes and ends of lines take two bytes
const FORMATS = [["jsonl", "JSON Lines"], ["json", "JSON"], ["csv", "CSV"]];

export async function show(view) {
  const list = h("section", { class: "card panel", "aria-labelledby": "prompt-list" });
  const page = (offset) => fill(list, view.project, offset, page);
  const parts = [importing(view.project, () => page(0)), await generation(view.project, () => page(0))];
  await page(0);
  view.draw(heading(t("manage.tab.prompts"), t("manage.prompts.hint")), parts, list);
}

// ------------------------------------------------------------------------------------------------------------ importing

function importing(project, after) {
  const file = h("input", { type: "file", class: "field", accept: ".jsonl,.ndjson,.json,.csv,.txt,application/json,text/csv" });
  const text = area("", { rows: 5, spellcheck: "false", class: "field mono", dir: "auto" });
  const format = select(FORMATS, "jsonl");
  const name = input("", { maxlength: 200, autocomplete: "off" });
  const model = input("", { maxlength: 200, autocomplete: "off" });
  const seen = h("div", { "aria-live": "polite" });
  const personal = select(["drop", "mask", "keep"].map((one) => [one, t(`manage.import.personal.${one}`)]), "drop");
  const agreed = check(t("manage.import.agreed"), false);
  const conditions = h("div", {}, hint(t("manage.import.chat.hint")), field(t("manage.import.personal"), personal, t("manage.import.personal.hint")), agreed);
  let kind = "prompts";
  const model_field = field(t("manage.import.model"), model, t("manage.import.model.hint"));
  const kinds = ["prompts", "chat", "responses"].map((one) => [one, toggle(t(`manage.import.${one}`), () => choose(one))]);
  function choose(one) {
    kind = one;
    kinds.forEach(([own, node]) => press(node, own === kind));
    model_field.hidden = kind !== "responses";
    conditions.hidden = kind !== "chat";
    model.required = kind === "responses";
  }
  choose(kind);
  file.addEventListener("change", async () => {
    const [chosen] = file.files;
    seen.replaceChildren();
    if (!chosen) return;
    if (chosen.size > LARGEST) return seen.replaceChildren(too_large());
    name.value = chosen.name.slice(0, 200);
    format.value = { json: "json", csv: "csv" }[chosen.name.split(".").at(-1).toLowerCase()] ?? "jsonl";
    text.value = await chosen.text();
    look();
  });
  const look = () => seen.replaceChildren(...sample(text.value, format.value));
  let later = 0; // not on "change", which comes with the click on a button and would move it away under the pointer
  text.addEventListener("input", () => (clearTimeout(later), (later = setTimeout(look, AFTER_MS))));
  format.addEventListener("change", look);
  const work = async () => {
    const more = { responses: { model: model.value.trim() }, chat: { chat: { personal: personal.value, all_agreed: agreed.input.checked } } }[kind];
    const body = { name: name.value.trim() || "pasted", text: text.value, format: format.value, ...more };
    if (new Blob([JSON.stringify(body)]).size > LARGEST) return too_large();
    const done = await call("POST", within(project, kind === "responses" ? kind : "prompts"), body);
    after();
    return account(done, kind);
  };
  text.required = true;
  return panel(t("manage.import.title"), hint(t("manage.import.hint")), form(t("manage.import.start"), work, [
    h("div", { class: "choices", role: "group", "aria-label": t("manage.import.what") }, kinds.map(([, node]) => node)), model_field, conditions,
    grid(field(t("manage.import.file"), file, t("manage.import.file.hint")), field(t("manage.import.format"), format), field(t("manage.import.name"), name, t("manage.import.name.hint"))),
    field(t("manage.import.text"), text, t("manage.import.text.hint")), seen,
  ]));
}

const too_large = () => h("p", { class: "refusal" }, t("manage.import.large", { n: amount(LARGEST / 1048576) }));

/** What the browser sees in the text before it is sent: how many rows, and the first one's columns. */
function sample(text, format) {
  const lines = text.split(/\r?\n/).filter((line) => line.trim());
  if (!lines.length) return [];
  const count = format === "csv" ? lines.length - 1 : lines.length;
  const rows = format === "json" ? parse(text) : format === "jsonl" ? parse(lines[0]) : null;
  const first = Array.isArray(rows) ? rows[0] : rows;
  const columns = format === "csv" ? lines[0].split(",").map((one) => [one.replaceAll('"', "").trim(), ""]) : Object.entries(first ?? {});
  const told = t("manage.import.sample", { n: amount(format === "json" ? (Array.isArray(rows) ? rows.length : 1) : count) });
  if (format !== "csv" && (first === null || typeof first !== "object")) return [h("p", { class: "refusal" }, t("manage.import.unreadable", { format: FORMATS.find(([own]) => own === format)[1] }))];
  return [hint(told), table(t("manage.import.columns"), [t("manage.import.column"), t("manage.import.example")], columns.map(([column, value]) => [h("code", {}, column), short(typeof value === "string" ? value : JSON.stringify(value))]))];
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

const short = (text, most = 120) => (text.length > most ? `${text.slice(0, most)}…` : text);

/** A reason in the reader's language; one that names a column of the file is as the server says it. */
function because(reason) {
  const key = `manage.ledger.reason.${reason.replaceAll(" ", "_")}`;
  return t(key) === key ? h("span", { lang: "en" }, reason) : t(key);
}

/** Every row is accounted for: kept, or left out and why. */
function account({ added, known, prompts, answers_left: left, ledger }, kind) {
  const dropped = Object.values(ledger.dropped_by_reason).reduce((sum, n) => sum + n, 0);
  const told = facts([
    [t("manage.ledger.prompts"), amount(prompts)], kind === "responses" && [t("manage.ledger.answers"), amount(added)], [t("manage.ledger.known"), amount(known)], left > 0 && [t("manage.ledger.left"), amount(left), t("manage.ledger.left.note")],
    [t("manage.ledger.rows"), amount(ledger.rows)], [t("manage.ledger.kept"), amount(ledger.kept)], [t("manage.ledger.dropped"), amount(dropped)],
  ]);
  const rows = ledger.dropped.map(({ row, reason, sentence }) => [h("code", {}, row), because(reason), h("span", { lang: "en" }, sentence)]);
  return [h("p", { class: "done" }, t("manage.import.done")), h("p", {}, t("manage.ledger.taken"), " ", h("code", { lang: "en" }, ledger.description)), told,
    dropped > 0 && fold(t("manage.ledger.why", { n: amount(dropped) }), table(t("manage.ledger.title"), [t("manage.ledger.row"), t("manage.ledger.because"), [t("manage.ledger.sentence"), "long"]], rows), dropped > rows.length && hint(t("manage.ledger.more", { n: amount(dropped - rows.length) })))];
}

// ----------------------------------------------------------------------------------------------------------- the list

async function fill(list, project, offset, go) {
  const found = await call("GET", within(project, `prompts?offset=${offset}&limit=${SIZE}`));
  const title = h("h2", { id: "prompt-list" }, t("manage.prompts.list"));
  if (!found.total) return list.replaceChildren(title, nothing(t("manage.prompts.none"), t("manage.prompts.none.hint")));
  const items = found.items.map((one) => h("li", {}, h("details", { class: "item" },
    h("summary", {}, h("bdi", { class: "start" }, one.messages.at(-1)?.content || one.id), one.messages.length > 1 && tag(t("manage.turns", { n: one.messages.length })), tag(t("manage.answers", { n: amount(one.responses) }), one.responses ? "" : "warn"), one.removed ? tag(t("manage.removal.removed")) : one.withdrawn && tag(t("manage.state.withdrawn"))),
    h("div", { class: "item-body" }, one.messages.map(({ role, content }) => h("div", { class: "said-turn" }, h("h3", { class: "role" }, t(`role.${role}`)), h("p", { class: "pre", dir: "auto" }, content))),
      facts([[t("manage.source"), h("bdi", {}, one.source)], [t("manage.created"), when(one.created_ms)], [t("manage.id"), h("code", {}, one.id)], ...Object.entries(one.extra).map(([key, value]) => [key, short(typeof value === "string" ? value : JSON.stringify(value))])]), !one.removed && withdrawing(one, project, () => go(offset))))));
  list.replaceChildren(title, h("ul", { class: "items" }, items), pager(found, SIZE, (to) => go(to).then(() => list.scrollIntoView({ block: "start" }))) ?? "");
}

/** A prompt with all its tasks counts no more, or counts again. */
function withdrawing(one, project, redraw) {
  const where = outcome();
  const way = one.withdrawn ? "restore" : "withdraw";
  const node = button(t(`manage.prompt.${way}`), async () => {
    if (!one.withdrawn && !(await confirmed(t("manage.prompt.withdraw.title"), t("manage.prompt.withdraw.text"), t("manage.prompt.withdraw")))) return;
    run(node, where, async () => {
      await call("POST", within(project, `prompts/${way}`), { prompts: [one.id] });
      await redraw();
    });
  }, { look: "small" });
  return h("div", { class: "row-tools" }, node, where);
}
