/** The invitation's token stands in the address's fragment, which no server and no log sees. */
import { api, patiently } from "./api.js";
import { $ } from "./dom.js";
import { speak, lang, t } from "./i18n.js";
import { ready } from "./shell.js";

const state = $("#state");
const token = location.hash.slice(1);
const say = (key) => {
  state.dataset.t = key;
  state.textContent = t(key);
};

history.replaceState(null, "", location.pathname);
await ready.catch(() => patiently(() => speak(lang()), () => {}));
if (!token) say("join.none");
else {
  say("join.wait");
  try {
    await patiently(() => api("POST", "/api/session", { token }), () => say("join.retry"));
    location.replace("/");
  } catch (error) {
    say(error.status === 401 ? "join.refused" : "error.unknown");
  }
}
