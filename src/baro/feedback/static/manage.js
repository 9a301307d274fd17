/** A manager's page: loads the tab that the address names, and draws it anew when the language changes. */
import { patiently } from "./api.js";
import "./dialogs.js"; // links in answers are followed only by those who have seen the address
import { $, button, h } from "./dom.js";
import { lang, speak, t } from "./i18n.js";
import { unbind } from "./keys.js";
import { refusal } from "./manage_api.js";
import { ready } from "./shell.js";

const main = $("#main");
const { project, role, tab } = main.dataset;
const name = project ? tab : "projects";

/** What a tab gets: where it is, who looks, and how it shows something. */
const view = {
  project, role, main,
  draw(...nodes) {
    main.replaceChildren(...nodes.flat(2).filter(Boolean));
    main.removeAttribute("aria-busy");
  },
};

async function show() {
  unbind();
  main.setAttribute("aria-busy", "true");
  document.title = [project, t(project ? `manage.tab.${tab}` : "manage.projects.title"), t("brand")].filter(Boolean).join(" · ");
  const page = await import(`./manage_${name}.js`).catch(() => null);
  if (!page) return window.dispatchEvent(new Event("baro:unloaded")); // first.js tells and loads again
  try {
    await page.show(view);
  } catch (error) {
    view.draw(h("h1", {}, t(project ? `manage.tab.${tab}` : "manage.projects.title")), refusal(error), h("div", {}, button(t("action.retry"), show)));
  }
}

await ready.catch(() => patiently(() => speak(lang()), () => {}));
const current = $(".tabs [aria-current]");
if (current) current.closest(".tabs").scrollLeft = Math.max(0, current.offsetLeft - 40);
window.addEventListener("baro:language", show);
await show();
