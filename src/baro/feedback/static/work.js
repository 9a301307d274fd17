/**
 * The rater's page: fetch a task, show it, keep what is written, send the answer, go on.
 *
 * `now` is all that the page knows. An answer goes to the outbox first, then to the server; the next task is asked for
 * when the server has acknowledged it.
 */
import { api, patiently } from "./api.js";
import * as criteria from "./criteria.js";
import { askReason, drawDetails, openDetails } from "./details.js";
import { askFlags, askRetract, askSkip, askUnsent, askVersion, showGuideline, showHistory, showKeys } from "./dialogs.js";
import { $, button, h, within } from "./dom.js";
import { keeper, keptDraft } from "./draft.js";
import * as edit from "./edit.js";
import { clock, duration, lang, speak, t } from "./i18n.js";
import * as keys from "./keys.js";
import { drop, newKey, put, send, unsent } from "./outbox.js";
import * as pair from "./pair.js";
import * as rank from "./rank.js";
import { conversation } from "./responses.js";
import * as safety from "./safety.js";
import { explain, hush, report, reported, tell, waiting } from "./say.js";
import { ready } from "./shell.js";
import { keep, kept } from "./store.js";
import * as thumb from "./thumb.js";
import * as timer from "./timer.js";

const KINDS = { pair, rank, thumb, safety, criteria, edit };
const BEAT_MS = 60000;
const main = $("#main");
const project = main.dataset.project;
const at = (assignment, tail = "") => `/api/assignments/${assignment}${tail}`;
const of = (tail) => `/api/projects/${encodeURIComponent(project)}/${tail}`;

const now = {
  me: null, task: null, kind: null, state: null, // the answer so far, in the shape in which it is sent
  comment: "", confidence: null, flags: [], changes: 0, key: "", revealed: new Set(), diff: false, revising: false,
  view: null, keeper: null, shortcuts: [], history: { done: 0, today_ms: 0, items: [] }, busy: true, skew_ms: 0,
};

function tally() {
  const { done, today_ms } = now.history;
  const left = now.task?.progress.left ?? 0;
  $("#progress").textContent = t("progress.line", { done, time: duration(today_ms), left: left >= 1000 ? "1000+" : left });
}

let counted = Promise.resolve();

function recount() {
  counted = api("GET", of("history?limit=20")).then((history) => (now.history = history), () => {}).then(tally);
  return counted;
}

// ------------------------------------------------------------------------------------------------------ getting a task

async function nextTask() {
  leave();
  try {
    const task = await patiently(() => api("POST", of("next"), {}), waiting);
    hush();
    await (task ? show(task) : empty());
  } catch (error) {
    explain(error, [["action.retry", nextTask]]);
  }
}

/** Ends the task on the screen; what was written of it stays where it is kept. */
function leave() {
  now.keeper?.stop();
  Object.assign(now, { busy: true, task: null, keeper: null });
  main.setAttribute("aria-busy", "true");
}

function empty() {
  now.view = null;
  main.removeAttribute("aria-busy");
  main.replaceChildren(h("section", { class: "empty" }, h("h1", { tabindex: "-1" }, t("empty.title")), h("p", {}, t("empty.text")), button(t("empty.again"), nextTask, { look: "primary" })));
  now.shortcuts = common().filter(([, cap]) => ["Z", "H", "?", "K"].includes(cap));
  keys.bind(now.shortcuts, {});
  drawBar();
  now.busy = false;
  recount();
}

async function show(task, revising = false) {
  const kind = KINDS[task.kind];
  const local = keptDraft(task.assignment);
  const theirs = task.answer ?? task.draft?.answer; // a submitted answer outlives the drafts that led to it
  const apart = local && !task.answer && task.draft && task.draft.version > local.version && !within(local.content, task.draft.answer);
  let given = local?.content ?? theirs ?? {};
  if (apart && (await askVersion(describe(kind, local.content, task), describe(kind, task.draft.answer, task))) === "theirs") given = task.draft.answer;
  Object.assign(now, {
    task, kind, revising, state: structuredClone(given.answer ?? kind.blank(task)), comment: given.comment ?? "", confidence: given.confidence ?? null,
    flags: given.flags ?? [], changes: local?.time?.changes ?? 0, key: newKey(), revealed: new Set(), diff: false, busy: false, skew_ms: task.now_ms - Date.now(),
  });
  now.keeper = keeper(task, drafted);
  $("#details").hidden = !now.comment && now.confidence === null;
  draw();
  keys.settle();
  timer.start(local?.time);
  window.scrollTo(0, 0);
  $("h1", main).focus({ preventScroll: true });
  if (revising || reported()[0] !== "status.saved") report(revising ? "status.revising" : "status.ready");
  recount();
  if (task.guideline && kept(seen()) !== task.guideline.version) await readGuideline(true);
}

