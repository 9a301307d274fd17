/** The lease of the task on the screen and its drafts: kept, lost to another window, taken back; of two versions one. */
import { api, patiently } from "./api.js";
import { askVersion } from "./dialogs.js";
import { within } from "./dom.js";
import { keeper, moved } from "./draft.js";
import { clock } from "./i18n.js";
import { at, content, describe, now, sendable } from "./now.js";
import { explain, hush, onhold, report, tell } from "./say.js";

let page = {};

/** given: {draw, changed, next}, what the page does when another version is taken, the answer has changed, or it goes on. */
export const connect = (given) => (page = given);

/** Another tab has the task. What is on the screen stays, and can be taken back here; `then`, unless another version is. */
export function lost(then = () => {}) {
  const { task, kind } = now;
  const take = async () => {
    try {
      const { lease, state, draft, answer, expires_ms } = await patiently(() => api("POST", at(task.assignment, "/open"), {}), onhold);
      if (now.task !== task) return;
      const newer = answer && !within(answer, task.answer) ? answer : moved(draft, task.draft) ? draft.answer : null;
      now.keeper.stop();
      Object.assign(task, { lease, state, draft, answer, expires_ms });
      now.keeper = keeper(task, drafted);
      hush();
      if (newer && !within(sendable(kind, content()), newer)) return (await pickVersion(newer)) === "mine" && then();
      page.changed();
      then();
    } catch (error) {
      explain(error);
    }
  };
  report("status.unsaved");
  tell("error.lease_lost", [["action.take", take], ["action.other", page.next]]);
}

async function pickVersion(theirs) {
  const { task, kind } = now;
  const choice = await askVersion(describe(kind, content(), task), describe(kind, theirs, task));
  if (now.task !== task) return null;
  if (choice === "theirs") {
    Object.assign(now, structuredClone({ comment: theirs.comment, confidence: theirs.confidence, flags: theirs.flags, state: theirs.answer }));
    page.draw();
  }
  page.changed();
  return choice;
}

export function drafted(state, error) {
  if (state === "drafted") report("status.draft", { time: clock(Date.now()) });
  else if (state === "unsaved") report(error.code === "offline" ? "status.offline" : "status.retry");
  else if (state === "stale") pickVersion(error.body.answer);
  else if (error.code === "lease_lost") lost();
  else explain(error);
}

export async function beat() {
  const { task } = now;
  if (document.hidden || now.busy || !task || task.state !== "leased") return;
  const over = Date.now() + now.skew_ms > task.expires_ms; // then the answer still counts, and there is nothing to renew
  try {
    Object.assign(task, await api("POST", at(task.assignment, "/renew"), { lease: task.lease }));
  } catch (error) {
    if (error.code === "lease_lost" && !over && now.task === task && !now.busy) lost();
  }
}
