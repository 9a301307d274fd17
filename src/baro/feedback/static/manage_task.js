/** One task with everything about it: who wrote what, and who said what. For managers only. */
import { SKIPS } from "./dialogs.js";
import { button, h } from "./dom.js";
import { t } from "./i18n.js";
import { answering, resumed, said } from "./manage_answer.js";
import { api, call, within } from "./manage_api.js";
import { oneTask } from "./manage_change.js";
import { removal } from "./manage_removal.js";
import { area, confirmed, facts, field, heading, hint, moment, nothing, outcome, panel, run, seconds, table, tag, when } from "./manage_ui.js";
import { conversation, letter, prose } from "./responses.js";

const POLICIES = ["random", "margin", "disagreement", "imported"];

/** words: what was just done, told above the task, or in the panel of the known answer. */
export async function showTask(view, id, words = "", above = false) {
  const [task, { criteria }, { settings }] = await Promise.all([call("GET", `${api}/tasks/${encodeURIComponent(id)}`), call("GET", within(view.project, "criteria")), call("GET", within(view.project))]);
  task.criteria = criteria.toSorted((one, other) => (one.key === "overall") - (other.key === "overall"));
  const told = words && h("p", { class: "done", role: "status" }, words);
  const again = (next) => showTask(view, id, next, true);
  view.draw(
    h("p", {}, h("a", { href: "#" }, t("manage.task.back"))), above && told,
    heading(t("manage.task.title", { kind: t(`kind.${task.kind}`) }), t("manage.task.managers"), status({ ...task, judgments: task.judgments.length })),
    h("section", { class: "card panel" }, conversation(task.prompt.messages), facts([
      [t("manage.source"), h("bdi", {}, task.prompt.source)], [t("manage.created"), when(task.created_ms)], [t("manage.set.overlap"), String(task.overlap)], [t("manage.priority"), String(task.priority)],
      [t("manage.task.policy"), POLICIES.includes(task.policy) ? t(`manage.policy.${task.policy}`) : task.policy], [t("manage.task.propensity"), String(Math.round(task.propensity * 1000) / 1000)], [t("manage.id"), h("code", {}, task.id)],
    ]), rounds(task)),
    h("section", { class: "cards of-2", "aria-label": t("manage.task.responses") }, task.responses.map(response)),
    panel(t("manage.task.judgments"), task.judgments.length > 0 ? judgments(task) : nothing(t("manage.task.unjudged"))),
    ...(task.skips.length ? [panel(t("manage.task.skips"), skips(task))] : []),
    oneTask(view, task, again),
    (task.gold_answer ? known : gold)(view, task, settings, !above && told),
    removal(view, task, again),
  );
}

/** What this task asks again, and what asks it again. */
const rounds = ({ earlier, later }) => (earlier || later) && h("div", { class: "row-tools" },
  earlier && h("a", { href: `#task/${earlier}` }, t("manage.task.earlier")), later && h("a", { href: `#task/${later}` }, t("manage.task.later")));

export function status(task) {
  if (task.withdrawn) return tag(t("manage.state.withdrawn"));
  if (task.is_gold) return task.open ? tag(t("manage.state.gold"), "gold") : tag(t("manage.state.ungold"));
  if (task.later) return tag(t("manage.state.again"));
  if (!task.open) return tag(t("manage.state.closed"));
  if (task.places === 0) return tag(t("manage.tasks.full"), "good");
  return task.judgments ? tag(t("manage.state.begun"), "some") : tag(t("manage.state.waiting"));
}

const author = (one) => one.model ?? t(`manage.author.${one.author}`);

function response(one) {
  const settings = Object.entries(one.settings ?? {}).map(([name, value]) => `${name} ${value}`).join(", ");
  return h("article", { class: "card" },
    h("header", { class: "card-head still" }, h("h3", {}, t("manage.task.response", { n: one.slot + 1 })), tag(author(one), "model"), settings && h("span", { class: "note" }, settings), !one.finished && tag(t("response.cut"), "warn")),
    h("div", { class: "card-text" }, prose(one.html)));
}

/** What stood where on a rater's screen. */
function sides(task, shown) {
  return h("ul", { class: "plain-list" }, shown.map((id, position) => {
    const one = task.responses.find((other) => other.id === id);
    return h("li", {}, `${letter(position)} = ${t("manage.task.response", { n: one.slot + 1 })} `, h("span", { class: "note" }, author(one)));
  }));
}

