/** A response made better in place, with what changed, a critique, and remarks on passages of the original. */
import { button, choices, h } from "./dom.js";
import { t } from "./i18n.js";
import { cards, named } from "./responses.js";
import { difference, flat, toServer } from "./words.js";

const DRAW_AFTER_MS = 250;

export const blank = () => ({ kind: "edit", position: 0, text: null, critique: "", spans: [] });
export const payload = (state) => state;
export const missing = ({ text, critique, spans }) => (text === null && !critique.trim() && !spans.length ? "need.edit" : null);
export const summary = ({ text, critique }, task) => [text ?? t("edit.unchanged"), critique].filter(Boolean).join("\n\n");

export function mount(task, state, ui) {
  const texts = task.responses.map(({ text }) => flat(text));
  const put = {};
  let timer = 0;
  const several = texts.length > 1;
  const go = (at) => at !== state.position && ui.change(() => {
    put[state.position] = { text: state.text, critique: state.critique, spans: state.spans };
    Object.assign(state, { text: null, critique: "", spans: [], ...put[at], position: at });
    fill();
  });
  const which = several && choices(t("edit.which"), texts.map((_, at) => [at, named(at)]), go);
  const source = h("textarea", { class: "source", readonly: true, rows: 8, "aria-label": t("edit.source") });
  const note = h("input", { class: "field", "aria-label": t("edit.note"), placeholder: t("edit.note") });
  const chosen = h("p", { class: "hint", "aria-live": "polite" }, t("edit.select"));
  const passages = h("details", {}, h("summary", {}, t("edit.remarks")), chosen, source,
    h("div", { class: "row" }, note, button(t("edit.add"), add)));
  const remarks = h("ul", { class: "remarks" });
  const editor = h("textarea", { class: "editor", rows: 14, "aria-label": t("edit.text"), oninput: () => ui.change(() => (state.text = editor.value === texts[state.position] ? null : editor.value)) });
  const critique = h("textarea", { class: "field", rows: 3, id: "critique", oninput: () => ui.change(() => (state.critique = critique.value)) });
  const counts = h("p", { class: "hint", "aria-live": "polite" });
  const changes = h("div", { class: "changes", dir: "auto" });
  const view = cards(task, ui, { show: (position) => position === state.position });
  const undo = button(t("edit.restore"), () => ui.change(() => ((state.text = null), fill())), { look: "small quiet" });
  const quote = ({ start, end }) => [...task.responses[state.position].text].slice(start, end).join("");

  source.addEventListener("select", () => {
    const text = source.value.slice(source.selectionStart, source.selectionEnd);
    chosen.textContent = text ? t("edit.selected", { text: text.length > 80 ? `${text.slice(0, 80)}…` : text }) : t("edit.select");
  });
  note.addEventListener("keydown", (event) => event.key === "Enter" && !event.isComposing && !event.ctrlKey && !event.metaKey && add());
  function add() {
    const [start, end] = [source.selectionStart, source.selectionEnd].map((at) => toServer(task.responses[state.position].text, at));
    if (start === end) return ui.tell("need.passage");
    ui.change(() => state.spans.push({ start, end, note: note.value }));
    note.value = "";
  }
  const remove = (span) => ui.change(() => state.spans.splice(state.spans.indexOf(span), 1));
  function fill() {
    source.value = texts[state.position];
    editor.value = state.text ?? texts[state.position];
    critique.value = state.critique;
  }
  function draw() {
    const parts = difference(texts[state.position], editor.value);
    const size = (kind) => parts.filter(([own]) => own === kind).reduce((sum, [, text]) => sum + (text.match(/\S+/gu)?.length ?? 0), 0);
    counts.textContent = state.text === null ? t("edit.unchanged") : t("edit.changes", { new: size("new"), gone: size("gone") });
    const tags = { same: "span", gone: "del", new: "ins" };
    changes.replaceChildren(...(state.text === null ? [] : parts.map(([kind, text]) => h(tags[kind], {}, text))));
  }
  function update() {
    which && which.show(state.position);
    undo.hidden = state.text === null;
    remarks.replaceChildren(...state.spans.map((span) =>
      h("li", {}, h("q", { dir: "auto" }, quote(span)), h("span", {}, span.note), button(t("edit.remove"), () => remove(span), { look: "small quiet" }))));
    for (const node of [panel, remarked]) { // both show the response's text, which may be covered
      node.inert = !ui.revealed(state.position);
      node.classList.toggle("covered", node.inert);
    }
    view.update();
    clearTimeout(timer);
    timer = setTimeout(draw, DRAW_AFTER_MS);
  }
  fill();
  passages.open = state.spans.length > 0;
  const panel = h("section", { class: "card edit", "aria-label": t("edit.text") },
    h("header", { class: "card-head" }, h("h2", {}, t("edit.text")), undo), editor, counts, changes,
    h("label", { class: "asked", for: "critique" }, t("edit.critique")), critique);
  const keys = [
    [["KeyE"], "E", "key.edit", () => editor.focus()],
    [["KeyM"], "M", "key.remark", () => ((passages.open = true), source.focus())],
  ];
  const remarked = h("div", { class: "card passages" }, passages, remarks);
  const left = h("div", {}, which && which.root, view.element, remarked);
  const bar = h("div", { class: "answers" }, button(t("action.submit"), ui.submit, { cap: "Ctrl ↵", look: "primary" }));
  return { main: h("div", { class: "cards of-2" }, left, panel), bar, keys, update, go, at: () => state.position };
}
