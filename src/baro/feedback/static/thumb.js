/** A thumb up or down for each response, and why. */
import { button, choices, h, press, toggle } from "./dom.js";
import { t } from "./i18n.js";
import { cards, letter, named, reach } from "./responses.js";

export const blank = (task) => ({ kind: "thumb", thumbs: task.responses.map(() => ({ good: null, reasons: [] })) });
export const payload = (state) => state;
export const missing = ({ thumbs }) => (thumbs.some(({ good }) => good === null) ? "need.thumbs" : null);
export const summary = ({ thumbs }) =>
  thumbs.map(({ good, reasons }, at) => `${letter(at)}: ${good === null ? "–" : t(good ? "thumb.up" : "thumb.down")} ${reasons.join(", ")}`).join("\n");

export function mount(task, state, ui) {
  const offered = task.project.thumb_reasons;
  let current = 0;
  const go = (by) => {
    current = (current + by + state.thumbs.length) % state.thumbs.length;
    update();
    reach(view.list[current]);
  };
  const judge = (position, good) => ui.change(() => (state.thumbs[position].good = good));
  const flip = (position, reason) => ui.change(() => {
    const own = state.thumbs[position];
    own.reasons = own.reasons.includes(reason) ? own.reasons.filter((one) => one !== reason) : [...own.reasons, reason];
  });
  const rows = state.thumbs.map((_, position) => ({
    thumb: choices(named(position), [[true, t("thumb.up"), "1"], [false, t("thumb.down"), "2"]], (good) => judge(position, good), "main"),
    reasons: offered.map((reason, at) => toggle(reason, () => flip(position, reason), { cap: at < 7 ? `${at + 3}` : null, look: "small" })),
  }));
  const tools = (position) => h("div", { class: "card-answer" }, rows[position].thumb.root,
    offered.length > 0 && h("div", { class: "choices", role: "group", "aria-label": t("thumb.reasons", { name: named(position) }) }, rows[position].reasons));
  const view = cards(task, ui, { tools });
  view.list.forEach((card, position) => card.addEventListener("focusin", () => current !== position && ((current = position), update())));
  function update() {
    rows.forEach(({ thumb, reasons }, position) => {
      thumb.show(state.thumbs[position].good);
      reasons.forEach((node, at) => press(node, state.thumbs[position].reasons.includes(offered[at])));
    });
    view.update({ current: rows.length > 1 ? current : null });
  }
  const keys = [
    [["Digit1"], "1", "thumb.up", () => judge(current, true)], [["Digit2"], "2", "thumb.down", () => judge(current, false)],
    ...offered.slice(0, 7).map((reason, at) => [[`Digit${at + 3}`], `${at + 3}`, at ? null : "key.reasons", () => flip(current, reason)]),
    [["ArrowLeft"], "←", "key.previous", () => go(-1)], [["ArrowRight"], "→", "key.next", () => go(1)],
  ];
  const bar = h("div", { class: "answers" }, button(t("action.submit"), ui.submit, { cap: "↵", look: "primary" }));
  return { main: view.element, bar, keys, update };
}
