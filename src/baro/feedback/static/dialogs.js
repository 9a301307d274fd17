/** The page's dialogs. Each resolves when it is closed. */
import { dialog, h } from "./dom.js";
import { t, when } from "./i18n.js";
import { named, prose } from "./responses.js";

const FLAGS = ["harmful", "personal", "broken"];
export const SKIPS = ["expertise", "upsetting", "unclear", "broken", "other"];
const CLOSE = () => [["close", t("action.close")]];

/** A guideline, or that there is none; `first`: before the tasks that go by it. */
export function showGuideline(found, first = false) {
  const body = found ? h("div", { lang: found.lang }, prose(found.html)) : h("p", {}, t("guideline.none"));
  const title = found ? t("guideline.title", { version: found.version }) : t("guideline.label");
  const actions = first ? [["read", t("guideline.read")]] : CLOSE();
  return dialog({ title, body: [first && h("p", { class: "hint" }, t("guideline.first")), body], actions, look: first ? "wide" : "drawer" });
}

export function showKeys(shortcuts) {
  const rows = shortcuts.filter(([, , label]) => label).map(([, cap, label]) => h("tr", {}, h("th", { scope: "row" }, h("kbd", {}, cap)), h("td", {}, t(label))));
  const note = h("p", { class: "hint" }, t("keys.note"));
  return dialog({ title: t("keys.title"), body: [h("table", { class: "keys" }, h("tbody", {}, rows)), note], actions: CLOSE() });
}

/** The reason, in the words that the server keeps, or null. */
export async function askSkip() {
  const say = h("input", { class: "field", "aria-label": t("skip.say"), placeholder: t("skip.say") });
  const radios = SKIPS.map((name) => h("label", { class: "line" }, h("input", { type: "radio", name: "skip", value: name, required: true }), t(`skip.${name}`)));
  const body = h("fieldset", { class: "plain" }, h("legend", {}, t("skip.why")), radios, say);
  const done = await dialog({ title: t("skip.title"), body, actions: [["skip", t("action.skip")], ["", t("action.cancel")]] });
  return done && [body.querySelector(":checked").value, say.value.trim()].filter(Boolean).join(": ");
}

/** The new list of flags, or null. */
export async function askFlags(count, flags) {
  const boxes = Array.from({ length: count }, (_, position) => FLAGS.map((flag) => {
    const checked = flags.some((one) => one.position === position && one.flag === flag);
    return { position, flag, input: h("input", { type: "checkbox", checked }) };
  }));
  const body = boxes.map((row, position) => h("fieldset", { class: "plain" }, h("legend", {}, named(position)), row.map(({ flag, input }) => h("label", { class: "line" }, input, t(`flag.${flag}`)))));
  const done = await dialog({ title: t("flag.title"), body, actions: [["save", t("action.save")], ["", t("action.cancel")]] });
  return done && boxes.flat().filter(({ input }) => input.checked).map(({ position, flag }) => ({ position, flag }));
}

/** "mine", "theirs" or null for later: two drafts of one answer, and the rater picks. */
export function askVersion(mine, theirs) {
  const shown = (title, text) => h("section", { class: "card" }, h("h3", {}, title), h("p", { class: "pre", dir: "auto" }, text));
  const body = [h("p", {}, t("stale.explain")), h("div", { class: "cards of-2" }, shown(t("stale.mine"), mine), shown(t("stale.theirs"), theirs))];
  return dialog({ title: t("stale.title"), body, actions: [["mine", t("stale.keep")], ["theirs", t("stale.take")]], look: "wide" });
}

/** A judgment that waits in this browser for a task that was answered elsewhere since: "send", "drop", or null for later. */
export function askUnsent(made_ms, withdrawal) {
  const body = h("p", {}, t(withdrawal ? "unsent.explain.withdrawal" : "unsent.explain", { time: when(made_ms) }));
  return dialog({ title: t(withdrawal ? "unsent.title.withdrawal" : "unsent.title"), body, actions: [["send", t("unsent.send")], ["drop", t("unsent.drop")]] });
}

export const askRetract = () => dialog({ title: t("retract.title"), body: h("p", {}, t("retract.explain")), actions: [["retract", t("action.retract")], ["", t("action.cancel")]] });

/** The assignment to open again, or null. */
export async function showHistory({ done, today, items }) {
  const rows = items.map((item) => h("li", {}, h("button", { class: "history-item", value: item.assignment },
    h("span", { class: "when" }, when(item.submitted_ms)), h("bdi", { class: "start" }, item.prompt_start), h("span", { class: "tag" }, t(`kind.${item.kind}`)))));
  const body = [h("p", { class: "hint" }, t("history.totals", { n: done, time: today })), rows.length ? h("ol", { class: "history" }, rows) : h("p", {}, t("history.none"))];
  const chosen = await dialog({ title: t("history.title"), body, actions: CLOSE(), look: "drawer" });
  return chosen === "close" ? null : chosen;
}

/** Links in what people and models wrote are only followed by those who have seen the address. */
document.addEventListener("click", confirmLink, true);
document.addEventListener("auxclick", confirmLink, true);

async function confirmLink(event) {
  const link = event.target.closest?.(".prose a[href]");
  if (!link) return;
  event.preventDefault();
  if (event.button === 2) return;
  const body = [h("p", {}, t("link.explain")), h("p", { class: "address" }, h("bdi", {}, link.href))];
  if (await dialog({ title: t("link.title"), body, actions: [["open", t("link.open")], ["", t("action.cancel")]] })) window.open(link.href, "_blank", "noopener,noreferrer");
}
