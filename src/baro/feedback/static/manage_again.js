/** Asking again what a new version of the guideline changes: chosen, counted beforehand, and opened as further tasks. */
import { h } from "./dom.js";
import { t } from "./i18n.js";
import { call, refusal, within } from "./manage_api.js";
import { amount, check, confirmed, facts, field, form, grid, hint, money, nothing, number, panel, select } from "./manage_ui.js";

const WHICH = ["all", "divided"];

/** The panel; `redraw(told)` draws the page anew, where `told` says what was done. */
export async function again(view, redraw, told = "") {
  const everything = await call("GET", within(view.project, "again"));
  const done = told && h("p", { class: "done", role: "status" }, told);
  if (!everything.tasks) return panel(t("manage.again.title"), done, nothing(t("manage.again.none"), t("manage.again.none.hint")));
  const { root, read } = choice(view.project, everything);
  const work = async () => {
    const [body, found] = await read();
    if (!found.tasks) return t("manage.again.nothing");
    const words = { tasks: amount(found.tasks), judgments: amount(found.judgments) };
    if (!(await confirmed(t("manage.again.sure", words), t("manage.again.sure.text"), t("manage.again.start")))) return [];
    const made = await call("POST", within(view.project, "again"), body);
    return redraw(t("manage.again.done", { tasks: amount(made.tasks), judgments: amount(made.judgments) }));
  };
  return panel(t("manage.again.title"), hint(t("manage.again.hint")), done, form(t("manage.again.start"), work, root));
}

/** The fields, and what the choice would take, counted anew with every change. read(): the choice and its count. */
function choice(project, everything) {
  const which = select(WHICH.map((one) => [one, t(`manage.again.which.${one}`)]));
  const overlap = number(everything.overlap, { min: 1, max: 50, step: 1, required: true });
  const kinds = Object.entries(everything.kinds).map(([kind, n]) => [kind, check(`${t(`kind.${kind}`)} · ${amount(n)}`, true)]);
  const boxes = kinds.length > 1 && h("fieldset", { class: "plain" }, h("legend", {}, t("manage.again.kinds")), h("div", { class: "boxes" }, kinds.map(([, box]) => box)));
  const shown = h("div", { "aria-live": "polite" });
  const chosen = () => ({ which: which.value, overlap: overlap.valueAsNumber, kinds: kinds.filter(([, { input }]) => input.checked).map(([kind]) => kind) });
  const count = async ({ kinds: some, ...rest }) => {
    if (!some.length) return { tasks: 0, judgments: 0, hours: null };
    const query = new URLSearchParams([...Object.entries(rest), ...some.map((kind) => ["kinds", kind])]);
    return call("GET", within(project, `again?${query}`));
  };
  let turn = 0;
  const look = async () => {
    const mine = (turn += 1);
    const body = chosen();
    if (!overlap.checkValidity()) return;
    const node = await count(body).then(price, refusal);
    if (mine === turn) shown.replaceChildren(node);
  };
  for (const node of [which, overlap, ...kinds.map(([, { input }]) => input)]) node.addEventListener("input", look);
  shown.append(price(everything));
  const root = [grid(field(t("manage.again.which"), which, t("manage.again.which.hint")), field(t("manage.set.overlap"), overlap, t("manage.tasks.overlap.hint"))), boxes, shown];
  return { root, read: async () => [chosen(), await count(chosen())] };
}

const price = ({ tasks, judgments, hours, cost, currency }) => facts([
  [t("manage.again.tasks"), amount(tasks)], [t("manage.figure.judgments"), amount(judgments)],
  hours !== null && [t("manage.again.hours"), t("manage.again.hours.value", { n: amount(hours, hours < 10 ? 1 : 0) }), t("manage.again.hours.note")],
  hours !== null && cost > 0 && [t("manage.again.cost"), money(cost, currency)],
]);
