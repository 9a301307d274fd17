/** The conversation and the responses, as every kind of task shows them. */
import { button, h, icon } from "./dom.js";
import { typeset } from "./formulas.js";
import { t } from "./i18n.js";

export const letter = (position) => "ABCDEFGHI"[position];
export const named = (position) => t("response.name", { letter: letter(position) });
export const prose = (html) => typeset(h("div", { class: "prose", dir: "auto", html }));

const LEAST_PX = 160;
const PART = 0.3; // of the window, for the first lines of a long prompt
const SLACK = 1.3; // times that, and it is not worth a button
const unfolded = new WeakSet(); // prompts that somebody opened: drawn again, as in another language, they stay open

/**
 * All turns; those before the last question folded away. A long one shows its first lines and a button for the rest, so
 * that the responses are on the first screen. `.flip()`: as the button does, where there is one; `cap`: the key for
 * it, where the page has one.
 */
export function conversation(turns, cap = null) {
  const shown = turns.map(({ role, html }) =>
    h("div", { class: `turn ${role}` }, h("h2", { class: "role" }, t(`role.${role}`)), prose(html)),
  );
  const last = Math.max(0, turns.findLastIndex(({ role }) => role === "user"));
  const earlier = shown.slice(0, last);
  const inner = h("div", { class: "prompt-turns" }, shown.slice(last));
  const body = h("div", { class: "prompt-body" }, inner);
  const flip = button("", () => fold(unfolded.has(turns)), { cap, look: "small quiet unfold" });
  const root = h(
    "section",
    { class: "prompt", "aria-label": t("prompt.label") },
    earlier.length > 0 && h("details", {}, h("summary", {}, t("prompt.earlier", { n: earlier.length })), earlier),
    body,
    flip,
  );
  function fold(on) {
    unfolded[on ? "delete" : "add"](turns);
    measure();
  }
  function measure() {
    const [limit, open] = [Math.max(LEAST_PX, innerHeight * PART), unfolded.has(turns)];
    const long = inner.offsetHeight > SLACK * limit;
    body.classList.toggle("folded", long && !open);
    body.style.maxBlockSize = long && !open ? `${limit}px` : "";
    flip.hidden = !long;
    flip.querySelector(".label").textContent = t(open ? "prompt.fold" : "prompt.unfold");
    flip.setAttribute("aria-expanded", String(open));
  }
  body.addEventListener("focusin", () => body.classList.contains("folded") && fold(false)); // a link in what is hidden
  new ResizeObserver(measure).observe(inner);
  return Object.assign(root, { flip: () => flip.hidden || fold(unfolded.has(turns)) });
}

/**
 * One card for each response. `tools(position)`: what a kind puts below a card's text; `head(position)`: into its head.
 * update(): hidden and flagged responses, the difference, and which cards are `current` and `chosen`.
 */
export function cards(task, ui, { head = () => null, tools = () => null, show = () => true } = {}) {
  const list = task.responses.map(({ html, finished }, position) => {
    const text = prose(html);
    const reveal = button(t("blur.reveal", { name: named(position) }), () => ui.reveal(position), { cap: "R", look: "reveal", sign: "eye" });
    const flags = h("span", { class: "count" });
    const flag = h("button", { type: "button", class: "button quiet small", onclick: () => ui.flag(), "aria-label": t("flag.open", { name: named(position) }) }, icon("flag"), flags);
    const root = h(
      "article",
      { class: "card", "aria-labelledby": `response-${position}` },
      h("header", { class: "card-head" },
        h("h2", { id: `response-${position}` }, h("span", { class: "letter", "aria-hidden": true }, letter(position)), h("span", { class: "sr" }, named(position))),
        !finished && h("span", { class: "tag" }, t("response.cut")), h("div", { class: "card-tools" }, head(position)), flag),
      h("div", { class: "card-text" }, text, reveal),
      tools(position),
    );
    return { root, text, reveal, flags, html };
  });
  function update({ current = null, chosen = [] } = {}) {
    list.forEach(({ root, text, reveal, flags, html }, position) => {
      const covered = !ui.revealed(position);
      const wanted = ui.diff() ? task.diff[position] : html;
      if (text.dataset.diff !== String(ui.diff())) text.replaceChildren(...prose(wanted).childNodes);
      text.dataset.diff = String(ui.diff());
      text.classList.toggle("covered", covered);
      text.inert = covered;
      reveal.hidden = !covered;
      flags.textContent = ui.flags(position).length || "";
      root.hidden = !show(position);
      root.classList.toggle("current", position === current);
      root.classList.toggle("chosen", chosen.includes(position));
    });
  }
  return { list: list.map(({ root }) => root), element: h("div", { class: `cards of-${list.length}` }, list.map(({ root }) => root)), update };
}

/** Brings a card into view when the keyboard moves to it. */
export const reach = (node) => node.scrollIntoView({ block: "nearest" });