const seen = () => `baro.guideline.${now.task.project.id}.${now.me.id}`;

async function readGuideline(first = false) {
  const { task } = now;
  const name = task && seen();
  if ((await showGuideline(project, { first })) === "read") keep(name, task.guideline.version);
  if (first && now.task === task) timer.start();
}

const describe = (kind, { answer, comment = "" }, task) => [kind.summary(answer, task), comment].filter(Boolean).join("\n\n");

// -------------------------------------------------------------------------------------------------------- drawing a task

/** What a kind of task may ask of the page. */
const ui = {
  change(edit, then) {
    if (now.busy) return;
    edit();
    changed();
    then?.();
  },
  submit: () => submit(),
  tell,
  askReason,
  flag: () => flag(),
  flags: (position) => now.flags.filter((one) => one.position === position),
  revealed: (position) => !ui.blurred() || now.revealed.has(position),
  blurred: () => now.task.project.blur && !now.revising,
  reveal(position) {
    now.revealed.add(position);
    now.view.update();
  },
  diff: () => now.diff,
};

function changed() {
  now.changes += 1;
  hush();
  now.view.update();
  report("status.writing");
  now.keeper.touch(content(), { ...timer.read(), changes: now.changes });
}

const content = () => ({ answer: now.state, comment: now.comment, confidence: now.confidence, flags: now.flags });

function draw() {
  const { task, kind, revising } = now;
  now.view = kind.mount(task, now.state, ui);
  const again = revising && h("div", { class: "banner" }, h("p", {}, t("revise.banner")), button(t("revise.leave"), nextTask, { look: "small" }), button(t("action.retract"), retract, { look: "small quiet" }));
  const welfare = ui.blurred() && h("p", { class: "banner" }, t("welfare"));
  const diff = task.diff && h("div", { class: "tools" }, h("label", { class: "switch" }, h("input", { type: "checkbox", id: "diff", checked: now.diff, onchange: flipDiff }), t("diff.label"), h("kbd", { "aria-hidden": true }, "D")));
  const title = h("div", { class: "task-head" }, h("h1", { tabindex: "-1" }, t(`kind.${task.kind}.title`)),
    h("p", { class: "hint" }, t(`kind.${task.kind}.hint`)), diff);
  main.replaceChildren(...[again, welfare, title, conversation(task.prompt), now.view.main].filter(Boolean));
  main.removeAttribute("aria-busy");
  const own = now.view.keys;
  now.shortcuts = [...own, ...common().filter(([codes]) => !own.some(([theirs]) => theirs.includes(codes[0])))];
  keys.bind(now.shortcuts, { submit, leave: (field) => field.blur() });
  drawBar();
  now.view.update();
}

const common = () => [
  [["Enter"], "↵", "action.submit", submit],
  [["KeyZ", "Backspace"], "Z", "action.back", back], [["KeyS"], "S", "action.skip", skip], [["KeyC"], "C", "action.comment", () => openDetails()],
  [["KeyF"], "F", "flag.title", flag], [["KeyH"], "H", "history.title", pickHistory], [["Slash"], "?", "guideline.label", () => readGuideline()],
  [["KeyK"], "K", "keys.title", () => showKeys(now.shortcuts)],
  ...(now.task?.diff ? [[["KeyD"], "D", "diff.label", () => $("#diff").click()]] : []),
  ...(now.task && ui.blurred() ? [[["KeyR"], "R", "blur.next", () => ui.reveal(now.task.responses.findIndex((_, position) => !ui.revealed(position)))]] : []),
];

