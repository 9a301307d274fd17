/** Requests of a manager's page: imports and figures may take minutes, and refusals say what to do in a sentence. */
import { ApiError } from "./api.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";

const LONGEST_MS = 600000;
const SENTENCES = ["offline", "unreachable", "unauthorized", "forbidden", "not_found", "conflict", "invalid", "too_large", "rate_limited", "busy", "bad_origin"];

export const api = "/api/manage";
export const within = (project, tail = "") => `${api}/projects/${encodeURIComponent(project)}${tail && `/${tail}`}`;
export const page = (project, tab, item = "") => `/manage/${encodeURIComponent(project)}/${tab}${item && `#${item}`}`;

/** The server's answer as JSON, null where it has none; throws an ApiError. */
export async function call(method, path, body) {
  let response, text;
  try {
    response = await fetch(path, {
      method, cache: "no-store", body: JSON.stringify(body), headers: body === undefined ? {} : { "Content-Type": "application/json" },
      signal: AbortSignal.timeout(LONGEST_MS),
    });
    text = await response.text();
  } catch {
    throw new ApiError(navigator.onLine ? "unreachable" : "offline", 0);
  }
  const reply = parsed(text);
  if (response.ok) return reply;
  throw new ApiError(reply?.error ?? "unknown", response.status, reply ?? {});
}

function parsed(text) {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}

/** What went wrong, in the reader's language, and below it the server's own words. */
export function refusal(error) {
  if (!error.code) throw error;
  const said = error.body?.problems?.length ? error.body.problems : [error.body?.message].filter(Boolean);
  return h("div", { class: "refusal", role: "alert" },
    h("p", {}, t(`manage.error.${SENTENCES.includes(error.code) ? error.code : "unknown"}`)),
    said.length > 0 && h("ul", { class: "said", lang: "en" }, said.map((sentence) => h("li", {}, sentence))),
    error.status === 401 && h("p", {}, h("a", { href: "/join" }, t("action.join"))));
}
