/** All projects, and a new one. */
import { h } from "./dom.js";
import { t } from "./i18n.js";
import { api, call, page } from "./manage_api.js";
import { amount, field, form, grid, heading, input, moment, nothing, number, panel, table } from "./manage_ui.js";

export async function show(view) {
  const { projects, may_create } = await call("GET", `${api}/projects`);
  view.draw(heading(t("manage.projects.title"), t("manage.projects.hint")), projects.length ? list(projects) : nothing(t("manage.projects.none"), t("manage.projects.none.hint")), may_create && creation());
}

const list = (projects) => h("section", { class: "card panel flush" }, table(t("manage.projects.title"),
  [t("manage.projects.name"), [t("manage.projects.prompts"), "num"], [t("manage.projects.tasks"), "num"], [t("manage.projects.people"), "num"], [t("manage.created"), "at"]],
  projects.map((one) => [h("a", { href: page(one.name, "overview") }, h("bdi", {}, one.name)), amount(one.prompts), amount(one.tasks), amount(one.raters), moment(one.created_ms)])));

function creation() {
  const name = input("", { required: true, maxlength: 100, autocomplete: "off", spellcheck: "false" });
  const overlap = number(2, { min: 1, max: 50, step: 1, required: true });
  const cost = number(0, { min: 0 });
  const currency = input("KRW", { maxlength: 10 });
  const work = async () => {
    const settings = { overlap: overlap.valueAsNumber, cost_per_hour: cost.valueAsNumber || 0, currency: currency.value.trim() };
    const made = await call("POST", `${api}/projects`, { name: name.value.trim(), settings });
    location.assign(page(made.name, "overview"));
    return t("manage.projects.made", { name: made.name });
  };
  return panel(t("manage.projects.new"), form(t("manage.projects.create"), work, grid(
    field(t("manage.projects.name"), name, t("manage.projects.name.hint")), field(t("manage.set.overlap"), overlap, t("manage.set.overlap.hint")),
    field(t("manage.set.cost_per_hour"), cost, t("manage.set.cost_per_hour.hint")),
    field(t("manage.set.currency"), currency, t("manage.set.currency.hint")))));
}
