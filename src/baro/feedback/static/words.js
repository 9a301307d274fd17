/** In what two texts differ, word by word, and places in a text as the server counts them. */
const LONGEST = 600; // words on either side that are compared one by one; a longer change is shown as a whole

/** [[kind, text], ...] with kinds "same", "gone" and "new". */
export function difference(before, after) {
  const [a, b] = [before, after].map((text) => text.match(/\s+|\S+/gu) ?? []);
  let start = 0;
  let end = 0;
  while (start < Math.min(a.length, b.length) && a[start] === b[start]) start += 1;
  while (end < Math.min(a.length, b.length) - start && a.at(-1 - end) === b.at(-1 - end)) end += 1;
  const middle = compare(a.slice(start, a.length - end), b.slice(start, b.length - end));
  const parts = [...a.slice(0, start).map((word) => ["same", word]), ...middle, ...a.slice(a.length - end).map((word) => ["same", word])];
  return parts.reduce((joined, [kind, word]) => {
    if (joined.at(-1)?.[0] === kind) joined.at(-1)[1] += word;
    else joined.push([kind, word]);
    return joined;
  }, []);
}

/** By the longest common subsequence. */
function compare(a, b) {
  const whole = (kind, list) => list.map((word) => [kind, word]);
  if (a.length > LONGEST || b.length > LONGEST) return [...whole("gone", a), ...whole("new", b)];
  const common = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i -= 1)
    for (let j = b.length - 1; j >= 0; j -= 1) common[i][j] = a[i] === b[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
  const parts = [];
  let [i, j] = [0, 0];
  while (i < a.length && j < b.length) {
    if (a[i] === b[j]) parts.push(["same", a[i]]), (i += 1), (j += 1);
    else if (common[i + 1][j] >= common[i][j + 1]) parts.push(["gone", a[i++]]);
    else parts.push(["new", b[j++]]);
  }
  return [...parts, ...whole("gone", a.slice(i)), ...whole("new", b.slice(j))];
}

/** As a text field holds it: one character for each end of line. */
export const flat = (text) => text.replace(/\r\n?/g, "\n");

/** A place in flat(text), in JavaScript's units, as code points of `text`: what the server counts. */
export function toServer(text, index) {
  let [units, points] = [0, 0];
  for (const point of text.replace(/\r(?!\n)/g, "\n").replaceAll("\r\n", "\n\r")) {
    if (units >= index && point !== "\r") break;
    if (point !== "\r") units += point.length;
    points += 1;
  }
  return points;
}
