/** Texts that somebody has a right to see removed: chosen on a task's page, and overwritten for ever. */
import { button, h } from "./dom.js";
import { t } from "./i18n.js";
import { call, within } from "./manage_api.js";
import { area, confirmed, field, fold, hint, outcome, run, select } from "./manage_ui.js";

/** Everything on a task's page that somebody wrote: [label, id, message]. */
function texts(task) {
  const turns = task.prompt.messages.map(({ role }, at) => [t("manage.removal.message", { n: at + 1, role: t(`role.${role}`) }), task.prompt.id, at + 1]);
  const responses = task.responses.map((one) => [t("manage.task.response", { n: one.slot + 1 }), one.id, null]);
  const said = task.judgments.filter((one) => one.action !== "retract").flatMap((one) => [
    [t("manage.removal.judgment", { name: one.pseudonym, n: one.revision }), one.id, null],
    ...(one.edited_id ? [[t("manage.removal.edit", { name: one.pseudonym, n: one.revision }), one.edited_id, null]] : []),
  ]);
  const skips = task.skips.map((one) => [t("manage.removal.skip", { name: one.pseudonym }), one.assignment, null]);
  return [...turns, ...responses, ...said, ...skips];
}

/** The fold; `again(words)` shows the task anew. */
export function removal(view, task, again) {
  const found = texts(task);
  const which = select(found.map(([label], at) => [String(at), label]));
  const why = area("", { rows: 2, maxlength: 2000, required: true, dir: "auto" });
  const where = outcome();
  const remove = button(t("manage.removal.start"), async () => {
    if (!why.reportValidity()) return;
    const [label, id, message] = found[Number(which.value)];
    if (!(await confirmed(t("manage.removal.sure", { what: label }), [t("manage.removal.gone"), t("manage.removal.copies")], t("manage.removal.start")))) return;
    run(remove, where, async () => {
      const told = await call("POST", within(view.project, "redact"), { id, why: why.value.trim(), ...(message ? { message } : {}) });
      const words = [t("manage.removal.done"), told.same_text.length > 0 && t("manage.removal.same", { ids: told.same_text.join(", ") })];
      return void (await again(words.filter(Boolean).join(" ")));
    });
  }, { look: "danger" });
  return h("section", { class: "card panel" }, fold(t("manage.removal.title"), hint(t("manage.removal.hint")), field(t("manage.removal.which"), which), field(t("manage.removal.why"), why, t("manage.removal.why.hint")), h("div", { class: "row-tools" }, remove), where));
}
