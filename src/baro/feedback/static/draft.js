/** What is being written: in this browser at every change, on the server a moment later, and again until it is there. */
import { api } from "./api.js";
import { within } from "./dom.js";
import { newKey } from "./outbox.js";
import { forget, keep, kept } from "./store.js";

const AFTER_MS = 800;
const AGAIN_MS = 4000;
const PAGE = newKey(); // stands in every draft that this page sends, since a reply may be lost and the draft stored
const named = (assignment) => `baro.draft.${assignment}`;

/** {content, version, by, time}: as this browser kept it, with the server's version that it was made from. */
export function keptDraft({ assignment, before }) {
  const carried = before && !kept(named(assignment)) && kept(named(before)); // its lease ran out; the draft goes on
  if (carried) {
    keep(named(assignment), carried);
    forget(named(before));
  }
  return kept(named(assignment));
}

/** Whether the server's draft was written elsewhere, after the one that this browser kept. */
export const apart = (local, draft) =>
  Boolean(local?.content && draft) && draft.version > local.version && !(local.by && local.by === draft.answer.by) && !within(local.content, draft.answer);

/** Whether the server's draft was written elsewhere since this page last heard of it; `known`: what it heard. */
export const moved = (draft, known) => Boolean(draft) && draft.version !== known?.version && draft.answer.by !== PAGE;

/** report(state, error): "drafted", "unsaved", "stale" (error.body: the other version) or "refused". */
export function keeper(task, report) {
  const name = named(task.assignment);
  let waiting = null;
  let timer = 0;
  let busy = false;
  let stopped = false;
  let gone = false;
  const version = () => task.draft?.version ?? 0;
  const later = (ms) => {
    clearTimeout(timer);
    if (!stopped) timer = setTimeout(save, ms);
  };
  async function save() {
    if (busy || stopped || !waiting) return;
    const sent = waiting;
    const answer = { ...sent.content, by: PAGE };
    let pause = AFTER_MS;
    busy = true;
    try {
      const stored = await api("PUT", `/api/assignments/${task.assignment}/draft`, { lease: task.lease, version: version(), answer });
      task.draft = { version: stored.version, answer }; // of the task: the next keeper goes on from here
      if (stopped) return;
      if (waiting === sent) waiting = null;
      keep(name, { ...(waiting ?? sent), version: version(), by: PAGE });
      report("drafted");
    } catch (error) {
      const stale = error.code === "stale_draft";
      const own = stale && error.body.answer?.by === PAGE;
      if (stale) task.draft = { version: error.body.version, answer: error.body.answer };
      if (stopped || own) return;
      if (error.passing) pause = AGAIN_MS;
      else waiting = null;
      report(error.passing ? "unsaved" : stale ? "stale" : "refused", error);
    } finally {
      busy = false;
      if (waiting) later(pause);
    }
  }
  return {
    touch(content, time) {
      waiting = { content: structuredClone(content), time };
      keep(name, { ...waiting, version: version(), by: PAGE });
      later(AFTER_MS);
    },
    saveNow: save,
    /** How long it was looked at so far: kept even where nothing was written. */
    rest(time) {
      if (!gone) keep(name, { ...kept(name), time });
    },
    stop() {
      stopped = true;
      clearTimeout(timer);
    },
    discard() {
      this.stop();
      gone = true;
      forget(name);
    },
  };
}
