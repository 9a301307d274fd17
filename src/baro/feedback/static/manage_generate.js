/** Answers drawn from models: what to draw, and how far it is. */
import { button, h } from "./dom.js";
import { t } from "./i18n.js";
import { api, call, refusal, within } from "./manage_api.js";
import { amount, field, form, hint, nothing, number, outcome, panel, select } from "./manage_ui.js";
import { forget, keep, kept } from "./store.js";

const POLL_MS = 1500;
const OVER = ["done", "failed"];

export async function generation(project, after) {
  const { policies } = await call("GET", `${api}/policies`);
  if (!policies.length) return panel(t("manage.generate.title"), nothing(t("manage.generate.none"), t("manage.generate.none.hint")));
  const rows = h("div", { class: "draws" });
  const progress = outcome();
  const add = () => rows.append(draw(policies, rows.children.length));
  add();
  const work = async () => {
    const { job } = await call("POST", within(project, "generate"), { policies: [...rows.children].map((row) => row.read()) });
    keep(key(project), job);
    follow(project, job, progress, after);
    return t("manage.generate.started");
  };
  const job = kept(key(project));
  if (job) follow(project, job, progress, after);
  return panel(t("manage.generate.title"), hint(t("manage.generate.hint")), form(t("manage.generate.start"), work, rows, { beside: [button(t("manage.generate.add"), add)] }), progress);
}

const key = (project) => `baro.job.${project}`;

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

/** Asks again and again how far a job is, until it is over. */
async function follow(project, job, where, after) {
  try {
    const found = await call("GET", `${api}/jobs/${job}`);
    where.replaceChildren(...shown(found));
    if (!OVER.includes(found.state)) return setTimeout(() => follow(project, job, where, after), POLL_MS);
    forget(key(project));
    if (found.state === "done") after();
  } catch (error) {
    if (error.passing) return setTimeout(() => follow(project, job, where, after), POLL_MS * 4);
    forget(key(project));
    where.replaceChildren(error.code === "not_found" ? hint(t("manage.generate.lost")) : refusal(error));
  }
  return undefined;
}

function shown({ state, done, total, added, problem, log_tail: lines }) {
  const label = t(`manage.job.${state}`);
  return [
    h("div", { class: "job" }, h("p", {}, h("b", {}, label), ` ${t("manage.job.count", { done: amount(done), total: amount(total) })}`, added > 0 && ` · ${t("manage.job.added", { n: amount(added) })}`),
      h("progress", { max: total || 1, value: state === "queued" ? null : done, "aria-label": t("manage.generate.title") })),
    problem && h("div", { class: "refusal" }, h("p", {}, t("manage.job.problem")), h("p", { lang: "en" }, problem)),
    lines.length > 0 && h("details", { class: "fold", open: state === "failed" }, h("summary", {}, t("manage.job.log")), h("pre", { class: "log", tabindex: "0", "aria-label": t("manage.job.log") }, lines.join("\n"))),
  ].filter(Boolean);
}
