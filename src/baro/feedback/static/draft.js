/** What is being written: in this browser at every change, on the server a moment later, and again until it is there. */
import { api } from "./api.js";
import { forget, keep, kept } from "./store.js";

const AFTER_MS = 800;
const AGAIN_MS = 4000;
const named = (assignment) => `baro.draft.${assignment}`;

/** {content, version, time}: as this browser kept it, with the server's version that it was made from. */
export const keptDraft = (assignment) => kept(named(assignment));

/** report(state, error): "drafted", "unsaved", "stale" (error.body: the other version) or "refused". */
export function keeper(task, report) {
  let version = task.draft?.version ?? 0;
  let waiting = null;
  let timer = 0;
  let busy = null;
  let stopped = false;
  const later = (ms) => {
    clearTimeout(timer);
    if (!stopped) timer = setTimeout(save, ms);
  };
  async function save() {
    if (busy || stopped || !waiting) return;
    const sent = waiting;
    busy = api("PUT", `/api/assignments/${task.assignment}/draft`, { lease: task.lease, version, answer: sent.content });
    try {
      version = (await busy).version;
      if (stopped) return;
      if (waiting === sent) waiting = null;
      keep(named(task.assignment), { ...(waiting ?? sent), version });
      report("drafted");
    } catch (error) {
      if (stopped) return;
      if (error.code === "stale_draft") version = error.body.version;
      if (error.passing) later(AGAIN_MS);
      else waiting = null;
      report(error.passing ? "unsaved" : error.code === "stale_draft" ? "stale" : "refused", error);
    } finally {
      busy = null;
      if (waiting) later(AFTER_MS);
    }
  }
  return {
    touch(content, time) {
      waiting = { content: structuredClone(content), time };
      keep(named(task.assignment), { ...waiting, version });
      later(AFTER_MS);
    },
    version: () => version,
    saveNow: save,
    stop() {
      stopped = true;
      clearTimeout(timer);
    },
    discard() {
      this.stop();
      forget(named(task.assignment));
    },
  };
}
