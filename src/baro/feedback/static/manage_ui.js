/** The parts that a manager's pages are made of. */
import { refusal } from "./manage_api.js";
import { button, dialog, h } from "./dom.js";
import { lang, t } from "./i18n.js";

let count = 0;
export const fresh = (name) => `${name}-${(count += 1)}`;

// ------------------------------------------------------------------------------------------------------------ headings

export const heading = (title, hint, ...tools) =>
  h("header", { class: "page-head" }, h("div", {}, h("h1", {}, title), hint && h("p", { class: "hint" }, hint)), tools.length > 0 && h("div", { class: "row-tools" }, tools));

/** A box with a title of its own. */
export function panel(title, ...children) {
  const id = fresh("panel");
  return h("section", { class: "card panel", "aria-labelledby": id }, h("h2", { id }, title), children.flat(2));
}

/** A word of the server's in the reader's language; as it is where there is none. */
export function worded(prefix, word) {
  const key = `${prefix}.${word.replaceAll(" ", "_")}`;
  return t(key) === key ? word : t(key);
}

export const hint = (text) => h("p", { class: "hint" }, text);
export const tag = (text, look = "") => h("span", { class: `tag ${look}` }, text);
export const nothing = (title, text, ...ways) => h("div", { class: "nothing" }, h("p", { class: "nothing-title" }, title), text && hint(text), ways.length > 0 && h("div", { class: "row-tools" }, ways));
export const link = (label, href, look = "") => h("a", { class: look, href }, label);
export const fold = (label, ...children) => h("details", { class: "fold" }, h("summary", {}, label), children.flat(2));

// -------------------------------------------------------------------------------------------------------------- fields

/** A control under its label; `help` is read out with it. */
export function field(label, control, help = "") {
  const [id, about] = [control.id || fresh("field"), fresh("help")];
  control.id = id;
  if (help) control.setAttribute("aria-describedby", about);
  return h("div", { class: "labelled" }, h("label", { for: id }, label), control, help && h("p", { class: "hint", id: about }, help));
}

export function input(value, attributes = {}) {
  const node = h("input", { class: "field", ...attributes });
  node.value = value ?? "";
  return node;
}

export const number = (value, attributes = {}) => input(value, { type: "number", step: "any", inputmode: "decimal", ...attributes });

export function area(value, attributes = {}) {
  const node = h("textarea", { class: "field", rows: 4, ...attributes });
  node.value = value ?? "";
  return node;
}

/** options: [[value, label], ...] */
export function select(options, value, attributes = {}) {
  const node = h("select", attributes, options.map(([own, label]) => h("option", { value: own }, label)));
  node.value = value ?? options[0]?.[0] ?? "";
  return node;
}

/** A box to tick; `.input` is the box. */
export function check(label, on, help = "") {
  const box = h("input", { type: "checkbox", checked: Boolean(on) });
  const about = fresh("help");
  if (help) box.setAttribute("aria-describedby", about);
  const root = h("div", { class: "labelled" }, h("label", { class: "line" }, box, label), help && h("p", { class: "hint", id: about }, help));
  return Object.assign(root, { input: box });
}

export const grid = (...children) => h("div", { class: "fields" }, children.flat());

// ---------------------------------------------------------------------------------------------------- doing something

/** Where an action says how it went. */
export const outcome = () => h("div", { class: "outcome", role: "status", "aria-live": "polite" });

/** Runs `work` with its button held down and says how it went; `work` returns a sentence, nodes, or nothing. */
export async function run(node, where, work) {
  if (node?.getAttribute("aria-disabled") === "true") return;
  node?.setAttribute("aria-disabled", "true");
  where.replaceChildren(h("p", { class: "waiting" }, h("span", { class: "spinner", "aria-hidden": true }), t("manage.working")));
  try {
    const done = await work();
    where.replaceChildren(...[done].flat().filter(Boolean).map((one) => (typeof one === "string" ? h("p", { class: "done" }, one) : one)));
  } catch (error) {
    where.replaceChildren(refusal(error));
  } finally {
    node?.removeAttribute("aria-disabled");
  }
}

/** A form with one button. `work` as in run(). */
export function form(label, work, children, { look = "primary", before = [], beside = [] } = {}) {
  const where = outcome();
  const send = h("button", { class: `button ${look}`, type: "submit" }, label);
  const submit = (event) => (event.preventDefault(), run(send, where, work));
  return h("form", { class: "form", onsubmit: submit }, [children].flat(2), h("div", { class: "row-tools" }, before, send, beside), where);
}

/** Copies a text; where the browser forbids it, the text is selected instead. */
export function copier(source) {
  const node = button(t("manage.copy"), async () => {
    try {
      await navigator.clipboard.writeText(source.value);
      node.querySelector(".label").textContent = t("manage.copied");
    } catch {
      source.focus();
      source.select();
    }
  });
  node.setAttribute("aria-live", "polite");
  return node;
}

export const confirmed = (title, text, yes) => dialog({ title, body: [text].flat().map((one) => (typeof one === "string" ? h("p", {}, one) : one)), actions: [["yes", yes], ["", t("action.cancel")]] });

