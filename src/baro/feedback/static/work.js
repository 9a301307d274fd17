/**
 * The rater's page: fetch a task, show it, keep what is written, send the answer, go on.
 *
 * `now` is all that the page knows. An answer goes to the outbox first, then to the server; the next task is asked for
 * when the server has acknowledged it.
 */
import { api, patiently } from "./api.js";
import * as criteria from "./criteria.js";
import { askReason, drawDetails, openDetails } from "./details.js";
import { askFlags, askRetract, askSkip, askVersion, showHistory, showKeys } from "./dialogs.js";
import { $, button, h, within } from "./dom.js";
import { apart, keeper, keptDraft } from "./draft.js";
import * as edit from "./edit.js";
import { lookUp, readFirst, unread } from "./guideline.js";
import { head, learned } from "./head.js";
import { before, history, recount, settled } from "./history.js";
import { clock, duration, lang, speak, t } from "./i18n.js";
import * as keys from "./keys.js";
import { beat, connect, drafted, lost } from "./lease.js";
import { at, content, describe, main, now, of, project, sendable, spent } from "./now.js";
import { drop, newKey, put, send } from "./outbox.js";
import * as pair from "./pair.js";
import * as rank from "./rank.js";
import { conversation } from "./responses.js";
import * as safety from "./safety.js";
import { explain, hush, onhold, report, reported, tell, waiting } from "./say.js";
import { ready } from "./shell.js";
import * as thumb from "./thumb.js";
import * as timer from "./timer.js";
import { sendUnsent } from "./unsent.js";

const KINDS = { pair, rank, thumb, safety, criteria, edit };
const BEAT_MS = 60000;
const STOPPED = ["paused", "ended"]; // of a project: refusals that are no mistakes

function tally() {
  const { done, today_ms } = history();
  const { left } = now.task?.progress ?? { left: 0 };
  $("#progress").textContent = t("progress.line", { done, time: duration(today_ms), left: t(left === null ? "progress.many" : left ? "progress.few" : "progress.none", { left }) });
}

const count = () => recount(of("history")).then(tally);

// ------------------------------------------------------------------------------------------------------ getting a task

async function nextTask() {
  leave();
  try {
    const task = await patiently(() => api("POST", of("next"), {}), onhold);
    hush();
    if (task) return await show(task);
    empty("empty");
    $("h1", main).focus();
  } catch (error) {
    if (!STOPPED.includes(error.code)) return explain(error, [["action.retry", nextTask]]);
    hush();
    empty(error.code);
    $("h1", main).focus();
  }
}

/** Ends the task on the screen; what was written of it stays where it is kept. */
function leave() {
  now.keeper?.rest(spent());
  now.keeper?.stop();
  Object.assign(now, { busy: true, task: null, keeper: null, revising: false });
  main.setAttribute("aria-busy", "true");
}

/** Why there is no task: none is left, or the project is paused or has ended. */
function empty(why = now.why) {
  Object.assign(now, { view: null, why });
  main.removeAttribute("aria-busy");
  main.replaceChildren(h("section", { class: "empty" }, h("h1", { tabindex: "-1" }, t(`${why}.title`)), h("p", {}, t(`${why}.text`)), button(t("empty.again"), nextTask, { look: "primary" })));
  now.shortcuts = common().filter(([, cap]) => ["Z", "H", "?", "K"].includes(cap));
  keys.bind(now.shortcuts, {});
  drawBar();
  hold(false);
  count();
}

async function show(task, revising = false) {
  const kind = KINDS[task.kind];
  const local = keptDraft(task);
  const unsaved = Boolean(task.answer && local?.content) && !within(sendable(kind, local.content), task.answer);
  let given = (unsaved || !task.answer ? local?.content : null) ?? task.answer ?? task.draft?.answer ?? {};
  if (!task.answer && apart(local, task.draft) && (await askVersion(describe(kind, local.content, task), describe(kind, task.draft.answer, task))) === "theirs") given = task.draft.answer;
  Object.assign(now, {
    task, kind, revising, guideline: task.guideline?.id ?? null, state: structuredClone(given.answer ?? kind.blank(task)), comment: given.comment ?? "", confidence: given.confidence ?? null,
    flags: given.flags ?? [], changes: local?.time?.changes ?? 0, key: newKey(), revealed: new Set(), diff: false, skew_ms: task.now_ms - Date.now(),
  });
  const first = unread(task, now.me.id);
  hold(first); // nobody answers by a guideline that they have not been shown
  now.keeper = keeper(task, drafted);
  $("#details").hidden = !now.comment && now.confidence === null;
  draw();
  keys.settle();
  timer.start(local?.time);
  window.scrollTo(0, 0);
  $("h1", main).focus({ preventScroll: true });
  if (unsaved) tell("revise.unsaved", [["revise.saved", () => (now.keeper.discard(), show(task, true))]]);
  if (unsaved || revising || reported()[0] !== "status.saved") report(unsaved ? "status.unsaved" : revising ? "status.revising" : "status.ready");
  count();
  if (!first) return;
  now.guideline = await readFirst(task, now.me.id, () => now.task === task);
  if (now.task !== task) return;
  hold(false);
  $("h1", main).focus({ preventScroll: true });
  timer.start(local?.time); // what went by was the guideline's
}

