/** How long a task was in sight, and how long somebody was at work on it: in sight and touched in the last half minute. */
const IDLE_MS = 30000;
const DAY_MS = 86400000;
let active = 0;
let visible = 0;
let last = performance.now();
let touched = last;
let inSight = !document.hidden;

function tick() {
  const now = performance.now();
  if (inSight) {
    visible += now - last;
    active += Math.max(0, Math.min(now, touched + IDLE_MS) - last);
  }
  last = now;
}

function touch() {
  tick();
  touched = last;
}

export function start(given = {}) {
  touch();
  active = given.active_ms ?? 0;
  visible = given.visible_ms ?? 0;
}

export function read() {
  tick();
  return { active_ms: Math.min(DAY_MS, Math.round(active)), visible_ms: Math.min(DAY_MS, Math.round(visible)) };
}

["pointerdown", "pointermove", "keydown", "wheel", "scroll", "touchmove"].forEach((name) =>
  document.addEventListener(name, touch, { passive: true, capture: true }),
);
document.addEventListener("visibilitychange", () => {
  tick();
  inSight = !document.hidden;
});
