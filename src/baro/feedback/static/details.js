/** Comment and confidence: both optional, except that who cannot judge says why. */
import { $, choices, h } from "./dom.js";
import { t } from "./i18n.js";
import { tell } from "./say.js";

/** change(edit): how the page edits `said`, an object with `comment` and `confidence`. */
export function drawDetails(said, change) {
  const field = h("textarea", { class: "field", id: "comment", rows: 2, dir: "auto", oninput: () => change(() => (said.comment = field.value)) });
  const steps = [1, 2, 3, 4, 5].map((n) => [n, t(`confidence.${n}`)]);
  const scale = choices(t("confidence.label"), steps, (n) => change(() => {
    said.confidence = said.confidence === n ? null : n;
    scale.show(said.confidence);
  }), "small");
  field.value = said.comment;
  scale.show(said.confidence);
  $("#details").replaceChildren(
    h("div", {}, h("label", { for: "comment" }, t("comment.label")), field),
    h("div", {}, h("p", { class: "field-name", "aria-hidden": true }, t("confidence.label")), scale.root),
  );
}

export function openDetails(open = $("#details").hidden) {
  $("#details").hidden = !open;
  $("#comment-button")?.setAttribute("aria-expanded", String(open));
  if (open) $("#comment").focus();
}

export function askReason() {
  openDetails(true);
  tell("need.reason");
}