function drawBar() {
  const side = [button(t("action.back"), back, { cap: "Z", look: "quiet", sign: "back" })];
  if (now.task && !now.revising) side.push(button(t("action.skip"), skip, { cap: "S", look: "quiet", sign: "skip" }));
  if (now.task) side.push(button(t("action.comment"), () => openDetails(), { cap: "C", look: "quiet", sign: "comment", "aria-controls": "details", "aria-expanded": !$("#details").hidden, id: "comment-button" }));
  $("#side").replaceChildren(...side);
  $("#answer").replaceChildren(...(now.view ? [now.view.bar] : []));
  $("#details").hidden ||= !now.view;
  drawDetails(now, ui.change);
  report();
  tally();
}

function flipDiff({ target }) {
  now.diff = target.checked;
  now.view.update();
}

async function flag() {
  const { task } = now;
  const chosen = await askFlags(task.responses.length, now.flags);
  if (chosen && now.task === task) ui.change(() => (now.flags = chosen));
}

// ------------------------------------------------------------------------------------------------------ sending answers

/** Until the server has answered, the answer stays as it is: the key stands for exactly this one. */
function hold(on) {
  now.busy = on;
  main.inert = on;
  $("#actions").inert = on;
}

async function submit() {
  const { task, kind } = now;
  if (!task || now.busy) return;
  const need = task.responses.some((_, position) => !ui.revealed(position)) ? "need.reveal" : kind.missing(now.state, task, now.comment);
  if (need === "need.reason") return askReason();
  if (need) return tell(need);
  const body = {
    lease: task.lease, key: now.key, ...content(), answer: kind.payload(now.state), guideline_id: task.guideline?.id ?? null,
    ...timer.read(), changes: now.changes, ui_version: document.body.dataset.version,
  };
  await deliver({ rater: now.me.id, assignment: task.assignment, path: at(task.assignment, "/judgment"), made_ms: Date.now(), body });
}

async function retract() {
  const { task } = now;
  if (!(await askRetract()) || now.task !== task) return;
  const body = { lease: task.lease, key: newKey() };
  await deliver({ rater: now.me.id, assignment: task.assignment, path: at(task.assignment, "/retract"), made_ms: Date.now(), body });
}

async function deliver(entry) {
  hold(true);
  now.keeper.stop();
  put(entry);
  report("status.saving");
  try {
    const judgment = await send(entry, waiting);
    now.keeper.discard();
    hold(false);
    hush();
    report("status.saved", { time: clock(judgment.submitted_ms) });
    await nextTask();
    if (entry.body.answer && !within(entry.body.answer, judgment.answer)) tell("error.differs");
  } catch (error) {
    hold(false);
    now.keeper = keeper(now.task, drafted);
    report("status.unsaved");
    if (error.code === "lease_lost") return lost(() => deliver({ ...entry, body: { ...entry.body, lease: now.task.lease } }));
    if (error.status !== 401) drop(entry);
    explain(error);
  }
}

/** What an earlier visit could not send, first of all: asking for a task changes the leases. Returns a refusal, if any. */
async function sendUnsent() {
  let refusal = null;
  for (const entry of unsent(now.me.id)) {
    report("status.saving");
    try {
      const judgment = await send(entry, waiting).catch((error) => (error.code === "lease_lost" ? resend(entry) : Promise.reject(error)));
      if (judgment) report("status.saved", { time: clock(judgment.submitted_ms) });
    } catch (error) {
      if (error.status === 401) throw error;
      drop(entry);
      refusal = error;
    }
  }
  return refusal;
}

async function resend(entry) {
  const { answer } = await api("GET", at(entry.assignment));
  if (answer && !(await askUnsent(entry.made_ms))) return drop(entry);
  const { lease } = await api("POST", at(entry.assignment, "/open"), {});
  return send({ ...entry, body: { ...entry.body, lease } }, waiting);
}

// ------------------------------------------------------------------------------------------------------ leases and drafts

