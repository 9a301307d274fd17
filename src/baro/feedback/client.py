"""The feedback server from Python: what a rater's page does, and what a manager does.

Every call waits out what passes (no connection, 429, 5xx) and asks again. A judgment keeps its key from attempt to
attempt, so that none is lost and none counts twice; what could happen twice is only sent again where the server cannot
have seen it.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx2

from baro.errors import BackendError, ConfigError
from baro.feedback.refusals import STATUS, Refused

COOKIE = "baro_session"
ATTEMPTS = 8
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.25, 20.0
Json = Any
SLOW_SECONDS = 600.0  # for figures over everything that was judged; asked once, lest they be computed twice at once
SAFE, CAREFUL = True, False  # to send again: after any failure, or only where the server did not take it up


class Client:
    """Calls to one server in one session. ``token``: the session's secret.

    Refused says what the server refused and why; BackendError that it could not be reached or failed to the end.
    """

    def __init__(
        self,
        address: str,
        token: str,
        *,
        attempts: int = ATTEMPTS,
        timeout_seconds: float = 30,
        transport: httpx2.BaseTransport | None = None,
        pause: Callable[[float], object] = time.sleep,
    ):
        if urlsplit(address).scheme not in ("http", "https"):
            raise ConfigError(f"{address}: is no address of a server; give http://HOST:PORT")
        self.address, self.token, self.attempts, self._pause = address.rstrip("/"), token, attempts, pause
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx2.Client(
            base_url=self.address, headers=headers, timeout=timeout_seconds, transport=transport, trust_env=False
        )  # fmt: skip

    @classmethod
    def join(cls, link: str, **options: Any) -> Client:
        """A session by an invitation's link, which works once."""
        address, _, secret = link.partition("/join#")
        if not secret:
            raise ConfigError("an invitation's link ends with /join# and its secret")
        with cls(address, "", **options) as visitor:
            # with a verifier, whose reply is lost may ask again
            body = {"token": secret, "verifier": secrets.token_urlsafe(32)}
            response = visitor._send("POST", "/api/session", body, SAFE)
            token = response.cookies.get(COOKIE)
        return cls(address, token or "", **options)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the connection go; the session stays."""
        self._http.close()

    # ------------------------------------------------------------------------------------------------------- raters

    def me(self) -> Json:
        """Who this is."""
        return self._call("GET", "/api/me")

    def next(self, project: str) -> Json | None:
        """The next task, the one that is held already included; None when nothing is left."""
        return self._call("POST", f"/api/projects/{_name(project)}/next", {})

    def open(self, assignment: str) -> Json:
        """An own task under a new lease, to revise it."""
        return self._call("POST", _at(assignment, "open"), {})

    def submit(self, task: Mapping[str, Any], answer: Mapping[str, Any], **more: Any) -> Json:
        """The judgment as it is stored. ``more``: confidence, comment, flags, active_ms, visible_ms, changes, ..."""
        return self._call("POST", _at(task["assignment"], "judgment"), _submission(task, answer, more))

    def retract(self, task: Mapping[str, Any]) -> Json:
        """Take back what was submitted; ``task`` as ``open`` gave it."""
        return self._call("POST", _at(task["assignment"], "retract"), {"lease": task["lease"], "key": new_key()})

    def skip(self, task: Mapping[str, Any], reason: str, **more: Any) -> None:
        """Leave a task to others. ``more``: comment, flags."""
        self._end(task, "skip", {"lease": task["lease"], "reason": reason, **more})

    def release(self, task: Mapping[str, Any]) -> None:
        """Give a task back."""
        self._end(task, "release", {"lease": task["lease"]})

    def history(self, project: str, limit: int = 20) -> Json:
        """One's own last judgments."""
        return self._call("GET", f"/api/projects/{_name(project)}/history?limit={limit}")

    def set_language(self, lang: str) -> Json:
        """The language of one's page."""
        return self._call("PATCH", "/api/me", {"lang": lang})

    def sign_out(self) -> None:
        """End this session."""
        self._send("DELETE", "/api/session", None, SAFE)

    def guideline(self, project: str) -> Json | None:
        """What raters go by; None if there is none."""
        return self._call("GET", f"/api/projects/{_name(project)}/guideline")

    # ----------------------------------------------------------------------------------------------------- managers

    def projects(self) -> list[Json]:
        """All projects with their counts."""
        return list(self._manage("GET", "projects")["projects"])

    def create_project(self, name: str, settings: Mapping[str, Any] | None = None) -> Json:
        """A new project."""
        return self._manage("POST", "projects", {"name": name, "settings": dict(settings or {})})

    def project(self, project: str) -> Json:
        """A project with its settings."""
        return self._manage("GET", _in(project))

    def listed(self, project: str, what: str, **options: Any) -> Json:
        """``what``: prompts, tasks, guidelines, criteria, raters, exports, events or jobs.

        ``options``: offset and limit, where there may be many; of tasks state, too: open, full, closed or gold.
        """
        return self._manage("GET", _in(project, what + (f"?{urlencode(options)}" if options else "")))

    def change_settings(self, project: str, settings: Mapping[str, Any]) -> Json:
        """New settings from now on."""
        return self._manage("PATCH", _in(project), {"settings": dict(settings)})

    def add_prompts(
        self,
        project: str,
        rows: Sequence[Mapping[str, Any]],
        name: str = "upload",
        chat: Mapping[str, Any] | None = None,
    ) -> Json:
        """Prompts of any layout; what is there already is not added again.

        ``chat``: the rows are people's conversations, and every turn of theirs is a prompt where they agreed; personal
        (drop, mask or keep) and all_agreed as in `baro data prompts`.
        """
        body = {"name": name, "rows": [dict(row) for row in rows], "chat": None if chat is None else dict(chat)}
        return self._manage("POST", _in(project, "prompts"), body, SAFE)

    def add_responses(
        self, project: str, rows: Sequence[Mapping[str, Any]], model: str, settings: Mapping[str, Any] | None = None
    ) -> Json:
        """Answers of one model; ``settings``: how it was sampled, kept beside it."""
        body = {"model": model, "rows": [dict(row) for row in rows], "settings": dict(settings or {})}
        return self._manage("POST", _in(project, "responses"), body, SAFE)

    def make_tasks(self, project: str, kind: str, **options: Any) -> Json:
        """Tasks of the answers that are there; the same call again makes none twice."""
        return self._manage("POST", _in(project, "tasks"), {"kind": kind, **options}, SAFE)

    def policies(self) -> list[str]:
        """What the server can draw answers from."""
        return list(self._manage("GET", "policies")["policies"])

    def generate(
        self, project: str, draws: Sequence[Mapping[str, Any]], prompts: Sequence[str] | None = None
    ) -> str:  # fmt: skip
        """Draw answers to prompts, all unless given, on the server; returns the job's id.

        ``draws``: each with policy (a name from ``policies``), n, seed and sampling, a block as `baro generate` has it.
        """
        body = {"policies": [dict(one) for one in draws]} | ({} if prompts is None else {"prompts": list(prompts)})
        return str(self._manage("POST", _in(project, "generate"), body)["job"])

    def job(self, job: str) -> Json:
        """How far a job is."""
        return self._manage("GET", f"jobs/{_name(job)}")

    def cancel(self, job: str) -> Json:
        """End a job; what it has drawn to the end stays."""
        return self._manage("POST", f"jobs/{_name(job)}/cancel", {}, SAFE)

    def start_again(self, job: str) -> Json:
        """Go on with a job that was cut short."""
        return self._manage("POST", f"jobs/{_name(job)}/again", {})

    def task(self, task: str) -> Json:
        """Everything about a task."""
        return self._manage("GET", f"tasks/{_name(task)}")

    def set_gold(self, project: str, task: str, answer: Mapping[str, Any], note: str = "") -> Json:
        """Tell the answer to a task; where it was handed out already, to a copy, whose id this is."""
        return self._manage("POST", _in(project, "gold"), {"task": task, "answer": dict(answer), "note": note})

    def correct_gold(self, project: str, task: str, answer: Mapping[str, Any], note: str = "") -> Json:
        """Another known answer in place of the one that stands; raters are measured by it from now on."""
        return self._manage("PUT", _in(project, "gold"), {"task": task, "answer": dict(answer), "note": note}, SAFE)

    def withdraw_gold(self, project: str, task: str, note: str = "") -> Json:
        """No known answer any more; gives the task that is judged in its place, where there is one."""
        return self._manage("POST", _in(project, "gold/withdraw"), {"task": task, "note": note})

    def publish_guideline(self, project: str, lang: str, body: str) -> Json:
        """The next version of the guideline."""
        return self._manage("POST", _in(project, "guidelines"), {"lang": lang, "body": body}, SAFE)

    def difference(self, guideline: str, other: str) -> Json:
        """In what two versions differ, as HTML; None where they are too long to compare."""
        return self._manage("GET", f"guidelines/{_name(guideline)}/diff/{_name(other)}")

    def preview_again(self, project: str, which: str = "all", **options: Any) -> Json:
        """What asking again would take; ``which``: all or divided, ``options``: kinds, overlap."""
        return self._manage("GET", _in(project, f"again?{urlencode({'which': which, **options}, doseq=True)}"))

    def ask_again(self, project: str, which: str = "all", **options: Any) -> Json:
        """Ask again what was judged under an older guideline; the same call again asks nothing twice."""
        return self._manage("POST", _in(project, "again"), {"which": which, **options}, SAFE)

    def set_criteria(self, project: str, criteria: Sequence[Mapping[str, Any]]) -> Json:
        """The criteria, in their order."""
        return self._manage("PUT", _in(project, "criteria"), [dict(one) for one in criteria], SAFE)

    def shipped_criteria(self) -> list[Json]:
        """The criteria that come with Baro."""
        return list(self._manage("GET", "criteria")["criteria"])

    def invite(
        self,
        project: str,
        *,
        role: str = "rater",
        lang: str = "ko",
        pseudonym: str | None = None,
        rater: str | None = None,
    ) -> Json:
        """A link for one person; ``rater``: the id of somebody who has lost theirs."""
        body = {"role": role, "lang": lang, "pseudonym": pseudonym, "rater": rater}
        return self._manage("POST", _in(project, "invites"), body)

    def revoke(self, rater: str) -> None:
        """End somebody's access."""
        self._manage("POST", f"raters/{_name(rater)}/revoke", {}, SAFE)

    def erase(self, rater: str) -> None:
        """Forget who somebody is, and end their access; what they judged stays."""
        self._manage("POST", f"raters/{_name(rater)}/erase", {}, SAFE)

    def figures(self, project: str, which: str, **options: Any) -> Json:
        """``which``: progress, agreement, bias, raters or adjudication. Agreement takes guidelines="newest"."""
        return self._slow("GET", _in(project, which + (f"?{urlencode(options)}" if options else "")))

    def habit(self, project: str, habit: str, limit: int = 50) -> Json:
        """The judgments behind a figure of bias: left, longer, repeats or quick."""
        return self._slow("GET", _in(project, f"bias/{_name(habit)}?limit={limit}"))

    def adjudicate(self, task: str) -> Json:
        """A disputed task, to settle it."""
        return self._manage("POST", f"tasks/{_name(task)}/adjudicate", {}, SAFE)

    def settle(
        self, task: Mapping[str, Any], answer: Mapping[str, Any], reason: str, note: str = "", **more: Any
    ) -> Json:  # fmt: skip
        """The answer that settles a disagreement; ``task`` as ``adjudicate`` gave it.

        ``reason``: ambiguous, guideline_gap, rater_error or subjective. ``more`` as for ``submit``.
        """
        body = {"submission": _submission(task, answer, more), "reason": reason, "note": note}
        return self._call("POST", _at(task["assignment"], "adjudication"), body)

    def preview(self, project: str, layout: str, settings: Mapping[str, Any] | None = None) -> Json:
        """The first rows of an export."""
        body = {"layout": layout, "settings": dict(settings or {})}
        return self._slow("POST", _in(project, "exports/preview"), body)

    def export(self, project: str, layout: str, settings: Mapping[str, Any] | None = None) -> Json:
        """Write an export on the server."""
        return self._slow("POST", _in(project, "exports"), {"layout": layout, "settings": dict(settings or {})})

    def download(self, export: str) -> bytes:
        """An export as a zip."""
        return bytes(self._send("GET", f"/api/manage/exports/{_name(export)}/download", None, SAFE).content)

    # ------------------------------------------------------------------------------------------------------ sending

    def _manage(self, method: str, path: str, body: Json = None, again: bool = CAREFUL) -> Json:
        return self._call(method, f"/api/manage/{path}", body, again if method != "GET" else SAFE)

    def _slow(self, method: str, path: str, body: Json = None) -> Json:
        """What takes its time on a large project."""
        return self._send(method, f"/api/manage/{path}", body, CAREFUL, timeout=SLOW_SECONDS).json()

    def _end(self, task: Mapping[str, Any], how: str, body: Json) -> None:
        """What was ended by an attempt whose answer got lost is ended."""
        tries: list[int] = []
        try:
            self._send("POST", _at(task["assignment"], how), body, SAFE, tries)
        except Refused as refused:
            if refused.code != "conflict" or len(tries) == 1:
                raise

    def _call(self, method: str, path: str, body: Json = None, again: bool = SAFE) -> Json | None:
        response = self._send(method, path, body, again)
        return None if response.status_code == 204 else response.json()

    def _send(
        self,
        method: str,
        path: str,
        body: Json,
        again: bool,
        tries: list[int] | None = None,
        timeout: float | None = None,
    ) -> httpx2.Response:
        """Send until there is an answer; ``tries`` gets an entry for each attempt."""
        problem, tries = "", [] if tries is None else tries
        content = None if body is None else json.dumps(body).encode()  # the server says what is wrong with odd text
        kind = {} if body is None else {"Content-Type": "application/json"}
        patience = self._http.timeout if timeout is None else timeout
        for attempt in range(self.attempts):
            tries.append(attempt)
            wait = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**attempt)
            try:
                response = self._http.request(method, path, content=content, headers=kind, timeout=patience)
            except httpx2.TransportError as error:
                problem = f"{type(error).__name__}: {error}"
                if not (again or isinstance(error, httpx2.ConnectError)):
                    break
            else:
                if response.status_code < 400:
                    return response
                if response.status_code < 500 and response.status_code != 429:
                    raise _refused(response)
                problem = f"{response.status_code}: {_message(response)}"
                if not (again or response.status_code in (429, 503)):
                    break
                wait = max(wait, _retry_after(response))
            if attempt < self.attempts - 1:
                self._pause(wait)
        raise BackendError(f"{self.address}: {method} {path.partition('?')[0]} did not succeed ({problem}); try later")


def new_key() -> str:
    """A name for one judgment, the same for every attempt to send it."""
    return secrets.token_hex(16)


def _submission(task: Mapping[str, Any], answer: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    guideline = (task.get("guideline") or {}).get("id")
    return {"lease": task["lease"], "key": new_key(), "answer": dict(answer), "guideline_id": guideline, **more}


def _name(name: str) -> str:
    return quote(name, safe="")


def _at(assignment: str, what: str) -> str:
    return f"/api/assignments/{_name(assignment)}/{what}"


def _in(project: str, what: str = "") -> str:
    return f"projects/{_name(project)}" + (f"/{what}" if what else "")


def _message(response: httpx2.Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase


def _refused(response: httpx2.Response) -> Exception:
    """The server's refusal as it was raised there."""
    try:
        told = dict(response.json())
    except (ValueError, TypeError):
        told = {}
    code, message = told.pop("error", ""), str(told.pop("message", response.reason_phrase))
    if code in STATUS:
        return Refused(code, message, **told)
    return BackendError(f"the server refused with {response.status_code}: {message}")


def _retry_after(response: httpx2.Response) -> float:
    try:
        return max(0.0, min(60.0, float(response.headers.get("Retry-After", 0))))
    except ValueError:
        return 0.0
