/** The rater's projects. */
import { api, patiently } from "./api.js";
import { $ } from "./dom.js";
import { lang, speak, t } from "./i18n.js";
import { ready } from "./shell.js";

const label = () => document.querySelectorAll("[data-done]").forEach((node) => (node.textContent = t("home.done", { n: node.dataset.done })));
window.addEventListener("baro:language", label);

// Before any word of this language has come: who wants to leave need not wait for it.
$("#leave").addEventListener("click", async () => {
  try {
    await api("DELETE", "/api/session");
    location.replace("/join");
  } catch {
    $("#problem").textContent = t("undone.unreachable");
  }
});

await ready.catch(() => patiently(() => speak(lang()), () => {}));
label();