async function readGuideline() {
  const { task } = now;
  const shown = await lookUp(project);
  if (shown && now.task === task) now.guideline = shown;
}

// -------------------------------------------------------------------------------------------------------- drawing a task

/** What a kind of task may ask of the page. */
const ui = {
  change(edit) {
    if (now.busy) return;
    edit();
    changed();
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

/** Of what is covered, the response on the screen first, where one is shown at a time. */
function revealNext() {
  const covered = now.task.responses.map((_, position) => position).filter((position) => !ui.revealed(position));
  const next = covered.includes(now.view.at?.()) ? now.view.at() : covered[0];
  if (next === undefined) return;
  now.view.go?.(next);
  ui.reveal(next);
}

function changed() {
  now.changes += 1;
  drop({ body: { key: now.key } }); // an answer that was refused gives way to what is written now
  hush();
  now.view.update();
  report("status.writing");
  now.keeper.touch(content(), spent());
}

function draw() {
  const { task, kind } = now;
  now.view = kind.mount(task, now.state, ui);
  now.prompt = conversation(task.prompt, "Q");
  const above = head({ blurred: ui.blurred(), leave: () => (now.keeper.discard(), nextTask()), retract, flipDiff });
  main.replaceChildren(...above, now.prompt, now.view.main);
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
  ...(now.task ? [[["KeyQ"], "Q", "prompt.key", () => now.prompt.flip()]] : []),
  ...(now.task?.diff ? [[["KeyD"], "D", "diff.label", () => $("#diff").click()]] : []),
  ...(now.task && ui.blurred() ? [[["KeyR"], "R", "blur.next", revealNext]] : []),
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
  if (keys.unread()) return tell("need.look");
  const body = {
    lease: task.lease, key: now.key, ...sendable(kind, content()), guideline_id: now.guideline,
    ...timer.read(), changes: now.changes, ui_version: document.body.dataset.version,
  };
  await deliver({ rater: now.me.id, assignment: task.assignment, path: at(task.assignment, "/judgment"), made_ms: Date.now(), body }, submit);
}

async function retract() {
  const { task } = now;
  if (!(await askRetract()) || now.task !== task) return;
  const withdraw = (key) =>
    deliver({ rater: now.me.id, assignment: task.assignment, path: at(task.assignment, "/retract"), made_ms: Date.now(), body: { lease: task.lease, key } }, () => withdraw(key));
  await withdraw(newKey());
}

/** `again`: what is to be done once a lease that was lost has been taken back. */
async function deliver(entry, again) {
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
    if (entry.body.answer) learned(now.task.kind);
    await nextTask();
    if (entry.body.answer && !within(entry.body.answer, judgment.answer)) tell("error.differs");
  } catch (error) {
    hold(false);
    now.keeper = keeper(now.task, drafted);
    report("status.unsaved");
    if (error.code === "lease_lost") return lost(again);
    if (error.status !== 401) drop(entry);
    explain(error);
  }
}

// ------------------------------------------------------------------------------------------------------ other ways to go

async function skip() {
  const { task } = now;
  if (!task || now.busy || now.revising) return;
  const reason = await askSkip();
  if (reason && now.task === task) await giveUp(reason);
}

async function giveUp(reason) {
  const { task, comment, flags } = now;
  hold(true);
  try {
    await api("POST", at(task.assignment, "/skip"), { lease: task.lease, reason, comment, flags });
    now.keeper.discard();
    hold(false);
    await nextTask();
  } catch (error) {
    hold(false);
    if (error.code === "lease_lost") lost();
    else explain(error, [error.passing ? ["action.retry", () => giveUp(reason)] : ["action.other", nextTask]]);
  }
}

/** To the judgment before the one on the screen. */
async function back() {
  await settled();
  if (now.busy) return undefined;
  const found = await before(of("history"), now.revising ? now.task.assignment : null);
  return found.problem ? tell(found.problem) : open(found.assignment);
}

async function pickHistory() {
  if (now.busy) return;
  await count();
  const chosen = await showHistory({ ...history(), today: duration(history().today_ms) });
  if (chosen) await open(chosen);
}

async function open(assignment) {
  if (now.busy) return;
  now.busy = true;
  try {
    await now.keeper?.saveNow();
    const task = await api("POST", at(assignment, "/open"), {});
    leave();
    hush();
    await show(task, true);
  } catch (error) {
    now.busy = false;
    explain(error, error.passing ? [["action.retry", () => open(assignment)]] : []);
  }
}

// --------------------------------------------------------------------------------------------------------------- starting

async function start() {
  try {
    await ready.catch(() => patiently(() => speak(lang()), () => {}));
    now.me = await patiently(() => api("GET", "/api/me"), onhold);
    const refused = await sendUnsent(now.me.id);
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
document.addEventListener("visibilitychange", () => (document.hidden ? (now.keeper?.rest(spent()), now.keeper?.saveNow()) : beat()));
setInterval(beat, BEAT_MS);
new ResizeObserver(([{ target }]) => document.documentElement.style.setProperty("--bar", `${target.offsetHeight}px`)).observe($("#bar"));
connect({ draw, changed, next: nextTask });
start();
