/**
 * Formulas, typeset by KaTeX: <code class="formula"> with the source in it becomes the formula. It builds elements, never
 * HTML text, so the page's policy stays strict. What KaTeX does not know, and what would hide or move words, stays
 * as its source with a mark: a half-understood formula would mislead who judges it.
 */
import { h } from "./dom.js";
import { t } from "./i18n.js";
import "./vendor/katex/katex.min.js"; // sets window.katex

const MAX_EXPANSIONS = 300; // of macros; KaTeX's own are few
const MAX_SIZE_EM = 10; // of a length that the formula states
const MAX_NODES = 4000;
const MAX_DEPTH = 60;
const MAX_UNSEEN = 4; // symbols inside \phantom, as in \phantom{-}1; more could be words
const MAX_OVERLAP = 8; // symbols inside \llap and the like
const DELIMITERS = [["$$", "$$"], ["\\[", "\\]"], ["\\(", "\\)"], ["$", "$"]];
const STYLE = "data-katex-style";
const TAIL = /^[.,;]?$/; // a display may have its sentence's stop after it
const EM = { em: 1, ex: 0.43, mu: 1 / 18, pt: 0.1, mm: 0.28, cm: 2.8, in: 7.2, bp: 0.1, pc: 1.2, dd: 0.1, cc: 1.3, nd: 0.1, nc: 1.3, sp: 1e-6, px: 0.1 };
const LIGHTNESS = { ink: [0.5, 0.8], ground: [0.94, 0.34] }; // in light and dark
const GREY = /^(black|white|currentcolor)$/i;
const GLYPHS = { mathbb: /[A-Zk]/, mathcal: /[A-Z0-9]/, mathscr: /[A-Z]/ }; // what these fonts have
const UNNUMBERED = /\\(begin|end)\{(align|alignat|equation|gather)\}/g; // numbers would run through the whole page
const DEFINES = /\\(?:[egx]?def|let|futurelet|global|long|(?:re|provide)?newcommand|providecommand)(?![a-zA-Z])|\\[a-zA-Z]*@/;
const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u; // zero widths, directions, half characters; line breaks are blanks before

/** Typesets what is below an element, and gives it back. */
export function typeset(root) {
  for (const source of root.querySelectorAll("code.formula")) {
    const refused = source.classList.contains("refused") || source.querySelector(".unseen");
    const shown = refused ? null : formula(source.textContent, source.classList.contains("display"));
    if (!shown) refuse(source);
    else {
      source.replaceWith(shown);
      glue(shown);
    }
  }
  return root;
}

function refuse(source) {
  source.classList.add("refused");
  source.title = t("formula.refused");
}

function formula(source, display) {
  const options = { displayMode: display, throwOnError: true, strict: "ignore", maxExpand: MAX_EXPANSIONS, maxSize: MAX_SIZE_EM, trust };
  const shown = h("span", { class: display ? "formula display" : "formula" });
  try {
    const tex = written(source);
    check(window.katex.__parse(tex, options));
    shown.append(built(window.katex.__renderToDomTree(tex, options)));
  } catch {
    return null; // KaTeX's ParseError, a Refused, and a RangeError where braces nest without end
  }
  readable(shown);
  return shown;
}

class Refused extends Error {}

/** \href, \includegraphics, \htmlClass: KaTeX would leave them out and go on. */
function trust({ command }) {
  throw new Refused(command);
}

/** The formula without its delimiters, in KaTeX's dialect. */
function written(source) {
  const [open, close] = DELIMITERS.find(([start]) => source.startsWith(start)) ?? ["", ""];
  const end = close ? source.lastIndexOf(close) : source.length;
  const tail = source.slice(end + close.length);
  const tex = source.slice(open.length, end).replace(/\s+/g, " ") + tail;
  if (!TAIL.test(tail) || DEFINES.test(tex) || UNSEEN.test(tex)) throw new Refused(source);
  return tex
    .replace(/\\[^]|%/g, (found) => (found === "%" ? "\\%" : found)) // "50% of" is meant, not a comment that hides the rest
    .replace(/\\mbox(?![a-zA-Z])/g, "\\text")
    .replace(UNNUMBERED, "\\$1{$2*}");
}

