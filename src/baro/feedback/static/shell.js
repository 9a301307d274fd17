/** What every page has: language and colours. Pages listen to "baro:language" to draw anew. */
import { api } from "./api.js";
import { $ } from "./dom.js";
import { lang, speak } from "./i18n.js";
import { keep } from "./store.js";

const root = document.documentElement;

$("#language").addEventListener("click", async () => {
  const next = lang() === "ko" ? "en" : "ko";
  try {
    await speak(next);
  } catch {
    return; // without a network the page stays in the language it has
  }
  window.dispatchEvent(new Event("baro:language"));
  if (document.body.dataset.page !== "join") await api("PATCH", "/api/me", { lang: next }).catch(() => {});
});

$("#theme").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  keep("baro.theme", root.dataset.theme);
});

const name = () => ($("#language").lang = lang() === "ko" ? "en" : "ko"); // the button speaks the other language
window.addEventListener("baro:language", name);
name();

export const ready = speak(lang());
