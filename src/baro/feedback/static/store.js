/** What this browser keeps. Where localStorage is full or forbidden, memory holds it until the page closes. */
const memory = new Map();

export function keep(name, value) {
  const text = JSON.stringify(value);
  memory.set(name, text);
  try {
    localStorage.setItem(name, text);
  } catch {
    /* memory has it */
  }
}

export function kept(name) {
  let text = memory.get(name);
  try {
    text = localStorage.getItem(name) ?? text;
  } catch {
    /* memory may have it */
  }
  return text ? JSON.parse(text) : null;
}

export function forget(name) {
  memory.delete(name);
  try {
    localStorage.removeItem(name);
  } catch {
    /* it was only in memory */
  }
}

export function names(prefix) {
  const all = new Set(memory.keys());
  try {
    Object.keys(localStorage).forEach((name) => all.add(name));
  } catch {
    /* memory's are all there are */
  }
  return [...all].filter((name) => name.startsWith(prefix));
}
