/** Two to nine responses in order: by dragging, arrow keys or numbers, with ties, and some left unranked. */
import { button, h } from "./dom.js";
import { draggable } from "./drag.js";
import { t } from "./i18n.js";
import { dense, move, places, step } from "./order.js";
import { cards, letter, named, reach } from "./responses.js";

const ONE_AT_A_TIME = 6; // from so many responses on, one is shown large

export const blank = (task) => ({ kind: "rank", ranks: task.responses.map(() => null) });
export const payload = (state) => ({ ...state, ranks: dense(state.ranks) });
export const summary = ({ ranks }) => places(ranks).map((group) => group.map(letter).join(" = ")).join(" > ") || t("choice.none");
export const missing = ({ ranks }) => (ranks.filter((rank) => rank !== null).length < 2 ? "need.ranks" : null);

export function mount(task, state, ui) {
  const count = task.responses.length;
  const single = count >= ONE_AT_A_TIME;
  let current = 0;
  const set = (ranks) => ui.change(() => (state.ranks = ranks));
  const give = (position, rank) => set(state.ranks.map((own, at) => (at === position ? rank : own)));
  const steps = (position, by) => set(step(state.ranks, position, by));
  const go = (position) => {
    current = (position + count) % count;
    update();
    if (!single) reach(view.list[current]);
  };
  const number = (rank) => {
    if (rank > count) return;
    give(current, rank || null);
    const open = state.ranks.indexOf(null);
    if (rank && open >= 0) go(open);
  };
  const fields = task.responses.map((_, position) =>
    h("select", { class: "rank-field", "aria-label": t("rank.of", { name: named(position) }), onchange: ({ target }) => give(position, Number(target.value) || null) },
      h("option", { value: "" }, "–"), task.responses.map((_, at) => h("option", { value: at + 1 }, `${at + 1}`))),
  );
  const arrow = (position, by, sign) => button("", () => steps(position, by), {
    look: "small", sign, "aria-label": t(by < 0 ? "rank.better" : "rank.worse", { name: named(position) }),
  });
  const head = (position) => [fields[position], arrow(position, -1, "up"), arrow(position, 1, "down")];
  const view = cards(task, ui, { head, show: (position) => !single || position === current });
  view.list.forEach((card, position) => card.addEventListener("focusin", () => current !== position && !single && ((current = position), update())));
  const thumbs = task.responses.map(({ text }, position) =>
    h("button", { type: "button", class: "thumb", onclick: () => go(position) },
      h("span", { class: "letter" }, letter(position)), h("bdi", { class: "start" }, ui.blurred() ? "" : text.slice(0, 90)), h("span", { class: "place" })),
  );
  const board = h("div", { class: "board", role: "group", "aria-label": t("rank.board") });
  function drop(position, target) {
    const { drop: kind, at } = target.dataset;
    if (kind === "tray") return give(position, null);
    // the place it left may vanish by the move; counted in places as they stood
    set(move(state.ranks, position, Number(at), kind === "gap"));
  }
  function chip(position) {
    const node = h("button", { type: "button", class: `chip ${position === current ? "current" : ""}`, "aria-label": named(position), "aria-pressed": position === current, onclick: () => go(position) }, letter(position));
    node.addEventListener("focus", () => position !== current && node.matches(":focus-visible") && go(position)); // by Tab: arrow keys move this one
    draggable(node, (target) => drop(position, target));
    return node;
  }
  function drawBoard() {
    const groups = places(state.ranks);
    const gap = (at) => h("span", { class: "gap", "data-drop": "gap", "data-at": at, "aria-hidden": true });
    const rows = groups.flatMap((group, at) => [gap(at),
      h("span", { class: "tier", "data-drop": "tier", "data-at": at },
        h("span", { class: "tier-name" }, t("rank.place", { n: state.ranks[group[0]] })), group.map(chip))]);
    const left = state.ranks.flatMap((rank, position) => (rank === null ? [position] : []));
    board.replaceChildren(...rows, gap(groups.length),
      h("span", { class: "tier tray", "data-drop": "tray" }, h("span", { class: "tier-name" }, t(left.length ? "rank.tray" : "rank.all")), left.map(chip)));
  }
  function update() {
    const focused = board.contains(document.activeElement);
    drawBoard();
    if (focused) board.querySelector(".chip.current").focus();
    fields.forEach((field, position) => (field.value = state.ranks[position] ?? ""));
    thumbs.forEach((node, position) => {
      node.setAttribute("aria-pressed", String(position === current));
      node.lastChild.textContent = state.ranks[position] ? t("rank.place", { n: state.ranks[position] }) : "";
    });
    view.update({ current });
  }
  const keys = [
    [["ArrowLeft"], "←", "key.previous", () => go(current - 1)], [["ArrowRight"], "→", "key.next", () => go(current + 1)],
    [["ArrowUp"], "↑", "key.better", () => steps(current, -1)], [["ArrowDown"], "↓", "key.worse", () => steps(current, 1)],
    ...task.responses.map((_, at) => [[`Digit${at + 1}`], `${at + 1}`, at ? null : "key.number", () => number(at + 1)]),
    [["Digit0"], "0", "key.unrank", () => number(0)],
  ];
  const main = h("div", { class: single ? "one-large" : "" }, single && h("div", { class: "thumbs", role: "group", "aria-label": t("rank.thumbs") }, thumbs), view.element);
  const bar = h("div", { class: "answers" }, board, button(t("action.submit"), ui.submit, { cap: "↵", look: "primary" }));
  return { main, bar, keys, update, ...(single ? { go, at: () => current } : {}) };
}
