/** What every page has: language and colours. Pages listen to "baro:language" to draw anew. */
import { api } from "./api.js";
import { $ } from "./dom.js";
import { lang, speak } from "./i18n.js";
import { forget, keep, kept } from "./store.js";

const root = document.documentElement;
const CHOSEN = "baro.lang"; // a language that the server does not know of yet: it outlives a reload

$("#language").addEventListener("click", async () => {
  const next = lang() === "ko" ? "en" : "ko";
  keep(CHOSEN, next);
  try {
    await speak(next);
  } catch {
    return forget(CHOSEN); // without a network the page stays in the language it has
  }
  window.dispatchEvent(new Event("baro:language"));
  await tell();
});

async function tell() {
  const chosen = kept(CHOSEN);
  if (chosen === null || document.body.dataset.page === "join") return;
  await api("PATCH", "/api/me", { lang: chosen }).then(() => kept(CHOSEN) === chosen && forget(CHOSEN), () => {});
}

$("#theme").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  keep("baro.theme", root.dataset.theme);
});

const name = () => ($("#language").lang = lang() === "ko" ? "en" : "ko"); // the button speaks the other language
window.addEventListener("baro:language", name);
name();

export const ready = speak(kept(CHOSEN) ?? lang()).then(() => {
  name();
  tell();
});
