/**
 * Small charts as SVG, built element by element. Horizontal places are percentages, so that a chart fills its box at any
 * width and its letters keep their size. Each has a title and a description; a table with the same figures stands beside.
 */
const SPACE = "http://www.w3.org/2000/svg";
let count = 0;

function s(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SPACE, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.flat(3).filter(Boolean));
  return node;
}

const at = (share) => `${Math.round(share * 10000) / 100}%`;
const words = (x, y, text, look, anchor = "start") => s("text", { x, y, class: look, "text-anchor": anchor }, text);

function frame(height, title, description, children) {
  const id = `chart-${(count += 1)}`;
  return s("svg", { class: "chart", role: "img", width: "100%", height, "aria-labelledby": `${id}-title ${id}-text` },
    s("title", { id: `${id}-title` }, title), s("desc", { id: `${id}-text` }, description), children);
}

/** Upright bars. entries: [{label, value, shown}], oldest first; every `value` is a count. */
export function bars(title, description, entries) {
  const [top, tall, foot] = [22, 120, 24];
  const most = Math.max(1, ...entries.map(({ value }) => value));
  const slot = 1 / Math.max(7, entries.length);
  const marks = entries.map(({ value, shown }, place) => {
    const height = (tall * value) / most;
    const x = slot * place;
    return [
      s("rect", { class: "bar-mark", x: at(x + slot * 0.12), width: at(slot * 0.76), y: top + tall - height, height, rx: 3 }, s("title", {}, shown)),
      entries.length <= 16 && value > 0 && words(at(x + slot / 2), top + tall - height - 6, String(value), "chart-value", "middle"),
    ];
  });
  const named = entries.length <= 8 ? entries.map((_, place) => place) : [0, entries.length - 1];
  const labels = named.map((place) => {
    const end = entries.length > 8 && place;
    return words(end ? at(slot * (place + 1)) : at(slot * (place + (entries.length > 8 ? 0.12 : 0.5))), top + tall + 17, entries[place].label, "chart-label", end ? "end" : entries.length > 8 ? "start" : "middle");
  });
  const base = s("line", { class: "chart-line", x1: 0, x2: "100%", y1: top + tall + 0.5, y2: top + tall + 0.5 });
  return frame(top + tall + foot, title, description, [marks, base, labels]);
}

/** One bar in parts: [{name, value, label}]; `name` chooses the colour. */
export function parts(title, description, entries) {
  const all = entries.reduce((sum, { value }) => sum + value, 0) || 1;
  let before = 0;
  const marks = entries.filter(({ value }) => value > 0).map(({ name, value, label }) => {
    const mark = s("rect", { class: `part part-${name}`, x: at(before / all), width: at(value / all), y: 0, height: 18 }, s("title", {}, `${label}: ${value}`));
    before += value;
    return mark;
  });
  return frame(18, title, description, marks);
}

/**
 * A dot and an interval on each line. entries: [{label, value, low, high, shown}] or [{label, reason}]; scale: {low, high,
 * ticks: [[value, text]], mark: value, band: [low, high]}: a line to compare with, and what is usual.
 */
export function intervals(title, description, entries, { low, high, ticks, mark, band }) {
  const [line, foot] = [46, 24];
  const x = (value) => at((Math.min(high, Math.max(low, value)) - low) / (high - low));
  const bottom = entries.length * line + 4;
  const behind = [
    band && s("rect", { class: "band", x: x(band[0]), width: at((band[1] - band[0]) / (high - low)), y: 0, height: bottom }),
    ticks.map(([value]) => s("line", { class: value === mark ? "chart-mark" : "chart-line", x1: x(value), x2: x(value), y1: 0, y2: bottom })),
  ];
  const rows = entries.map((one, place) => {
    const y = place * line + 32;
    if (one.reason) return [words(0, y - 14, one.label, "chart-name"), words(0, y + 4, one.reason, "chart-label")];
    return [
      words(0, y - 14, one.label, "chart-name"), words("100%", y - 14, one.shown, "chart-value", "end"),
      s("line", { class: "interval", x1: x(one.low), x2: x(one.high), y1: y, y2: y }),
      s("circle", { class: "dot", cx: x(one.value), cy: y, r: 5 }, s("title", {}, one.shown)),
    ];
  });
  const labels = ticks.map(([value, text]) => words(x(value), bottom + 17, text, "chart-label", value <= low ? "start" : value >= high ? "end" : "middle"));
  return frame(bottom + foot, title, description, [behind, rows, labels]);
}
