/** A project's settings, each with what it does, and its criteria. */
import { h } from "./dom.js";
import { t } from "./i18n.js";
import { criteriaEditor } from "./manage_criteria.js";
import { call, within } from "./manage_api.js";
import { statePanel } from "./manage_state.js";
import { area, check, field, form, grid, heading, hint, input, number, panel, select } from "./manage_ui.js";

const HARMS = ["endangering_national_security", "insulting_behavior", "discriminatory_behavior", "endangering_public_health", "copyright_issues", "violence", "drugs", "privacy_violation", "economic_crime", "mental_manipulation", "human_trafficking", "physical_harm", "sexual_content", "cybercrime", "disrupting_public_order", "environmental_damage", "psychological_harm", "white_collar_crime", "animal_abuse"];
const WHOLE = { min: 1, max: 50, step: 1 };
const GROUPS = [
  ["overlap", [["overlap", WHOLE], ["max_overlap", { ...WHOLE, required: false }], ["certainty", { min: 0.501, max: 0.999 }], ["lease_minutes", { min: 0.1, max: 1440 }]]],
  ["quality", [["repeat_fraction", { min: 0, max: 0.5 }], ["gold_fraction", { min: 0, max: 0.5 }], ["min_read_ms_per_character", { min: 0 }]]],
  ["cost", [["cost_per_hour", { min: 0 }], ["currency", "text"]]],
  ["page", [["blur", "blur"], ["diff", "check"], ["thumb_reasons", "lines"], ["categories", "harms"]]],
];

export async function show(view) {
  const [{ settings, state }, { criteria }] = await Promise.all([call("GET", within(view.project)), call("GET", within(view.project, "criteria"))]);
  view.draw(heading(t("manage.tab.settings"), t("manage.settings.hint")), statePanel(view, state, () => show(view)), editor(view, settings), criteriaEditor(view, criteria));
}

/** {root, read}: the control for one setting. */
function control(name, kind, value) {
  const [label, help] = [t(`manage.set.${name}`), t(`manage.set.${name}.hint`)];
  if (kind === "check") {
    const box = check(label, value, help);
    return { root: box, read: () => box.input.checked };
  }
  if (kind === "blur") {
    const node = select([null, true, false].map((one) => [String(one), t(`manage.blur.${one}`)]), String(value));
    return { root: field(label, node, help), read: () => JSON.parse(node.value) };
  }
  if (kind === "harms") {
    const boxes = HARMS.map((harm) => [harm, check(t(`harm.${harm}`), value.includes(harm))]);
    return { root: h("fieldset", { class: "plain wide" }, h("legend", {}, label), hint(help), h("div", { class: "boxes" }, boxes.map(([, box]) => box))), read: () => boxes.filter(([, box]) => box.input.checked).map(([harm]) => harm) };
  }
  const node = kind === "lines" ? area(value.join("\n"), { rows: 3, dir: "auto" }) : kind === "text" ? input(value, { maxlength: 10 }) : number(value ?? "", { required: true, ...kind });
  const lines = () => node.value.split("\n").map((line) => line.trim()).filter(Boolean);
  return { root: field(label, node, help), read: () => (kind === "lines" ? lines() : typeof kind === "object" ? (node.value === "" ? null : node.valueAsNumber) : node.value.trim()) };
}

function editor(view, settings) {
  const controls = {};
  const groups = GROUPS.map(([group, names]) => h("fieldset", { class: "plain group" }, h("legend", {}, t(`manage.settings.${group}`)),
    grid(names.map(([name, kind]) => (controls[name] = control(name, kind, settings[name])).root))));
  let known = settings;
  const work = async () => {
    const given = Object.fromEntries(Object.entries(controls).map(([name, { read }]) => [name, read()]));
    const changed = Object.entries(given).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(known[name]));
    if (!changed.length) return t("manage.settings.same");
    known = (await call("PATCH", within(view.project), { settings: Object.fromEntries(changed) })).settings;
    return t("manage.settings.saved", { names: changed.map(([name]) => t(`manage.set.${name}`)).join(", ") });
  };
  return panel(t("manage.settings.title"), form(t("action.save"), work, groups));
}
