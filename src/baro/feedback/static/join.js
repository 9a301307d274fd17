/**
 * The invitation's token stands in the address's fragment, which no server and no log sees. With it goes a secret that
 * this browser made and keeps until it is signed in: if the reply is lost, the link works here again, and nowhere else.
 */
import { api, patiently } from "./api.js";
import { $ } from "./dom.js";
import { speak, lang, t } from "./i18n.js";
import { ready } from "./shell.js";
import { forget, keep, kept } from "./store.js";

const KEPT = "baro.join";
const state = $("#state");
const token = location.hash.slice(1);
const say = (key) => {
  state.dataset.t = key;
  state.textContent = t(key);
};

function verifier() {
  const own = kept(KEPT) ?? Array.from(crypto.getRandomValues(new Uint8Array(32)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  keep(KEPT, own);
  return own;
}

history.replaceState(null, "", location.pathname);
await ready.catch(() => patiently(() => speak(lang()), () => {}));
if (!token) say("join.none");
else {
  say("join.wait");
  try {
    await patiently(() => api("POST", "/api/session", { token, verifier: verifier() }), () => say("join.retry"));
    forget(KEPT);
    location.replace("/");
  } catch (error) {
    say(error.status === 401 ? "join.refused" : "error.unknown");
  }
}
