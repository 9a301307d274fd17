/**
 * Shortcuts, by the key's place (event.code), so that they work whatever script the keyboard writes.
 *
 * What nobody means does nothing: a key that is held down, bounces, or belongs to an input method; a key before a reader
 * can have seen what it would answer; and the second of two quick clicks or taps at one place, if it would hit another
 * thing than the first, or undo the first.
 */
const SETTLE_MS = 150;
const READ_MS = 500;
const BOUNCE_MS = 120; // from one press to the next of one key
const CHATTER_MS = 40; // from its release to the next press
const DOUBLE_MS = 500;
const DOUBLE_PX = 24;
const PASSED_ON_MS = 20;
const ANSWERING = ".work, .bar, .answering, .dialog";
let shown = -Infinity;
let table = new Map();
let typed = {};
const pressed = { code: "", down: -Infinity, up: -Infinity };
const clicked = { control: null, target: null, x: 0, y: 0, time: -Infinity };

/** A new task, or another step of one, is on the screen from now on. */
export const settle = () => (shown = performance.now());

const since = () => performance.now() - shown;

/** Whether what is on the screen came up so lately that nobody can mean to submit it. */
export const unread = () => since() < READ_MS;

/** shortcuts: [[code, ...], cap, label, run]; inText: {submit, leave} for Ctrl+Enter and Escape in a text field. */
export function bind(shortcuts, inText) {
  table = new Map(shortcuts.flatMap(([codes, , , run]) => codes.map((code) => [code, run])));
  typed = inText;
}

/** No key does anything from now on: whatever takes a task off the screen begins with this. */
export const unbind = () => bind([], {});

const isText = (node) => node.matches?.("textarea, select, input:not([type=radio], [type=checkbox])");

function ownKey(node, code) {
  if (node.matches?.("input[type=radio]")) return code.startsWith("Arrow") || code === "Space";
  if (node.matches?.("button, a, summary")) return code === "Enter" || code === "Space";
  return node.matches?.("input") && code === "Space";
}

function codeOf(event) {
  if (event.key === "?") return "Slash";
  return event.code.replace(/^Numpad(?=\d|Enter)/, (_, at) => (event.code === "NumpadEnter" ? "" : "Digit"));
}

/** Whether a key was pressed again sooner than a finger does it. */
function bounced(code) {
  const now = performance.now();
  const again = code === pressed.code && (now - pressed.down < BOUNCE_MS || now - pressed.up < CHATTER_MS);
  Object.assign(pressed, { code, down: now });
  return again;
}

document.addEventListener("keydown", (event) => {
  if (event.isComposing || event.keyCode === 229) return;
  const { target } = event;
  const code = codeOf(event);
  const again = !event.repeat && bounced(code);
  if (isText(target)) {
    if (code === "Escape" && !$open()) typed.leave?.(target);
    if (code === "Enter" && (event.ctrlKey || event.metaKey) && !event.repeat && !again && !$open()) typed.submit?.();
    return;
  }
  if (event.repeat || again || since() < SETTLE_MS) {
    if (ownKey(target, code)) event.preventDefault();
    return;
  }
  if ($open() || event.ctrlKey || event.metaKey || event.altKey || (event.shiftKey && code !== "Slash") || ownKey(target, code)) return;
  const run = table.get(code);
  if (!run) return;
  event.preventDefault();
  run();
});

document.addEventListener("keyup", (event) => codeOf(event) === pressed.code && (pressed.up = performance.now()), true);

const $open = () => document.querySelector("dialog[open]");

/** Whether a click is what the browser makes of one on a label, for the field in it. */
const passedOn = ({ target, timeStamp: time }) =>
  target.matches?.("input") && target !== clicked.target && target.closest("label") === clicked.control && clicked.control !== null && time - clicked.time < PASSED_ON_MS;

/** Whether a click is the second of two at one place, and not meant: what it hits is new there, or is a thing to turn on. */
function doubled({ target, clientX: x, clientY: y, timeStamp: time }) {
  const control = target.closest?.("label, button, a, summary, select") ?? null;
  const second = time - clicked.time < DOUBLE_MS && Math.hypot(x - clicked.x, y - clicked.y) < DOUBLE_PX;
  const meant = control === clicked.control && !control?.matches("[aria-pressed], label, .primary");
  Object.assign(clicked, second ? { time } : { control, target, x, y, time });
  return second && control !== null && !meant && target.closest(ANSWERING) !== null;
}

document.addEventListener(
  "click",
  (event) => {
    const byKey = !event.detail;
    if (!byKey && passedOn(event)) return;
    const early = since() < SETTLE_MS && event.target.closest?.(ANSWERING);
    if (early || (!byKey && doubled(event))) {
      event.preventDefault();
      event.stopPropagation();
    } else if (!byKey && !$open()) event.target.closest?.("button")?.blur(); // so that Enter goes on after a click
  },
  true,
);