function judgments(task) {
  const newest = new Map(task.judgments.map((one) => [`${one.rater} ${one.purpose}`, one.id]));
  const rows = task.judgments.map((one) => {
    const stale = newest.get(`${one.rater} ${one.purpose}`) !== one.id;
    const words = one.answer ? said(one.answer, task) : t("manage.task.retracted");
    return [
      h("span", {}, h("bdi", {}, one.pseudonym), one.purpose === "adjudicate" && [" ", tag(t("manage.task.adjudicated"), "good")], one.revision > 1 && [" ", tag(t("manage.task.revision", { n: one.revision }))], stale && [" ", tag(t("manage.task.stale"))]),
      h("div", { class: `pre-line ${stale ? "stale" : ""}` }, words), sides(task, one.shown),
      h("span", {}, moment(one.submitted_ms), h("span", { class: "note" }, [one.active_ms !== null && seconds(one.active_ms / 1000), one.guideline_version && t("manage.task.under", { n: one.guideline_version })].filter(Boolean).join(" · "))),
      !one.comment && !one.confidence && !one.flags.length && !one.reason && !one.note ? null : h("div", {}, one.comment && h("p", { class: "pre-line", dir: "auto" }, one.comment), one.confidence && h("p", { class: "note" }, `${t("manage.confidence")} ${t(`confidence.${one.confidence}`)}`),
        one.flags.map(({ flag }) => tag(t(`flag.${flag}`), "warn")), one.reason && h("p", {}, t(`manage.reason.${one.reason}`)), one.note && h("p", { class: "pre-line" }, one.note)),
    ];
  });
  return table(t("manage.task.judgments"), [t("manage.rater"), t("manage.task.answer"), [t("manage.task.sides"), "at"], [t("manage.when"), "at"], [t("manage.task.beside"), "long"]], rows);
}

/** Who left it to others, and what they told of it all the same. */
function skips(task) {
  const slot = (id) => task.responses.find((one) => one.id === id).slot + 1;
  const why = (reason) => reason.replace(/^\w+/, (code) => (SKIPS.includes(code) ? t(`skip.${code}`) : code));
  const rows = task.skips.map((one) => [h("bdi", {}, one.pseudonym),
    h("div", { class: "pre-line", dir: "auto" }, [why(one.reason), one.comment].filter(Boolean).join("\n"), one.flags.map(({ response_id, flag }) => [" ", tag(`${t("manage.task.response", { n: slot(response_id) })}: ${t(`flag.${flag}`)}`, "warn")]).flat()), moment(one.at_ms)]);
  return table(t("manage.task.skips"), [t("manage.rater"), [t("manage.task.skipped"), "long"], [t("manage.when"), "at"]], rows);
}

const slots = (task) => h("ul", { class: "plain-list" }, task.responses.map((one, at) => h("li", {}, `${letter(at)} = ${t("manage.task.response", { n: one.slot + 1 })}`)));

/** The known answer and why; another can stand in its place, or none. */
function known(view, task, settings, told) {
  const where = outcome();
  const withdraw = button(t("manage.gold.withdraw"), async () => {
    if (!(await confirmed(t("manage.gold.withdraw.title"), t("manage.gold.withdraw.text"), t("manage.gold.withdraw")))) return;
    run(withdraw, where, async () => {
      await call("POST", within(view.project, "gold/withdraw"), { task: task.id });
      await showTask(view, task.id, t("manage.gold.withdrawn"));
    });
  });
  return panel(t("manage.gold.title"), told, h("p", { class: "pre-line" }, said(resumed(task.gold_answer, task), task)), slots(task), task.gold_note && facts([[t("manage.gold.why"), h("bdi", { class: "pre-line" }, task.gold_note)]]),
    telling(view, task, settings, "PUT", t("manage.gold.correct"), withdraw), where);
}

/** Tell the answer to a task; where it was handed out, to a copy of it. */
function gold(view, task, settings, told) {
  const hints = [hint(t("manage.gold.hint")), task.is_gold && hint(t("manage.gold.gone")), task.judgments.length > 0 && hint(t("manage.gold.seen"))];
  return panel(t("manage.gold.title"), told, hints, telling(view, task, settings, "POST", t("manage.gold.begin")));
}

/** A button that opens the task as to a rater, and what is answered there becomes the known answer. */
function telling(view, task, settings, method, label, ...beside) {
  const note = area(task.gold_note, { rows: 2, maxlength: 2000, dir: "auto" });
  const where = outcome();
  const blank = { ...task, prompt: [], project: { ...settings, blur: false }, diff: null };
  const box = h("div", { class: "form", hidden: true });
  const send = (answer) => run(null, where, async () => {
    const made = await call(method, within(view.project, "gold"), { task: task.id, answer, note: note.value.trim() });
    if (made.task === task.id) await showTask(view, task.id, t("manage.gold.done"));
    else location.hash = `task/${made.task}`;
  });
  const begin = button(label, () => {
    const form = answering(blank, { state: resumed(task.gold_answer, blank), submit: send, comment: () => note.value, ask: () => note.focus() });
    box.replaceChildren(task.gold_answer ? hint(t("manage.gold.correct.hint")) : slots(task), field(t("manage.gold.note"), note), form.root, where);
    box.hidden = false;
    tools.hidden = true;
    form.start();
    box.scrollIntoView({ block: "start" });
  });
  const tools = h("div", { class: "row-tools" }, begin, beside);
  return [tools, box];
}
