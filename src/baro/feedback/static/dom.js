/** Elements, icons and dialogs, and the one way by which the server's HTML enters the document. */
const policy = window.trustedTypes?.createPolicy("baro", { createHTML: (html) => html });
const ICONS = "http://www.w3.org/2000/svg";

export const $ = (selector, root = document) => root.querySelector(selector);

/** An element. Properties: "html" (the server's, already safe), "on..." listeners, everything else an attribute. */
export function h(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "html") node.innerHTML = policy ? policy.createHTML(value) : value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.startsWith("aria-")) node.setAttribute(name, String(value));
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function icon(name) {
  const svg = document.createElementNS(ICONS, "svg");
  const use = document.createElementNS(ICONS, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

/** A button that shows its key. */
export function button(label, onclick, { cap, look = "", sign, ...attributes } = {}) {
  const hint = cap && h("kbd", { "aria-hidden": true }, cap);
  const shown = h("span", { class: "label" }, label);
  return h("button", { type: "button", class: `button ${look}`, onclick, ...attributes }, sign && icon(sign), shown, hint);
}

/** A button that is on or off. */
export const toggle = (label, onclick, options = {}) =>
  button(label, onclick, { "aria-pressed": false, ...options, look: `toggle ${options.look ?? ""}` });

export const press = (node, on) => node.setAttribute("aria-pressed", String(Boolean(on)));

/** Buttons of which one is on: [[value, button], ...] as a labelled group with a `show(value)`. */
export function choices(label, options, onchoose, look = "") {
  const buttons = options.map(([value, text, cap]) => [value, toggle(text, () => onchoose(value), { cap, look })]);
  const root = h("div", { class: "choices", role: "group", "aria-label": label }, ...buttons.map(([, node]) => node));
  return { root, show: (value) => buttons.forEach(([own, node]) => press(node, own === value)) };
}

/** A modal dialog; resolves to the value of the button that closed it, or null. The focus is on its first field, if any. */
export function dialog({ title, body, actions, look = "" }) {
  const inputs = [body].flat().some((node) => node && (node.matches?.("fieldset, ol") || node.querySelector?.("input")));
  return new Promise((resolve) => {
    const close = () => {
      box.remove();
      resolve(box.returnValue || null);
    };
    const buttons = actions.map(([value, label], rank) =>
      h("button", { class: `button ${rank ? "" : "primary"}`, value, autofocus: !rank && !inputs, formnovalidate: rank > 0 }, label),
    );
    const box = h(
      "dialog",
      { class: `dialog ${look}`, "aria-labelledby": "dialog-title", onclose: close },
      h("form", { method: "dialog" }, h("h2", { id: "dialog-title" }, title), h("div", { class: "dialog-body" }, body), h("div", { class: "dialog-actions" }, buttons)),
    );
    let outside = false; // a selection that is dragged out of a field ends on the backdrop, too
    box.addEventListener("pointerdown", ({ target }) => (outside = target === box));
    box.addEventListener("click", ({ target }) => outside && target === box && box.close(""));
    document.body.append(box);
    box.showModal();
  });
}

/** Whether `part` is in `whole`: equal, or an object each of whose fields is. */
export function within(part, whole) {
  if (part === null || typeof part !== "object") return part === whole;
  if (whole === null || typeof whole !== "object" || Array.isArray(part) !== Array.isArray(whole)) return false;
  if (Array.isArray(part) && part.length !== whole.length) return false;
  return Object.keys(part).every((name) => within(part[name], whole[name]));
}
