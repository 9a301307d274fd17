/** What the rater's page knows: the task on the screen, the answer so far, and where both are sent. */
import { $ } from "./dom.js";
import * as timer from "./timer.js";

export const main = $("#main");
export const project = main.dataset.project;
export const at = (assignment, tail = "") => `/api/assignments/${assignment}${tail}`;
export const of = (tail) => `/api/projects/${encodeURIComponent(project)}/${tail}`;

export const now = {
  me: null, task: null, kind: null, guideline: null, state: null, // the answer so far, in the shape in which it is sent
  comment: "", confidence: null, flags: [], changes: 0, key: "", revealed: new Set(), diff: false, revising: false,
  view: null, prompt: null, why: "empty", keeper: null, shortcuts: [], busy: true, skew_ms: 0,
};

/** What is written so far, as a draft holds it. */
export const content = () => ({ answer: now.state, comment: now.comment, confidence: now.confidence, flags: now.flags });

export const spent = () => ({ ...timer.read(), changes: now.changes });
export const sendable = (kind, said) => ({ ...said, answer: kind.payload(said.answer) });
export const describe = (kind, { answer, comment = "" }, task) => [kind.summary(answer, task), comment].filter(Boolean).join("\n\n");
