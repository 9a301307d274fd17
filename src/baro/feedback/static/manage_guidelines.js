/** Guidelines: written in Markdown, published as versions, compared. */
import { button, dialog, h } from "./dom.js";
import { lang, t } from "./i18n.js";
import { again } from "./manage_again.js";
import { api, call, within } from "./manage_api.js";
import { area, field, form, heading, hint, moment, nothing, outcome, panel, run, select, table, tag } from "./manage_ui.js";
import { prose } from "./responses.js";

const MOST = 200;
const LANGS = ["ko", "en"];
const written = new Map(); // what was typed for each language and not published yet

export async function show(view, told = "") {
  const { items } = await call("GET", within(view.project, `guidelines?limit=${MOST}`));
  const newest = (one) => items.filter((item) => item.lang === one).reduce((best, item) => (!best || item.version > best.version ? item : best), null);
  const asking = items.length > 0 && await again(view, (done) => show(view, done), told);
  view.draw(heading(t("manage.tab.guidelines"), t("manage.guidelines.hint")), editor(view, newest), asking, versions(items, newest));
}

function editor(view, newest) {
  const language = select(LANGS.map((one) => [one, t(`manage.lang.${one}`)]), lang());
  const text = area("", { rows: 16, class: "field mono", maxlength: 200000, dir: "auto", required: true });
  const base = hint("");
  const shown = h("div", { class: "preview", role: "group", "aria-label": t("manage.guidelines.preview"), tabindex: "0", hidden: true });
  const where = outcome();
  const load = () => {
    const known = newest(language.value);
    text.value = written.get(language.value) ?? known?.body ?? "";
    text.lang = language.value;
    base.textContent = known ? t("manage.guidelines.base", { version: known.version }) : t("manage.guidelines.first");
    shown.hidden = true;
  };
  language.addEventListener("change", load);
  text.addEventListener("input", () => written.set(language.value, text.value));
  load();
  const preview = button(t("manage.guidelines.preview"), () => run(preview, where, async () => {
    const { html } = await call("POST", `${api}/preview`, { text: text.value });
    shown.replaceChildren(prose(html));
    shown.lang = language.value;
    shown.hidden = false;
  }));
  const work = async () => {
    const made = await call("POST", within(view.project, "guidelines"), { lang: language.value, body: text.value });
    written.delete(language.value);
    await show(view);
    const told = t("manage.guidelines.published", { version: made.version, lang: t(`manage.lang.${made.lang}`) });
    view.main.querySelector(".form .outcome").replaceChildren(h("p", { class: "done" }, told));
    return told;
  };
  return panel(t("manage.guidelines.write"), form(t("manage.guidelines.publish"), work, [h("div", { class: "short" }, field(t("manage.guidelines.lang"), language)), field(t("manage.guidelines.text"), text, t("manage.guidelines.text.hint")), base], { beside: [preview] }), where, shown);
}

function versions(items, newest) {
  if (!items.length) return panel(t("manage.guidelines.versions"), nothing(t("manage.guidelines.none"), t("manage.guidelines.none.hint")));
  const rows = items.map((one) => {
    const earlier = items.filter(({ lang: language, version }) => language === one.lang && version < one.version);
    const title = `${t("manage.version", { n: one.version })} · ${t(`manage.lang.${one.lang}`)}`;
    return [
      [h("span", {}, t("manage.version", { n: one.version })), newest(one.lang).id === one.id && [" ", tag(t("manage.guidelines.current"), "good")]].flat().filter(Boolean), t(`manage.lang.${one.lang}`), moment(one.created_ms),
      h("div", { class: "row-tools" }, button(t("manage.guidelines.read"), () => read(title, one), { look: "small", "aria-label": `${t("manage.guidelines.read")}: ${title}` }),
        earlier.length > 0 && button(t("manage.guidelines.compare"), () => compare(one, earlier), { look: "small", "aria-label": `${t("manage.guidelines.compare")}: ${title}` })),
    ];
  });
  return panel(t("manage.guidelines.versions"), table(t("manage.guidelines.versions"), [t("manage.guidelines.version"), t("manage.guidelines.lang"), [t("manage.guidelines.published.at"), "at"], [t("manage.actions"), "acts"]], rows));
}

const read = (title, { html, lang: language }) => dialog({ title, body: h("div", { lang: language }, prose(html)), actions: [["close", t("action.close")]], look: "wide" });

/** In what a version differs from an earlier one. */
async function compare(one, earlier) {
  const where = outcome();
  const choice = select(earlier.map(({ id, version }) => [id, t("manage.version", { n: version })]));
  const load = () => run(null, where, async () => {
    const found = await call("GET", `${api}/guidelines/${choice.value}/diff/${one.id}`);
    if (!found.diff) return t("manage.guidelines.long");
    const names = [found.left, found.right].map((n) => t("manage.version", { n }));
    return h("div", { class: "two diff", lang: one.lang }, names.map((name, at) => h("section", { class: "card panel" }, h("h3", {}, name), prose(found.diff[at]))));
  });
  choice.addEventListener("change", load);
  load();
  await dialog({ title: t("manage.guidelines.compare.title", { n: one.version }), body: [h("div", { class: "short" }, field(t("manage.guidelines.against"), choice)), where], actions: [["close", t("action.close")]], look: "wide" });
}
