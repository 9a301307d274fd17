/**
 * Shortcuts, by the key's place (event.code), so that they work whatever script the keyboard writes.
 * A key that is held down, that belongs to an input method, or that comes before a reader can have seen the task, does nothing.
 */
const SETTLE_MS = 150;
const DOUBLE_CLICK_MS = 500;
let shown = -Infinity;
let table = new Map();
let typed = {};

/** A new task is on the screen from now on. */
export const settle = () => (shown = performance.now());

/** shortcuts: [[code, ...], cap, label, run]; inText: {submit, leave} for Ctrl+Enter and Escape in a text field. */
export function bind(shortcuts, inText) {
  table = new Map(shortcuts.flatMap(([codes, , , run]) => codes.map((code) => [code, run])));
  typed = inText;
}

/** No key does anything from now on: whatever takes a task off the screen begins with this. */
export const unbind = () => bind([], {});

const isText = (node) => node.matches?.("textarea, select, input:not([type=radio], [type=checkbox])");
const since = () => performance.now() - shown;

function ownKey(node, code) {
  if (node.matches?.("input[type=radio]")) return code.startsWith("Arrow") || code === "Space";
  if (node.matches?.("button, a, summary")) return code === "Enter" || code === "Space";
  return node.matches?.("input") && code === "Space";
}

function codeOf(event) {
  if (event.key === "?") return "Slash";
  return event.code.replace(/^Numpad(?=\d|Enter)/, (_, at) => (event.code === "NumpadEnter" ? "" : "Digit"));
}

document.addEventListener("keydown", (event) => {
  if (event.isComposing || event.keyCode === 229) return;
  const { target } = event;
  const code = codeOf(event);
  if (isText(target)) {
    if (code === "Escape" && !$open()) typed.leave?.(target);
    if (code === "Enter" && (event.ctrlKey || event.metaKey) && !event.repeat && !$open()) typed.submit?.();
    return;
  }
  const presses = code === "Enter" || code === "Space";
  if (event.repeat || since() < SETTLE_MS) {
    if (presses && ownKey(target, code)) event.preventDefault();
    return;
  }
  if ($open() || event.ctrlKey || event.metaKey || event.altKey || (event.shiftKey && code !== "Slash") || ownKey(target, code)) return;
  const run = table.get(code);
  if (!run) return;
  event.preventDefault();
  run();
});

const $open = () => document.querySelector("dialog[open]");

/* The second half of a double click must not answer the task that the first half brought up. */
document.addEventListener(
  "click",
  (event) => {
    if (since() < SETTLE_MS || (event.detail > 1 && since() < DOUBLE_CLICK_MS)) {
      event.preventDefault();
      event.stopPropagation();
    } else if (event.detail && !$open()) event.target.closest?.("button")?.blur(); // so that Enter goes on after a click
  },
  true,
);
