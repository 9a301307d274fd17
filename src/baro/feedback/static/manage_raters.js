/** Who works on a project: figures with their evidence, invitations, and the end of somebody's access. */
import { button, h } from "./dom.js";
import { t } from "./i18n.js";
import { api, call, within } from "./manage_api.js";
import { amount, area, chance, confirmed, copier, field, form, grid, heading, hint, input, nothing, number, outcome, panel, percent, range, run, seconds, select, share, table, tag, when } from "./manage_ui.js";

const ROLES = ["rater", "adjudicator", "manager"];

export async function show(view) {
  const { raters, figures } = await call("GET", within(view.project, "raters"));
  const where = outcome();
  view.draw(heading(t("manage.tab.raters"), t("manage.raters.hint")), invitation(view), panel(t("manage.raters.list"), where, raters.length ? people(view, raters, figures, where) : nothing(t("manage.raters.none"), t("manage.raters.none.hint"))));
}

// ---------------------------------------------------------------------------------------------------------- invitations

function invitation(view) {
  const name = input("", { maxlength: 60, autocomplete: "off" });
  const role = select(ROLES.map((one) => [one, t(`manage.role.${one}`)]));
  const language = select([["ko", t("manage.lang.ko")], ["en", t("manage.lang.en")]]);
  const count = number(1, { min: 1, max: 1000, step: 1, required: true });
  const several = () => Object.assign(name, { disabled: count.valueAsNumber > 1, value: count.valueAsNumber > 1 ? "" : name.value });
  count.addEventListener("input", several);
  const work = async () => {
    const who = name.value.trim() ? { pseudonym: name.value.trim() } : { count: count.valueAsNumber };
    const made = await call("POST", within(view.project, "invites"), { role: role.value, lang: language.value, ...who });
    name.value = "";
    const done = view.main.querySelector(".form .outcome");
    const shown = made.people.length > 1 ? tickets(made) : ticket(made);
    await show(view);
    view.main.querySelector(".form .outcome").replaceChildren(shown);
    done?.replaceChildren();
    return [];
  };
  return panel(t("manage.invite.title"), hint(t("manage.invite.hint")), form(t("manage.invite.start"), work, grid(
    field(t("manage.invite.name"), name, t("manage.invite.name.hint")), field(t("manage.role"), role, t("manage.role.hint")), field(t("manage.invite.lang"), language), field(t("manage.invite.count"), count, t("manage.invite.count.hint")))));
}

/** Several links at once, to be copied or kept as a file: they can be seen this once. */
function tickets({ people: invited, expires_ms }) {
  const text = area(invited.map(({ pseudonym, link }) => `${pseudonym}\t${link}`).join("\n"), { readonly: true, rows: 6, class: "field mono" });
  const cells = [["pseudonym", "link"], ...invited.map(({ pseudonym, link }) => [pseudonym, link])];
  const file = new Blob([`\ufeff${cells.map((row) => row.join(",")).join("\r\n")}\r\n`], { type: "text/csv" });
  const save = h("a", { class: "button", href: URL.createObjectURL(file), download: "invitations.csv" }, t("manage.invite.csv"));
  return h("div", { class: "ticket" }, field(t("manage.invite.links", { n: amount(invited.length) }), text), h("div", { class: "row-tools" }, copier(text), save), h("p", {}, t("manage.invite.once.all", { time: when(expires_ms) })));
}

/** The link, which can be seen this once. */
function ticket({ link, expires_ms }) {
  const text = input(link, { readonly: true, class: "field mono", onfocus: ({ target }) => target.select() });
  return h("div", { class: "ticket" }, field(t("manage.invite.link"), text), h("div", {}, copier(text)), h("p", {}, t("manage.invite.once", { time: when(expires_ms) })));
}

// --------------------------------------------------------------------------------------------------------------- people

