/** Tasks: made of the answers that are there, listed by state. One task is shown at #task/ID. */
import { choices, h } from "./dom.js";
import { t } from "./i18n.js";
import { unbind } from "./keys.js";
import { call, refusal, within } from "./manage_api.js";
import { changing } from "./manage_change.js";
import { showTask, status } from "./manage_task.js";
import { amount, field, fold, form, grid, heading, hint, input, nothing, number, pager, panel, select, table } from "./manage_ui.js";

const SIZE = 25;
const KINDS = ["pair", "rank", "thumb", "safety", "criteria", "edit"];
const SIZES = { pair: null, safety: null, edit: null, rank: 4, thumb: 1, criteria: 1 };
const STATES = ["", "open", "full", "closed", "withdrawn", "gold"];
let listening = null;

/** The address's fragment says what is shown: a task, or which tasks (state, kind, priority, source) from where on. */
export async function show(view) {
  listening?.abort();
  listening = new AbortController();
  const open = async () => {
    unbind();
    const [what, at, kind = "", priority = "", source = ""] = location.hash.slice(1).split("/");
    try {
      if (what === "task") await showTask(view, at);
      else await list(view, { state: STATES.includes(what) ? what : "", kind: KINDS.includes(kind) ? kind : "", priority: /^-?\d+$/.test(priority) ? priority : "", source: decodeURIComponent(source) }, Number(at) || 0);
    } catch (error) {
      view.draw(heading(t("manage.tab.tasks")), refusal(error), h("p", {}, h("a", { href: "#" }, t("manage.task.back"))));
    }
    window.scrollTo(0, 0);
  };
  window.addEventListener("hashchange", open, { signal: listening.signal });
  await open();
}

const address = ({ state, kind, priority, source }, offset) => [state || "all", offset, kind, priority, encodeURIComponent(source)].join("/").replace(/\/+$/, "");

async function list(view, which, offset, words = null) {
  const given = Object.fromEntries(Object.entries(which).filter(([, value]) => value !== ""));
  const [found, { settings }, sources] = await Promise.all([call("GET", within(view.project, `tasks?${new URLSearchParams({ ...given, offset, limit: SIZE })}`)), call("GET", within(view.project)), call("GET", within(view.project, "sources"))]);
  const go = (to) => (location.hash = address(which, to));
  const redraw = (told) => list(view, which, 0, told);
  const filter = choices(t("manage.tasks.filter"), STATES.map((one) => [one, t(`manage.tasks.${one || "all"}`)]), (one) => (location.hash = address({ ...which, state: one }, 0)), "small");
  filter.show(which.state);
  const numbers = "priority" in given ? { ...given, priority: Number(given.priority) } : given;
  const rows = found.items.map((one) => [
    h("a", { class: "start-of", href: `#task/${one.id}` }, h("bdi", {}, one.prompt_start || one.id)), t(`kind.${one.kind}`), [status(one)],
    `${amount(one.judgments)} / ${one.is_gold ? "–" : amount(one.overlap)}`, amount(one.priority),
  ]);
  const heads = [t("manage.prompt"), t("manage.kind"), t("manage.state"), [t("manage.tasks.judged"), "num"], [t("manage.priority"), "num"]];
  const shown = found.total ? [table(t("manage.tasks.list"), heads, rows), pager(found, SIZE, go)] : nothing(t("manage.tasks.none"), Object.keys(given).length ? t("manage.tasks.none.state") : t("manage.tasks.none.hint"));
  view.draw(heading(t("manage.tab.tasks"), t("manage.tasks.hint")), making(view, settings), panel(t("manage.tasks.list"), words, filter.root, narrowing(which, sources), shown, found.total > 0 && which.state !== "gold" && changing(view, numbers, redraw)));
}

/** Further conditions on the list; each change shows it anew. */
function narrowing(which, { sources }) {
  const kind = select([["", t("manage.tasks.any")], ...KINDS.map((one) => [one, t(`kind.${one}`)])], which.kind);
  const priority = number(which.priority, { min: -1000000, max: 1000000, step: 1 });
  const source = input(which.source, { maxlength: 200, list: "sources", autocomplete: "off" });
  const look = () => priority.checkValidity() && (location.hash = address({ ...which, kind: kind.value, priority: priority.value, source: source.value.trim() }, 0));
  for (const node of [kind, priority, source]) node.addEventListener("change", look);
  return h("div", { class: "fields narrow" }, field(t("manage.kind"), kind), field(t("manage.priority"), priority), field(t("manage.source"), source), h("datalist", { id: "sources" }, sources.map((one) => h("option", { value: one }))));
}

function making(view, settings) {
  const kind = select(KINDS.map((one) => [one, t(`kind.${one}`)]));
  const overlap = number(settings.overlap, { min: 1, max: 50, step: 1, required: true });
  const each = number(1, { min: 1, max: 100, step: 1, required: true });
  const size = number("", { min: 1, max: 9, step: 1 });
  const priority = number(0, { min: -1000, max: 1000, step: 1, required: true });
  const size_field = field(t("manage.tasks.size"), size, t("manage.tasks.size.hint"));
  const fit = () => {
    size_field.hidden = SIZES[kind.value] === null;
    size.value = SIZES[kind.value] ?? "";
    size.min = kind.value === "rank" ? 2 : 1;
  };
  kind.addEventListener("change", fit);
  fit();
  const work = async () => {
    const body = { kind: kind.value, overlap: overlap.valueAsNumber, per_prompt: each.valueAsNumber, priority: priority.valueAsNumber };
    const done = await call("POST", within(view.project, "tasks"), size_field.hidden ? body : { ...body, size: size.valueAsNumber });
    const refused = done.refused.map(({ prompt, code, values }) => [h("code", {}, prompt), t(`manage.tasks.left.${code}`, { ...values, kind: t(`kind.${values.kind}`) })]);
    const told = [t("manage.tasks.made", { added: amount(done.added), known: amount(done.known) }), refused.length > 0 && fold(t("manage.tasks.refused", { n: amount(refused.length) }), table(t("manage.tasks.refused", { n: amount(refused.length) }), [t("manage.prompt"), t("manage.ledger.because")], refused.slice(0, 200)))];
    if (done.added) await list(view, { state: "", kind: "", priority: "", source: "" }, 0);
    view.main.querySelector(".outcome")?.replaceChildren(...told.filter(Boolean).map((one) => (typeof one === "string" ? h("p", { class: "done" }, one) : one)));
    return told;
  };
  const ask = h("pre", { class: "log", tabindex: "0", "aria-label": t("manage.tasks.chosen") }, `baro feedback ask ${view.project} --count 200 --by RUN`);
  return panel(t("manage.tasks.make"), hint(t("manage.tasks.make.hint")), form(t("manage.tasks.start"), work, grid(
    field(t("manage.kind"), kind), field(t("manage.set.overlap"), overlap, t("manage.tasks.overlap.hint")), field(t("manage.tasks.each"), each, t("manage.tasks.each.hint")), size_field, field(t("manage.priority"), priority, t("manage.priority.hint")))), fold(t("manage.tasks.chosen"), hint(t("manage.tasks.chosen.hint")), ask));
}
