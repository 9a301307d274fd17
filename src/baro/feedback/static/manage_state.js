/** Whether a project hands out tasks: open, paused, or ended. */
import { button, h } from "./dom.js";
import { t } from "./i18n.js";
import { call, within } from "./manage_api.js";
import { confirmed, hint, outcome, panel, run, tag } from "./manage_ui.js";

const WAYS = { open: [["pause", "paused"], ["end", "ended"]], paused: [["resume", "open"], ["end", "ended"]], ended: [["resume", "open"]] };

/** The panel; `redraw()` draws the page anew. */
export function statePanel(view, state, redraw) {
  const where = outcome();
  const go = ([way, next]) => {
    const node = button(t(`manage.run.${way}`), async () => {
      if (way !== "resume" && !(await confirmed(t(`manage.run.${way}.title`), t(`manage.run.${way}.text`), t(`manage.run.${way}`)))) return;
      run(node, where, async () => {
        await call("POST", within(view.project, "state"), { state: next });
        return void (await redraw());
      });
    }, { look: way === "resume" ? "primary" : "" });
    return node;
  };
  return panel(t("manage.run.title"), h("p", {}, tag(t(`manage.run.${state}`), state === "open" ? "good" : "warn")), hint(t(`manage.run.${state}.hint`)), h("div", { class: "row-tools" }, WAYS[state].map(go)), where);
}