function people(view, raters, figures, where) {
  const known = new Map(figures.map((one) => [one.rater, one]));
  const heads = [t("manage.rater"), [t("manage.raters.done"), "num"], [t("manage.raters.median"), "num"], t("manage.raters.others"), t("manage.raters.gold"), t("manage.raters.repeats"), t("manage.raters.left"), t("manage.raters.skips")];
  const rows = raters.map((person) => {
    const found = known.get(person.id);
    const cells = [who(person, found), amount(found?.done ?? 0), seconds(found?.median_seconds), ...["others", "gold", "repeats", "left", "skips"].map((name) => (found ? share(found[name]) : null))];
    return Object.assign(cells, { below: [found?.flags.length > 0 && flags(found, known), actions(view, person, where)].filter(Boolean) });
  });
  return [table(t("manage.raters.list"), heads, rows), hint(t("manage.raters.flags.hint"))];
}

const who = (person, found) => h("div", {}, h("bdi", {}, person.pseudonym), h("p", { class: "note" }, [t(`manage.role.${person.role}`), t(`manage.lang.${person.lang}`)].join(" · ")),
  !person.active ? tag(t("manage.raters.ended")) : !person.joined && !found && tag(t("manage.raters.invited"), "some"));

/** What stands out, with its evidence; what follows from it is a person's decision. */
function flags(found, known) {
  const others = [...known.values()].reduce(([right, n], { others: one }) => [right + one.count, n + one.n], [0, 0]);
  return h("ul", { class: "flags", "aria-label": t("manage.raters.flags") }, found.flags.map(({ flag }) => {
    const figure = found[{ sides: "left" }[flag] ?? flag];
    const values = { count: amount(figure.count), n: amount(figure.n), range: range(figure), p: figure.p === undefined ? "" : chance(figure.p), all: others[1] ? percent(others[0] / others[1]) : "–" };
    return h("li", {}, tag(t(`manage.flag.${flag}`), "warn"), h("p", {}, t(`manage.flag.${flag}.words`, values)));
  }));
}

function actions(view, person, where) {
  if (!person.active) return h("div", { class: "row-tools" }, person.pseudonym.startsWith("erased-") ? null : erasing(view, person, where));
  const again = button(t("manage.invite.again"), () => run(again, where, async () => ticket(await call("POST", within(view.project, "invites"), { rater: person.id }))), { look: "small", "aria-label": `${t("manage.invite.again")}: ${person.pseudonym}` });
  const end = button(t("manage.revoke"), async () => {
    if (!(await confirmed(t("manage.revoke.title", { name: person.pseudonym }), t("manage.revoke.text"), t("manage.revoke")))) return;
    run(end, where, () => leave(view, person, "revoke", "manage.revoke.done"));
  }, { look: "small", "aria-label": `${t("manage.revoke")}: ${person.pseudonym}` });
  return h("div", { class: "row-tools" }, again, end, erasing(view, person, where));
}

function erasing(view, person, where) {
  const node = button(t("manage.erase"), async () => {
    const typed = input("", { autocomplete: "off" });
    const body = [h("p", {}, t("manage.erase.text")), field(t("manage.erase.type", { name: person.pseudonym }), typed)];
    if (!(await confirmed(t("manage.erase.title", { name: person.pseudonym }), body, t("manage.erase")))) return;
    if (typed.value.trim() !== person.pseudonym) return where.replaceChildren(h("p", { class: "refusal", role: "alert" }, t("manage.erase.differs")));
    run(node, where, () => leave(view, person, "erase", "manage.erase.done"));
  }, { look: "small danger", "aria-label": `${t("manage.erase")}: ${person.pseudonym}` });
  return node;
}

async function leave(view, person, how, words) {
  await call("POST", `${api}/raters/${person.id}/${how}`, {});
  await show(view);
  const told = t(words, { name: person.pseudonym });
  view.main.querySelector(".panel > .outcome")?.replaceChildren(h("p", { class: "done" }, told));
  return told;
}
