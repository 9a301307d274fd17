/** The page's words: one catalogue for each language, fetched once. */
import { api } from "./api.js";

const root = document.documentElement;
const catalogues = {};

export const lang = () => root.lang;

export function t(key, values = {}) {
  const text = catalogues[root.lang]?.[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** Loads a language and turns what stands on the page already, marked by data-t and data-t-label. */
export async function speak(language) {
  catalogues[language] ??= await api("GET", `/api/texts/${language}`);
  root.lang = language;
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of document.querySelectorAll("[data-t-label]")) {
    node.setAttribute("aria-label", t(node.dataset.tLabel));
    node.title = t(node.dataset.tLabel);
  }
}

export const clock = (ms) => new Intl.DateTimeFormat(root.lang, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }).format(ms);

/** A moment of today as its time, any other with its day. */
export function when(ms) {
  if (ms >= today()) return clock(ms);
  return new Intl.DateTimeFormat(root.lang, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" }).format(ms);
}

/** When this day began, where the reader is. */
export const today = () => new Date().setHours(0, 0, 0, 0);

export function duration(ms) {
  const minutes = Math.round(ms / 60000);
  const parts = { h: Math.floor(minutes / 60), m: minutes % 60 };
  return t(parts.h ? "time.hours" : "time.minutes", parts);
}