/** Another tab has the task. What is on the screen stays, and can be taken back here. */
function lost(then = () => {}) {
  const take = async () => {
    try {
      const { lease, draft, expires_ms } = await patiently(() => api("POST", at(now.task.assignment, "/open"), {}), waiting);
      const elsewhere = draft && draft.version !== now.keeper.version() && !within(content(), draft.answer);
      now.keeper.stop();
      Object.assign(now.task, { lease, draft, expires_ms });
      now.keeper = keeper(now.task, drafted);
      hush();
      if (elsewhere) await pickVersion(draft.answer);
      else changed();
      then();
    } catch (error) {
      explain(error);
    }
  };
  report("status.unsaved");
  tell("error.lease_lost", [["action.take", take], ["action.other", nextTask]]);
}

async function pickVersion(theirs) {
  const { task, kind } = now;
  const choice = await askVersion(describe(kind, content(), task), describe(kind, theirs, task));
  if (now.task !== task) return;
  if (choice === "theirs") {
    Object.assign(now, structuredClone({ comment: theirs.comment, confidence: theirs.confidence, flags: theirs.flags, state: theirs.answer }));
    draw();
  }
  changed();
}

function drafted(state, error) {
  if (state === "drafted") report("status.draft", { time: clock(Date.now()) });
  else if (state === "unsaved") report(error.code === "offline" ? "status.offline" : "status.retry");
  else if (state === "stale") pickVersion(error.body.answer);
  else if (error.code === "lease_lost") lost();
  else explain(error);
}

async function beat() {
  const { task } = now;
  if (document.hidden || now.busy || !task || task.state !== "leased") return;
  const over = Date.now() + now.skew_ms > task.expires_ms; // then the answer still counts, and there is nothing to renew
  try {
    Object.assign(task, await api("POST", at(task.assignment, "/renew"), { lease: task.lease }));
  } catch (error) {
    if (error.code === "lease_lost" && !over && now.task === task && !now.busy) lost();
  }
}

// ------------------------------------------------------------------------------------------------------ other ways to go

async function skip() {
  const { task } = now;
  if (!task || now.busy || now.revising) return;
  const reason = await askSkip();
  if (!reason || now.task !== task) return;
  hold(true);
  try {
    await api("POST", at(task.assignment, "/skip"), { lease: task.lease, reason });
    now.keeper.discard();
    hold(false);
    await nextTask();
  } catch (error) {
    hold(false);
    if (error.code === "lease_lost") lost();
    else explain(error, [["action.other", nextTask]]);
  }
}

/** To the judgment before the one on the screen. */
async function back() {
  await counted; // the newest may still be on its way
  if (now.busy) return undefined;
  const { items } = now.history;
  const here = items.findIndex(({ assignment }) => now.revising && assignment === now.task.assignment);
  const before = items[here + 1];
  return before ? open(before.assignment) : tell("history.none");
}

async function pickHistory() {
  await recount();
  const { done, today_ms, items } = now.history;
  const chosen = await showHistory({ done, today: duration(today_ms), items });
  if (chosen) await open(chosen);
}

async function open(assignment) {
  now.busy = true;
  try {
    await now.keeper?.saveNow();
    const task = await api("POST", at(assignment, "/open"), {});
    leave();
    hush();
    await show(task, true);
  } catch (error) {
    now.busy = false;
    explain(error);
  }
}

// --------------------------------------------------------------------------------------------------------------- starting

async function start() {
  try {
    await ready.catch(() => patiently(() => speak(lang()), () => {}));
    now.me = await patiently(() => api("GET", "/api/me"), waiting);
    const refused = await sendUnsent();
    await nextTask();
    if (refused) explain(refused);
  } catch (error) {
    explain(error);
  }
}

$("#guideline").addEventListener("click", () => readGuideline());
$("#keys").addEventListener("click", () => showKeys(now.shortcuts));
$("#history").addEventListener("click", pickHistory);
window.addEventListener("baro:language", () => (now.task ? draw() : now.view === null && !now.busy && empty()));
window.addEventListener("online", () => now.keeper?.saveNow());
document.addEventListener("visibilitychange", () => (document.hidden ? now.keeper?.saveNow() : beat()));
setInterval(beat, BEAT_MS);
new ResizeObserver(([{ target }]) => document.documentElement.style.setProperty("--bar", `${target.offsetHeight}px`)).observe($("#bar"));
start();