// -------------------------------------------------------------------------------------------------------------- tables

/**
 * A table that scrolls in a box of its own; on a narrow screen each row is a block of its own with names beside its values,
 * unless it `keeps` its columns. heads: texts, or [text, look]: "num", "long" (needs a line of its own in a block), "acts"
 * (what can be done). Cells: texts, nodes, null; a row's `below` fills a line under it.
 */
export function table(caption, heads, rows, { keeps = heads.length < 3 } = {}) {
  const [names, looks] = [0, 1].map((part) => heads.map((head) => (Array.isArray(head) ? head[part] : part ? "" : head)));
  const head = h("tr", {}, names.map((name, at) => h("th", { scope: "col", class: looks[at] }, name)));
  const value = (cell, at) => h("td", { class: `${looks[at]} ${cell === null || cell === undefined ? "none" : ""}`, "data-label": names[at] }, cell ?? "–");
  const body = rows.flatMap((cells) => [
    h("tr", { class: cells.below ? "with-below" : "" }, cells.map((cell, at) => (at ? value(cell, at) : h("th", { scope: "row", class: looks[at] }, cell ?? "–")))),
    ...(cells.below ? [h("tr", { class: "row-below" }, h("td", { colspan: heads.length, class: "below" }, cells.below))] : []),
  ]);
  return h("div", { class: "scroller", tabindex: "0", role: "group", "aria-label": caption }, h("table", { class: `grid ${keeps ? "" : "folds"}` }, h("caption", { class: "sr" }, caption), h("thead", {}, head), h("tbody", {}, body)));
}

/** Earlier and later pages of a list. */
export function pager({ total, offset, items }, size, go) {
  if (total <= size) return total ? hint(t("manage.page.all", { n: amount(total) })) : null;
  const turn = (label, to, on) => button(label, () => go(to), { look: "small", disabled: !on });
  return h("nav", { class: "pager", "aria-label": t("manage.page.label") },
    turn(t("manage.page.before"), Math.max(0, offset - size), offset > 0),
    hint(t("manage.page.of", { first: amount(offset + 1), last: amount(offset + items.length), total: amount(total) })),
    turn(t("manage.page.after"), offset + size, offset + items.length < total));
}

/** Names and values side by side. */
export const facts = (pairs) => h("dl", { class: "facts" }, pairs.filter(Boolean).map(([name, value, note]) => h("div", {}, h("dt", {}, name), h("dd", {}, value, note && h("span", { class: "note" }, note)))));

// ------------------------------------------------------------------------------------------------------------- figures

export const amount = (value, digits = 0) => new Intl.NumberFormat(lang(), { maximumFractionDigits: digits }).format(value);
export const decimal = (value) => new Intl.NumberFormat(lang(), { minimumFractionDigits: 2, maximumFractionDigits: 2, signDisplay: "negative" }).format(value);
export const percent = (value) => new Intl.NumberFormat(lang(), { style: "percent", maximumFractionDigits: 0 }).format(value);
export const money = (value, currency) => `${amount(value, value < 100 ? 2 : 0)} ${currency}`;
export const chance = (p) => (p < 0.001 ? `p < ${amount(0.001, 3)}` : `p = ${amount(p, 3)}`);
export const when = (ms) => new Intl.DateTimeFormat(lang(), { dateStyle: "medium", timeStyle: "short" }).format(ms);
export const moment = (ms) => h("time", { datetime: new Date(ms).toISOString() }, when(ms));
export const seconds = (value) => (value === null || value === undefined ? null : t("manage.seconds", { n: amount(value, value < 10 ? 1 : 0) }));
export const range = (found) => t("manage.range", { low: percent(found.low), high: percent(found.high) });

export const SHARES = [[0, "0%"], [0.25, "25%"], [0.5, "50%"], [0.75, "75%"], [1, "100%"]]; // of a chart's scale

/** A figure with its interval and number; say(value): how it is written, and ends(value): how the interval's ends are. */
export const estimate = ({ value, low, high, n, few }, say, ends = say) => h("span", { class: "share" }, h("b", {}, say(value)), " ",
  h("span", { class: "note" }, t("manage.range", { low: ends(low), high: ends(high) })), h("span", { class: "note dot" }, " · "), h("span", { class: "note" }, t("manage.n", { n: amount(n) })),
  few && h("span", { class: "note", title: t("manage.few") }, ` · ${t("manage.few.short")}`));

/** A share with its interval and number, or why there is none. */
export const share = (found) => (!found || found.undefined !== undefined ? h("span", { class: "note" }, reason(found)) : estimate(found, percent));

/** Why a figure is undefined: its code in the reader's language, with its values, of which one may be a reason itself. */
const sentence = ({ code, values }) =>
  t(`undefined.${code}`, Object.fromEntries(Object.entries(values).map(([name, one]) => [name, one.code ? sentence(one) : one])));

export const reason = (found) => (found?.undefined ? sentence(found.undefined) : "–");
