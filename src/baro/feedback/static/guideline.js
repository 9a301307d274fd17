/** What raters go by: shown before the first task under it and whenever they ask, and which of it they have read. */
import { api, patiently } from "./api.js";
import { showGuideline } from "./dialogs.js";
import { explain, hush, onhold } from "./say.js";
import { keep, kept } from "./store.js";

const REMEMBERED = 20;
let newest = null; // what was shown last is there without a network, too

const named = (project, rater) => `baro.guideline.${project.id}.${rater}`;
const read = (project, rater) => [kept(named(project, rater)) ?? []].flat(); // ids: each language counts its own versions

/** Whether a task's guideline is still to be read by this rater. */
export const unread = ({ guideline, project }, rater) => guideline !== null && !read(project, rater).includes(guideline.id);

/** Before a task, once `wanted()` still holds; it is read when its reader says so. Returns the id of what was shown. */
export async function readFirst({ project }, rater, wanted) {
  let held = false;
  const found = await fetched(project.name, (call) => patiently(call, (error) => ((held = true), onhold(error))));
  if (held) hush();
  if (!found || !wanted()) return null;
  if ((await showGuideline(found, true)) === "read") keep(named(project, rater), [...read(project, rater), found.id].slice(-REMEMBERED));
  return found.id;
}

/** On request. Returns the id of what was shown, null of nothing. */
export async function lookUp(project) {
  const found = await fetched(project, (call) => call().catch((error) => (newest && error.passing ? newest : Promise.reject(error))));
  if (found !== undefined) await showGuideline(found);
  return found?.id ?? null;
}

/** undefined where it could not be had, and the page has said so. */
async function fetched(project, through) {
  try {
    newest = await through(() => api("GET", `/api/projects/${encodeURIComponent(project)}/guideline`));
    return newest;
  } catch (error) {
    explain(error);
    return undefined;
  }
}
