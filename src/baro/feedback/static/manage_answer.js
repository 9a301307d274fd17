/** A task to answer on a manager's page, by the same parts as on the rater's: for known answers and for disagreements. */
import * as criteria from "./criteria.js";
import { askFlags } from "./dialogs.js";
import { h } from "./dom.js";
import * as edit from "./edit.js";
import { t } from "./i18n.js";
import * as keys from "./keys.js";
import * as pair from "./pair.js";
import * as rank from "./rank.js";
import { conversation } from "./responses.js";
import * as safety from "./safety.js";
import * as thumb from "./thumb.js";

const KINDS = { pair, rank, thumb, safety, criteria, edit };

/** An answer in words, as its rater saw the screen. */
export const said = (answer, task) => KINDS[task.kind].summary(answer, task);

/** An answer to go on with, a blank one where there is none; criteria that it says nothing of are open. */
export function resumed(answer, task) {
  const blank = KINDS[task.kind].blank(task);
  const state = { ...blank, ...structuredClone(answer) };
  return blank.scores ? { ...state, scores: { ...blank.scores, ...state.scores } } : state;
}

/**
 * {root, start, stop}. submit(answer): called with an answer that is whole. comment(): what was said beside it, and ask():
 * where to say it, if that is what an answer lacks; lacks(): what else does, as a sentence's key; beside: what stands
 * between the responses and the buttons; flags: a list of what is wrong with responses, none for an answer without.
 */
export function answering(task, { state, submit, comment = () => "", ask = () => {}, lacks = () => null, change = () => {}, beside = null, flags = null }) {
  const kind = KINDS[task.kind];
  const revealed = new Set();
  const notice = h("div", { class: "notice", role: "alert", hidden: true });
  const tell = (key) => {
    notice.replaceChildren(h("p", {}, t(key)));
    notice.hidden = false;
  };
  let diff = false;
  const send = () => {
    const need = task.responses.some((_, position) => !ui.revealed(position)) ? "need.reveal" : (kind.missing(state, task, comment()) ?? lacks());
    if (need === "need.reason") ask();
    if (need) tell(need);
    else if (keys.unread()) tell("need.look");
    else submit(kind.payload(state));
  };
  const ui = {
    change(edit_) {
      edit_();
      notice.hidden = true;
      view.update();
      change(state);
    },
    submit: send,
    tell,
    askReason: () => (ask(), tell("need.reason")),
    async flag() {
      const chosen = await askFlags(task.responses.length, flags);
      if (chosen) ui.change(() => flags.splice(0, flags.length, ...chosen));
    },
    flags: (position) => (flags ?? []).filter((one) => one.position === position),
    revealed: (position) => !task.project.blur || revealed.has(position),
    blurred: () => task.project.blur,
    reveal(position) {
      revealed.add(position);
      view.update();
    },
    diff: () => diff,
  };
  const view = kind.mount(task, state, ui);
  const flip = task.diff && h("div", { class: "tools" }, h("label", { class: "switch" }, h("input", { type: "checkbox", onchange: ({ target }) => ((diff = target.checked), view.update()) }), t("diff.label")));
  const prompt = task.prompt.length > 0 && conversation(task.prompt, "Q");
  const root = h("div", { class: `answering ${flags ? "" : "unflagged"}` }, prompt, flip, view.main, beside, h("div", { class: "answer-bar" }, notice, view.bar));
  return {
    root,
    start() {
      keys.bind([...view.keys, [["Enter"], "↵", "action.submit", send], ...(prompt ? [[["KeyQ"], "Q", "prompt.key", prompt.flip]] : [])], { submit: send, leave: (field) => field.blur() });
      keys.settle();
      view.update();
    },
    stop: keys.unbind,
  };
}