/** Refuses a parsed formula that hides words, moves them over others, or is too much for a page. */
function check(tree) {
  let nodes = 0;
  let back = 0; // ems that the formula goes back in all
  const walk = (node, depth) => {
    if (node === null || typeof node !== "object") return;
    if (!Array.isArray(node)) {
      if ((nodes += 1) > MAX_NODES || depth > MAX_DEPTH || hides(node)) throw new Refused(node.type);
      if (length(node) < 0 && ((back += length(node)) < -6 || length(node) < -1)) throw new Refused("length");
    }
    for (const [name, child] of Object.entries(node)) if (name !== "loc") walk(child, depth + 1);
  };
  walk(tree, 0);
}

const length = ({ number, unit }) => (typeof number === "number" && unit in EM ? number * EM[unit] : 0);

function hides(node) {
  switch (node.type) {
    case "phantom":
    case "vphantom":
      return texts(node.body).length > MAX_UNSEEN;
    case "lap":
      return texts(node.body).length > MAX_OVERLAP;
    case "smash":
      return within(node, "array");
    case "raisebox":
      return Math.abs(length(node.dy)) > 2;
    case "font": // KaTeX sets \mathbb{1}, the indicator, as a plain 1
      return node.font in GLYPHS && texts(node.body).some((text) => /^[a-zA-Z0-9]$/.test(text) && !GLYPHS[node.font].test(text));
    default:
      return typeof node.text === "string" && UNSEEN.test(node.text);
  }
}

const children = (node) => (node && typeof node === "object" ? Object.entries(node).filter(([name]) => name !== "loc").map(([, child]) => child) : []);
const texts = (node) => (typeof node?.text === "string" ? [node.text] : children(node).flatMap(texts));
const within = (node, type) => children(node).some((child) => child?.type === type || within(child, type));

/** KaTeX's tree as elements. Its style attributes, which the page's policy forbids, become properties, which it allows. */
function built(tree) {
  const renamed = (node) => {
    if (node.attributes?.style) node.attributes[STYLE] = node.attributes.style;
    if (node.attributes) delete node.attributes.style;
    node.children?.forEach(renamed);
  };
  renamed(tree);
  const root = tree.toNode();
  for (const node of root.querySelectorAll(`[${STYLE}]`)) {
    node.style.cssText = node.getAttribute(STYLE);
    node.removeAttribute(STYLE);
  }
  return root;
}

/** No line ends between a short formula and the comma or the particle behind it. */
function glue(shown) {
  const after = shown.nextSibling;
  if (after?.nodeType !== Node.TEXT_NODE || shown.querySelectorAll(".katex-base").length > 1) return;
  const rest = /^\S{1,8}(?=\s|$)/.exec(after.data)?.[0];
  if (!rest) return;
  after.data = after.data.slice(rest.length);
  const both = h("span", { class: "glued" });
  shown.replaceWith(both);
  both.append(shown, rest);
}

/** Colours keep their hue and get the lightness that can be read, in light and dark; none hides. */
function readable(shown) {
  for (const { style } of shown.querySelectorAll("[style]")) {
    for (const [property, kind] of [["color", "ink"], ["backgroundColor", "ground"], ["borderColor", "ink"]]) {
      const colour = style[property];
      if (!colour) continue;
      const [light, dark] = LIGHTNESS[kind].map((lightness) => `oklch(from ${colour} ${lightness} c h / 1)`);
      style[property] = kind === "ink" && GREY.test(colour) ? "var(--ink)" : `light-dark(${light}, ${dark})`;
    }
  }
}
