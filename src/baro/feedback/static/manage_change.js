/** What becomes of tasks that are there: many at once, counted beforehand, and taken back again; or one task. */
import { button, h } from "./dom.js";
import { t } from "./i18n.js";
import { call, refusal, within } from "./manage_api.js";
import { amount, confirmed, field, fold, form, grid, hint, number, outcome, panel, run, select } from "./manage_ui.js";

const ACTIONS = ["close", "reopen", "priority", "overlap", "withdraw", "restore"];
const VALUES = { priority: { min: -1000000, max: 1000000, step: 1 }, overlap: { min: 1, max: 50, step: 1 } };

const change = (project, which, action, value) => call("POST", within(project, "tasks/change"), { which, action, ...(action in VALUES ? { value } : {}) });

/** Says what was done, with a way back; `redraw(told)` draws the page anew. */
export function done(project, { changed, same, events }, redraw) {
  const where = outcome();
  const words = [t("manage.change.done", { n: amount(changed) }), same > 0 && t("manage.change.same", { n: amount(same) })].filter(Boolean).join(" ");
  const undo = button(t("manage.change.undo"), () => run(undo, where, async () => {
    const back = await call("POST", within(project, "tasks/undo"), { events });
    return void (await redraw(h("p", { class: "done", role: "status" }, t("manage.change.undone", { n: amount(back.changed) }))));
  }), { look: "small" });
  return h("div", { role: "status" }, h("p", { class: "done" }, words), events.length > 0 && h("div", { class: "row-tools" }, undo), where);
}

/** The fold under a list: what is to become of the tasks that the list's filter leaves. */
export function changing(view, filter, redraw) {
  const which = Object.keys(filter).length ? filter : { all: true };
  const action = select(ACTIONS.map((one) => [one, t(`manage.change.${one}`)]));
  const value = number("", { required: true });
  const value_field = field(t("manage.change.value"), value);
  const shown = h("div", { "aria-live": "polite" });
  const about = h("p", { class: "hint" });
  let turn = 0;
  const body = () => ({ which, action: action.value, ...(action.value in VALUES ? { value: value.valueAsNumber } : {}) });
  const look = async () => {
    const mine = (turn += 1);
    if (action.value in VALUES && !value.checkValidity()) return shown.replaceChildren();
    const node = await call("POST", within(view.project, "tasks/change/preview"), body()).then(told, refusal);
    if (mine === turn) shown.replaceChildren(node);
  };
  const fit = () => {
    about.textContent = t(`manage.change.${action.value}.hint`);
    value_field.hidden = !(action.value in VALUES);
    value.disabled = value_field.hidden;
    Object.entries(VALUES[action.value] ?? {}).forEach(([name, bound]) => value.setAttribute(name, bound));
    value.value = action.value === "overlap" ? 2 : 0;
    look();
  };
  action.addEventListener("change", fit);
  value.addEventListener("input", look);
  const work = async () => {
    const found = await call("POST", within(view.project, "tasks/change/preview"), body());
    if (!found.changed) return t("manage.change.none");
    if (!(await confirmed(t(`manage.change.${action.value}.sure`, { n: amount(found.changed) }), [t(`manage.change.${action.value}.hint`), t("manage.change.back")], t("manage.change.start")))) return [];
    const made = await change(view.project, which, action.value, value.valueAsNumber);
    return void (await redraw(done(view.project, made, redraw)));
  };
  const root = fold(t("manage.change.title"), hint(t("manage.change.about")), form(t("manage.change.start"), work, [grid(field(t("manage.change.what"), action), value_field), about, shown]));
  root.addEventListener("toggle", () => root.open && fit(), { once: true });
  return root;
}

const told = ({ tasks, changed, judgments, in_hand }) => h("p", {}, t("manage.change.preview", { tasks: amount(tasks), changed: amount(changed), judgments: amount(judgments), hand: amount(in_hand) }));

/** What becomes of one task; `again(words)` shows it anew. */
export function oneTask(view, task, again) {
  if (task.is_gold) return null;
  const where = outcome();
  const which = { tasks: [task.id] };
  const act = (action, look) => {
    const node = button(t(`manage.change.${action}`), () => run(node, where, async () => {
      await change(view.project, which, action);
      return void (await again(t(`manage.change.${action}.one`)));
    }), { look });
    return node;
  };
  const priority = number(task.priority, { ...VALUES.priority, required: true });
  const overlap = number(task.overlap, { ...VALUES.overlap, required: true });
  const work = async () => {
    if (priority.valueAsNumber !== task.priority) await change(view.project, which, "priority", priority.valueAsNumber);
    if (overlap.valueAsNumber !== task.overlap) await change(view.project, which, "overlap", overlap.valueAsNumber);
    return void (await again(t("manage.change.saved")));
  };
  const ways = [!task.later && act(task.open ? "close" : "reopen"), task.withdrawn ? task.withdrawn_by === "task" && act("restore") : act("withdraw")];
  const why = task.withdrawn && hint(t(`manage.withdrawn.${task.withdrawn_by}`));
  return panel(t("manage.change.this"), why, task.later && hint(t("manage.change.later")),
    form(t("action.save"), work, grid(field(t("manage.priority"), priority, t("manage.priority.hint")), field(t("manage.set.overlap"), overlap, t("manage.change.overlap.least"))), { look: "", beside: ways.filter(Boolean) }), where);
}
