/** Requests to the server. What fails for the moment (no network, 5xx, 429) can be waited out; the rest is an answer. */
const TIMEOUT_MS = 15000;
const LONGEST_WAIT_MS = 20000;

export class ApiError extends Error {
  constructor(code, status, body = {}, wait_ms = 0) {
    super(code);
    Object.assign(this, { code, status, body, wait_ms });
  }
  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

export async function api(method, path, body) {
  const headers = method === "GET" ? {} : { "Content-Type": "application/json" }; // the server takes nothing else
  let response, text;
  try {
    response = await fetch(path, {
      method, headers, body: JSON.stringify(body), cache: "no-store", keepalive: method === "PATCH", signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    text = await response.text();
  } catch {
    throw new ApiError(navigator.onLine ? "unreachable" : "offline", 0);
  }
  const reply = parsed(text);
  if (response.ok) return reply;
  throw new ApiError(reply?.error ?? "unknown", response.status, reply ?? {}, 1000 * (Number(response.headers.get("Retry-After")) || 0));
}

function parsed(text) {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}

/** Calls until it gets an answer, waiting longer each time; hurry() and a network that comes back end a wait. */
export async function patiently(call, onwait) {
  for (let turn = 0; ; turn += 1) {
    try {
      return await call();
    } catch (error) {
      if (!error.passing) throw error;
      onwait(error);
      await pause(Math.max(error.wait_ms, Math.min(LONGEST_WAIT_MS, 1000 * 2 ** turn)));
    }
  }
}

export const hurry = () => window.dispatchEvent(new Event("baro:hurry"));

function pause(ms) {
  return new Promise((resolve) => {
    const done = new AbortController();
    const end = () => (done.abort(), clearTimeout(timer), resolve());
    const timer = setTimeout(end, ms);
    ["online", "baro:hurry"].forEach((name) => window.addEventListener(name, end, { signal: done.signal }));
  });
}
