/** What an earlier visit could not send, before anything else: asking for a task changes the leases. */
import { api, patiently } from "./api.js";
import { askUnsent } from "./dialogs.js";
import { clock } from "./i18n.js";
import { drop, send, unsent } from "./outbox.js";
import { onhold, report, waiting } from "./say.js";

/** Sends the newest for each task; returns a refusal, if any. */
export async function sendUnsent(rater) {
  let refusal = null;
  for (const entry of new Map(unsent(rater).map((one) => [one.assignment, one])).values()) {
    report("status.saving");
    try {
      const judgment = await send(entry, waiting).catch((error) => (error.code === "lease_lost" ? resend(entry) : Promise.reject(error)));
      report(...(judgment ? ["status.saved", { time: clock(judgment.submitted_ms) }] : ["status.ready"]));
    } catch (error) {
      if (error.status === 401) throw error;
      drop(entry);
      refusal = error;
    }
  }
  return refusal;
}

/** The task was opened elsewhere since. Where it has an answer by now, the rater decides; without a decision it waits. */
async function resend(entry) {
  const at = `/api/assignments/${entry.assignment}`;
  const withdrawal = !entry.body.answer;
  const { answer } = await patiently(() => api("GET", at), onhold);
  if (withdrawal && !answer) return drop(entry); // there is nothing left to withdraw
  const choice = answer ? await askUnsent(entry.made_ms, withdrawal) : "send";
  if (choice === "drop") drop(entry);
  if (choice !== "send") return null;
  const { lease } = await patiently(() => api("POST", `${at}/open`, {}), onhold);
  return send({ ...entry, body: { ...entry.body, lease } }, waiting);
}
