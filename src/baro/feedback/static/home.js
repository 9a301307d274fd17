/** The rater's projects. */
import { api } from "./api.js";
import { $ } from "./dom.js";
import { t } from "./i18n.js";
import { ready } from "./shell.js";

await ready;
const label = () => document.querySelectorAll("[data-done]").forEach((node) => (node.textContent = t("home.done", { n: node.dataset.done })));
label();
window.addEventListener("baro:language", label);

$("#leave").addEventListener("click", async () => {
  try {
    await api("DELETE", "/api/session");
    location.replace("/join");
  } catch {
    $("#problem").textContent = t("undone.unreachable");
  }
});
