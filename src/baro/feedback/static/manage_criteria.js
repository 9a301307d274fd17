/** The criteria of a project: names and a description for every score, in both languages. */
import { button, h } from "./dom.js";
import { lang, t } from "./i18n.js";
import { api, call, within } from "./manage_api.js";
import { check, field, form, grid, hint, input, nothing, number, outcome, panel, run, tag } from "./manage_ui.js";

const LANGS = ["ko", "en"];
const MOST_ANCHORS = 11;
const nameOf = ({ key, labels }) => labels[lang()]?.name || Object.values(labels).find(({ name }) => name)?.name || key;

export function criteriaEditor(view, saved) {
  const list = h("div", { class: "criteria-list" });
  const cards = [];
  const draw = () => list.replaceChildren(...(cards.length ? cards.map(({ root }) => root) : [nothing(t("manage.criteria.none"), t("manage.criteria.none.hint"))]));
  const add = (one, open) => {
    const made = card(one, saved.some(({ key }) => key === one.key), open, (to) => move(made, to), () => (cards.splice(cards.indexOf(made), 1), draw()));
    cards.push(made);
    draw();
    return made;
  };
  const move = (one, by) => {
    const at = cards.indexOf(one);
    if (at + by < 0 || at + by >= cards.length) return;
    cards.splice(at, 1);
    cards.splice(at + by, 0, one);
    draw();
    one.focus(by);
  };
  saved.forEach((one) => add(one, false));
  draw();
  const offer = outcome();
  const more = button(t("manage.criteria.new"), () => add({ key: "", low: 1, high: 5, weight: 1, labels: {} }, true).root.querySelector("input").focus());
  const shipped = button(t("manage.criteria.shipped"), () => run(shipped, offer, async () => offered(await call("GET", `${api}/criteria`), cards, add, offer)));
  const work = async () => {
    const { criteria } = await call("PUT", within(view.project, "criteria"), cards.map(({ read }) => read()));
    saved = criteria;
    const was = cards.splice(0);
    criteria.forEach((one) => add(one, was.some(({ key, root }) => key() === one.key && root.open)));
    return t("manage.criteria.saved");
  };
  return panel(t("manage.criteria.title"), hint(t("manage.criteria.hint")), form(t("manage.criteria.save"), work, [list, h("div", { class: "row-tools" }, more, shipped), offer]));
}

/** The criteria that come with Baro, to tick; known ones are left out. */
function offered({ criteria }, cards, add, where) {
  const known = new Set(cards.map(({ key }) => key()));
  const boxes = criteria.filter(({ key }) => !known.has(key)).map((one) => [one, check(nameOf(one), false)]);
  if (!boxes.length) return t("manage.criteria.all");
  const take = button(t("manage.criteria.take"), () => {
    boxes.filter(([, box]) => box.input.checked).forEach(([one]) => add(one, false));
    where.replaceChildren(h("p", { class: "done" }, t("manage.criteria.taken")));
  });
  return h("fieldset", { class: "plain group" }, h("legend", {}, t("manage.criteria.shipped")), h("div", { class: "boxes" }, boxes.map(([, box]) => box)), take);
}

/** {root, read, key, focus}: one criterion. The scale of a saved one stays, since scores exist on it. */
function card(one, fixed, open, move, drop) {
  const key = input(one.key, { required: true, maxlength: 50, pattern: "[a-z][a-z0-9_]*", spellcheck: "false", readonly: fixed });
  const [low, high] = ["low", "high"].map((name) => number(one[name], { min: 0, max: 100, step: 1, required: true, readonly: fixed }));
  const weight = number(one.weight, { min: 0, max: 1000, required: true });
  const words = Object.fromEntries(LANGS.map((own) => [own, { name: input(one.labels[own]?.name, { maxlength: 200, lang: own }), anchors: [...(one.labels[own]?.anchors ?? [])], fields: [] }]));
  const title = h("span", { class: "start" }, nameOf(one) || t("manage.criteria.new"));
  const need = () => LANGS.forEach((own) => (words[own].name.required = LANGS.every((any) => !words[any].name.value.trim()))); // one language is enough
  LANGS.forEach((own) => words[own].name.addEventListener("input", need));
  need();
  const scales = h("div", { class: "two" });
  const keep = () => LANGS.forEach((own) => words[own].fields.forEach(({ value }, at) => (words[own].anchors[at] = value)));
  function draw() {
    const count = Math.min(MOST_ANCHORS, Math.max(0, high.valueAsNumber - low.valueAsNumber + 1 || 0));
    scales.replaceChildren(...LANGS.map((own) => {
      words[own].fields = Array.from({ length: count }, (_, at) => input(words[own].anchors[at], { maxlength: 1000, lang: own }));
      return h("fieldset", { class: "plain group" }, h("legend", {}, t(`manage.lang.${own}`)), field(t("manage.criteria.name"), words[own].name), words[own].fields.map((node, at) => field(t("manage.criteria.anchor", { n: low.valueAsNumber + at }), node)));
    }));
  }
  [low, high].forEach((node) => node.addEventListener("input", () => (keep(), draw())));
  draw();
  const [up, down] = [["manage.criteria.up", -1, "up"], ["manage.criteria.down", 1, "down"]].map(([words_, by, sign]) => button("", () => move(by), { look: "quiet small", sign, "aria-label": t(words_, { name: nameOf(one) || one.key }) }));
  const root = h("details", { class: "card item", open }, h("summary", {}, title, one.key && tag(one.key), tag(`${one.low}–${one.high}`)),
    h("div", { class: "item-body" }, grid(field(t("manage.criteria.key"), key, t("manage.criteria.key.hint")), field(t("manage.criteria.low"), low, fixed ? t("manage.criteria.fixed") : ""), field(t("manage.criteria.high"), high), field(t("manage.criteria.weight"), weight, t("manage.criteria.weight.hint"))), scales,
      h("div", { class: "row-tools" }, up, down, !fixed && button(t("edit.remove"), drop, { look: "small" }))));
  root.addEventListener("invalid", () => (root.open = true), true);
  const label = (own) => {
    const anchors = words[own].fields.map(({ value }) => value.trim());
    return { name: words[own].name.value.trim(), anchors: anchors.some(Boolean) ? anchors : [] };
  };
  return {
    root, key: () => key.value.trim(), focus: (by) => (by < 0 ? up : down).focus(),
    read: () => ({ key: key.value.trim(), low: low.valueAsNumber, high: high.valueAsNumber, weight: weight.valueAsNumber, labels: Object.fromEntries(LANGS.map((own) => [own, label(own)]).filter(([, { name }]) => name)) }),
  };
}
