/** Disagreements: a queue without what anybody said, and one task at a time to settle. */
import { button, h } from "./dom.js";
import { keeper } from "./draft.js";
import { t } from "./i18n.js";
import { answering, resumed } from "./manage_answer.js";
import { api, call, refusal, within } from "./manage_api.js";
import { amount, area, check, field, heading, hint, nothing, outcome, panel, percent, run, table } from "./manage_ui.js";
import { newKey } from "./outbox.js";
import * as timer from "./timer.js";

const MOST = 100;
const REASONS = ["ambiguous", "guideline_gap", "rater_error", "subjective"];

export async function show(view, told = "") {
  const { items, total } = await call("GET", within(view.project, `adjudication?limit=${MOST}`));
  const where = outcome();
  if (told) where.append(h("p", { class: "done" }, told));
  const list = h("div", {});
  const draw = (open) => list.replaceChildren(items.length ? queue(view, items, open, where) : nothing(t("manage.adjudicate.none"), t("manage.adjudicate.none.hint")));
  const reveal = view.role === "manager" && items.length > 0 && check(t("manage.adjudicate.reveal"), false, t("manage.adjudicate.reveal.hint"));
  if (reveal) reveal.input.addEventListener("change", ({ target }) => draw(target.checked));
  draw(false);
  view.draw(heading(t("manage.tab.adjudicate"), t("manage.adjudicate.hint")), panel(t("manage.adjudicate.queue"), items.length > 0 && hint(t("manage.adjudicate.count", { n: amount(total) })), total > items.length && hint(t("manage.adjudicate.first", { n: amount(items.length) })), where, reveal, list));
}

function queue(view, items, open, where) {
  const heads = [t("manage.prompt"), t("manage.kind"), ...(open ? [[t("manage.adjudicate.sure"), "num"], [t("manage.adjudicate.divided"), "long"]] : []), [t("manage.actions"), "acts"]];
  const rows = items.map((one) => {
    const begin = button(t("manage.adjudicate.open"), () => run(begin, where, () => settle(view, one.task)), { look: "small", "aria-label": `${t("manage.adjudicate.open")}: ${one.prompt_start}` });
    const more = open ? [one.posterior === null ? null : percent(one.posterior), h("ul", { class: "plain-list" }, one.questions.map(divided))] : [];
    return [h("bdi", {}, one.prompt_start), t(`kind.${one.kind}`), ...more, begin];
  });
  return table(t("manage.adjudicate.queue"), heads, rows);
}

const divided = ({ scale, answers }) => {
  const name = scale.startsWith("score/") ? t("manage.scale.score", { name: scale.slice(6) }) : t(`manage.scale.${scale.replace("/", ".")}`);
  return h("li", {}, `${name}: ${Object.values(answers).map((n) => amount(n)).join(" : ")}`);
};

/** One task, shown as to a rater; the answer counts in place of the votes. */
async function settle(view, id) {
  const task = await call("POST", `${api}/tasks/${id}/adjudicate`, {});
  const kept = task.answer ?? task.draft?.answer ?? {};
  const said = { reason: kept.reason ?? "", note: kept.note ?? "", flags: structuredClone(kept.flags ?? []) };
  const draft = keeper(task, () => {});
  const where = outcome();
  const key = newKey();
  const note = area(said.note, { rows: 3, maxlength: 10000, dir: "auto" });
  const radios = REASONS.map((name) => {
    const input = h("input", { type: "radio", name: "reason", value: name, checked: said.reason === name });
    return { name, input, root: h("label", { class: "line" }, input, h("span", {}, t(`manage.reason.${name}`), h("span", { class: "note" }, t(`manage.reason.${name}.hint`)))) };
  });
  const why = () => radios.find(({ input }) => input.checked)?.name;
  const content = (answer) => ({ answer, comment: note.value, reason: why() ?? "", note: note.value, flags: said.flags });
  let answer = kept.answer;
  const touch = () => answer && draft.touch(content(answer), timer.read());
  const asked = h("fieldset", { class: "plain card panel" }, h("legend", {}, t("manage.adjudicate.why")), h("div", { class: "reasons" }, radios.map(({ root }) => root)), field(t("manage.adjudicate.note"), note, t("manage.adjudicate.note.hint")));
  asked.addEventListener("input", touch);
  const lacks = () => {
    if (why()) return null;
    radios[0].input.focus();
    return "manage.adjudicate.need";
  };
  const submit = (final) =>
    run(null, where, async () => {
      draft.stop();
      const submission = { lease: task.lease, key, answer: final, comment: note.value, flags: said.flags, guideline_id: task.guideline?.id ?? null, ...timer.read(), ui_version: document.body.dataset.version };
      await call("POST", `/api/assignments/${task.assignment}/adjudication`, { submission, reason: why(), note: note.value.trim() });
      draft.discard();
      page.stop();
      await show(view, t("manage.adjudicate.done"));
      window.scrollTo(0, 0);
    });
  const page = answering(task, { state: resumed(answer, task), submit, lacks, flags: said.flags, beside: h("div", { class: "answering" }, asked, where), comment: () => note.value, ask: () => note.focus(), change: (state) => ((answer = state), touch()) });
  const back = button(t("manage.adjudicate.leave"), async () => {
    page.stop();
    draft.stop();
    try {
      await call("POST", `/api/assignments/${task.assignment}/release`, { lease: task.lease });
      await show(view);
    } catch (error) {
      view.draw(heading(t("manage.tab.adjudicate")), refusal(error));
    }
  }, { look: "small" });
  view.draw(heading(t(`kind.${task.kind}.title`), t("manage.adjudicate.blind"), back), page.root);
  page.start();
  timer.start();
  window.scrollTo(0, 0);
}
