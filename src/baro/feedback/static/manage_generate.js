/** Answers drawn from models: what to draw, and how far it is. */
import { button, h } from "./dom.js";
import { t } from "./i18n.js";
import { api, call, refusal, within } from "./manage_api.js";
import { amount, field, form, hint, nothing, number, outcome, panel, run, select, when } from "./manage_ui.js";

const POLL_MS = 1500;
const SHOWN = 3; // of the last jobs
const WORKING = ["queued", "running"];
const CUT_SHORT = ["failed", "interrupted"];

export async function generation(project, after) {
  const { policies } = await call("GET", `${api}/policies`);
  const { jobs: known } = await call("GET", within(project, "jobs"));
  const jobs = outcome();
  for (const one of known.slice(0, SHOWN).reverse()) follow(one.job, jobs, after, one);
  if (!policies.length) return panel(t("manage.generate.title"), nothing(t("manage.generate.none"), t("manage.generate.none.hint")), jobs);
  const rows = h("div", { class: "draws" });
  let count = 0; // of all that were ever there: no two get the same seed
  const add = () => rows.append(draw(policies, count++));
  add();
  const work = async () => {
    const { job } = await call("POST", within(project, "generate"), { policies: [...rows.children].map((row) => row.read()) });
    follow(job, jobs, after);
    return t("manage.generate.started");
  };
  return panel(t("manage.generate.title"), hint(t("manage.generate.hint")), form(t("manage.generate.start"), work, rows, { beside: [button(t("manage.generate.add"), add)] }), jobs);
}

function draw(policies, place) {
  const [policy, n] = [select(policies.map((name) => [name, name])), number(4, { min: 1, max: 64, step: 1, required: true })];
  const [temperature, tokens, seed] = [number(1, { min: 0, required: true }), number(256, { min: 1, step: 1, required: true }), number(place, { min: 0, step: 1, required: true })];
  const remove = button(t("edit.remove"), () => root.remove(), { look: "quiet small", "aria-label": t("manage.generate.remove", { n: place + 1 }) });
  const root = h("fieldset", { class: "plain draw" }, h("legend", {}, t("manage.generate.model", { n: place + 1 })),
    field(t("manage.generate.policy"), policy), field(t("manage.generate.n"), n), field(t("manage.generate.temperature"), temperature), field(t("manage.generate.tokens"), tokens), field(t("manage.generate.seed"), seed), place > 0 && remove);
  return Object.assign(root, {
    read: () => ({ policy: policy.value, n: n.valueAsNumber, seed: seed.valueAsNumber, sampling: { temperature: temperature.valueAsNumber, max_new_tokens: tokens.valueAsNumber } }),
  });
}

/** A job in a box of its own, above the older ones; asks again and again how far it is, until it is over. */
function follow(job, jobs, after, known = null) {
  const [told, tools, log, where] = [h("div", {}), h("div", { class: "row-tools" }), lines(), outcome()];
  const box = h("div", { class: "job" }, told, log.root, tools, where);
  const act = (key, verb) => {
    const node = button(t(key), () => run(node, where, async () => show(await call("POST", `${api}/jobs/${job}/${verb}`, {}))), { look: "small" });
    return node;
  };
  const ways = { again: act("manage.job.again", "again"), cancel: act("manage.job.cancel", "cancel") };
  let before = known?.state ?? "queued";
  let timer = 0;
  const show = (found) => {
    const working = WORKING.includes(found.state);
    const way = working ? ways.cancel : CUT_SHORT.includes(found.state) ? ways.again : null;
    told.replaceChildren(...summary(found));
    log.show(found);
    if (tools.firstChild !== way) tools.replaceChildren(...(way ? [way] : [])); // the same button stays, with its focus
    clearTimeout(timer);
    if (working) timer = setTimeout(look, POLL_MS);
    else if (WORKING.includes(before) && found.added > 0) after();
    before = found.state;
  };
  const look = async () => {
    if (!box.isConnected) return; // another tab of the page
    try {
      show(await call("GET", `${api}/jobs/${job}`));
    } catch (error) {
      if (error.passing) timer = setTimeout(look, POLL_MS * 4);
      else box.replaceChildren(refusal(error));
    }
  };
  jobs.prepend(box);
  if (known) show(known);
  else look();
}

function summary({ state, done, total, added, problem, created_ms: begun }) {
  return [
    h("p", {}, h("b", {}, t(`manage.job.${state}`)), ` ${when(begun)} · ${t("manage.job.count", { done: amount(done), total: amount(total) })}`, added > 0 && ` · ${t("manage.job.added", { n: amount(added) })}`),
    h("progress", { max: total || 1, value: state === "queued" ? null : done, "aria-label": t("manage.generate.title") }),
    problem && h("div", { class: "refusal" }, h("p", {}, t("manage.job.problem")), h("p", { lang: "en" }, problem)),
  ].filter(Boolean);
}

/** The last lines that a job has said, which open by themselves where it was cut short. */
function lines() {
  const text = h("pre", { class: "log", tabindex: "0", "aria-label": t("manage.job.log") });
  const root = h("details", { class: "fold", hidden: true }, h("summary", {}, t("manage.job.log")), text);
  let last = null;
  const show = ({ state, log_tail: said }) => {
    root.hidden = said.length === 0;
    text.textContent = said.join("\n");
    if (state !== last && CUT_SHORT.includes(state)) root.open = true;
    last = state;
  };
  return { root, show };
}
