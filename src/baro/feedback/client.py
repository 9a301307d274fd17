"""The feedback server from Python: what a rater's page does, and what a manager does.

Every call waits out what passes (no connection, 429, 5xx) and asks again. A judgment keeps its key from attempt to
attempt, so that none is lost and none counts twice; what could happen twice is only sent again where the server cannot
have seen it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from baro.errors import ConfigError
from baro.feedback.calls import SAFE, Calls, Json, at_assignment, in_project, name_of

COOKIE = "baro_session"


class Client(Calls):
    """Calls to one server in one session. ``token``: the session's secret.

    Refused says what the server refused and why; BackendError that it could not be reached or failed to the end.
    """

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
        return self._call("POST", f"/api/projects/{name_of(project)}/next", {})

    def open(self, assignment: str) -> Json:
        """An own task under a new lease, to revise it."""
        return self._call("POST", at_assignment(assignment, "open"), {})

    def submit(self, task: Mapping[str, Any], answer: Mapping[str, Any], **more: Any) -> Json:
        """The judgment as it is stored. ``more``: confidence, comment, flags, active_ms, visible_ms, changes, ..."""
        return self._call("POST", at_assignment(task["assignment"], "judgment"), _submission(task, answer, more))

    def retract(self, task: Mapping[str, Any]) -> Json:
        """Take back what was submitted; ``task`` as ``open`` gave it."""
        return self._call(
            "POST", at_assignment(task["assignment"], "retract"), {"lease": task["lease"], "key": new_key()}
        )

    def skip(self, task: Mapping[str, Any], reason: str, **more: Any) -> None:
        """Leave a task to others. ``more``: comment, flags."""
        self._end(task, "skip", {"lease": task["lease"], "reason": reason, **more})

    def release(self, task: Mapping[str, Any]) -> None:
        """Give a task back."""
        self._end(task, "release", {"lease": task["lease"]})

    def history(self, project: str, limit: int = 20) -> Json:
        """One's own last judgments."""
        return self._call("GET", f"/api/projects/{name_of(project)}/history?limit={limit}")

    def set_language(self, lang: str) -> Json:
        """The language of one's page."""
        return self._call("PATCH", "/api/me", {"lang": lang})

    def sign_out(self) -> None:
        """End this session."""
        self._send("DELETE", "/api/session", None, SAFE)

    def guideline(self, project: str) -> Json | None:
        """What raters go by; None if there is none."""
        return self._call("GET", f"/api/projects/{name_of(project)}/guideline")

    # ----------------------------------------------------------------------------------------------------- managers

    def projects(self) -> list[Json]:
        """All projects with their counts."""
        return list(self._manage("GET", "projects")["projects"])

    def create_project(self, name: str, settings: Mapping[str, Any] | None = None) -> Json:
        """A new project."""
        return self._manage("POST", "projects", {"name": name, "settings": dict(settings or {})})

    def project(self, project: str) -> Json:
        """A project with its settings."""
        return self._manage("GET", in_project(project))

    def listed(self, project: str, what: str, **options: Any) -> Json:
        """``what``: prompts, tasks, guidelines, criteria, raters, exports, events or jobs.

        ``options``: offset and limit, where there may be many; of tasks state, too: open, full, closed or gold.
        """
        return self._manage("GET", in_project(project, what + (f"?{urlencode(options)}" if options else "")))

    def change_settings(self, project: str, settings: Mapping[str, Any]) -> Json:
        """New settings from now on."""
        return self._manage("PATCH", in_project(project), {"settings": dict(settings)})

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
        return self._manage("POST", in_project(project, "prompts"), body, SAFE)

    def add_responses(
        self, project: str, rows: Sequence[Mapping[str, Any]], model: str, settings: Mapping[str, Any] | None = None
    ) -> Json:
        """Answers of one model; ``settings``: how it was sampled, kept beside it."""
        body = {"model": model, "rows": [dict(row) for row in rows], "settings": dict(settings or {})}
        return self._manage("POST", in_project(project, "responses"), body, SAFE)

    def make_tasks(self, project: str, kind: str, **options: Any) -> Json:
        """Tasks of the answers that are there; the same call again makes none twice."""
        return self._manage("POST", in_project(project, "tasks"), {"kind": kind, **options}, SAFE)

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
        return str(self._manage("POST", in_project(project, "generate"), body)["job"])

    def job(self, job: str) -> Json:
        """How far a job is."""
        return self._manage("GET", f"jobs/{name_of(job)}")

    def cancel(self, job: str) -> Json:
        """End a job; what it has drawn to the end stays."""
        return self._manage("POST", f"jobs/{name_of(job)}/cancel", {}, SAFE)

    def start_again(self, job: str) -> Json:
        """Go on with a job that was cut short."""
        return self._manage("POST", f"jobs/{name_of(job)}/again", {})

    def task(self, task: str) -> Json:
        """Everything about a task."""
        return self._manage("GET", f"tasks/{name_of(task)}")

    def set_state(self, project: str, state: str) -> Json:
        """``state``: paused, open or ended; from the end, too, a project can be opened again."""
        return self._manage("POST", in_project(project, "state"), {"state": state}, SAFE)

    def preview_change(self, project: str, which: Mapping[str, Any], action: str, value: int | None = None) -> Json:
        """How many tasks ``change_tasks`` would change."""
        body = {"which": dict(which), "action": action, "value": value}
        return self._manage("POST", in_project(project, "tasks/change/preview"), body, SAFE)

    def change_tasks(self, project: str, which: Mapping[str, Any], action: str, value: int | None = None) -> Json:
        """Close, reopen, withdraw or restore tasks, or give them another priority or overlap (``value``).

        ``which``: kind, source, state, priority, tasks (ids), or {"all": True}. The events in the answer are for
        ``undo``.
        """
        body = {"which": dict(which), "action": action, "value": value}
        return self._manage("POST", in_project(project, "tasks/change"), body)

    def undo(self, project: str, events: Sequence[int]) -> Json:
        """Take back what these events changed, where nobody has changed it since."""
        return self._manage("POST", in_project(project, "tasks/undo"), {"events": list(events)})

    def withdraw(self, project: str, prompts: Sequence[str], why: str = "") -> Json:
        """These prompts and all their tasks count no more; what was judged stays."""
        body = {"prompts": list(prompts), "why": why}
        return self._manage("POST", in_project(project, "prompts/withdraw"), body, SAFE)

    def restore(self, project: str, prompts: Sequence[str], why: str = "") -> Json:
        """They count again."""
        body = {"prompts": list(prompts), "why": why}
        return self._manage("POST", in_project(project, "prompts/restore"), body, SAFE)

    def redact(self, project: str, entity: str, why: str, message: int | None = None) -> Json:
        """Overwrite a text for ever: of a prompt, a response, a judgment or a skipped task, by its id."""
        body = {"id": entity, "why": why, "message": message}
        return self._manage("POST", in_project(project, "redact"), body)

    def sources(self, project: str) -> list[str]:
        """Where prompts came from."""
        return list(self._manage("GET", in_project(project, "sources"))["sources"])

    def set_gold(self, project: str, task: str, answer: Mapping[str, Any], note: str = "") -> Json:
        """Tell the answer to a task; where it was handed out already, to a copy, whose id this is."""
        return self._manage("POST", in_project(project, "gold"), {"task": task, "answer": dict(answer), "note": note})

    def correct_gold(self, project: str, task: str, answer: Mapping[str, Any], note: str = "") -> Json:
        """Another known answer in place of the one that stands; raters are measured by it from now on."""
        return self._manage(
            "PUT", in_project(project, "gold"), {"task": task, "answer": dict(answer), "note": note}, SAFE
        )

    def withdraw_gold(self, project: str, task: str, note: str = "") -> Json:
        """No known answer any more; gives the task that is judged in its place, where there is one."""
        return self._manage("POST", in_project(project, "gold/withdraw"), {"task": task, "note": note})

    def publish_guideline(self, project: str, lang: str, body: str) -> Json:
        """The next version of the guideline."""
        return self._manage("POST", in_project(project, "guidelines"), {"lang": lang, "body": body}, SAFE)

    def difference(self, guideline: str, other: str) -> Json:
        """In what two versions differ, as HTML; None where they are too long to compare."""
        return self._manage("GET", f"guidelines/{name_of(guideline)}/diff/{name_of(other)}")

    def preview_again(self, project: str, which: str = "all", **options: Any) -> Json:
        """What asking again would take; ``which``: all or divided, ``options``: kinds, overlap."""
        return self._manage("GET", in_project(project, f"again?{urlencode({'which': which, **options}, doseq=True)}"))

    def ask_again(self, project: str, which: str = "all", **options: Any) -> Json:
        """Ask again what was judged under an older guideline; the same call again asks nothing twice."""
        return self._manage("POST", in_project(project, "again"), {"which": which, **options}, SAFE)

    def set_criteria(self, project: str, criteria: Sequence[Mapping[str, Any]]) -> Json:
        """The criteria, in their order."""
        return self._manage("PUT", in_project(project, "criteria"), [dict(one) for one in criteria], SAFE)

    def shipped_criteria(self) -> list[Json]:
        """The criteria that come with Baro."""
        return list(self._manage("GET", "criteria")["criteria"])

    def invite(
        self,
        project: str,
        *,
        role: str | None = None,
        lang: str = "ko",
        pseudonym: str | None = None,
        rater: str | None = None,
        count: int = 1,
    ) -> Json:
        """A link for one person, or under "people" for each of ``count`` people.

        ``rater``: the id of who has lost theirs, or is to work in this project, too. ``role``: rater, adjudicator or
        manager of this project; without it somebody new is a rater, and who is known stays what they are.
        """
        body = {"role": role, "lang": lang, "pseudonym": pseudonym, "rater": rater, "count": count}
        return self._manage("POST", in_project(project, "invites"), body)

    def revoke(self, rater: str) -> None:
        """End somebody's access."""
        self._manage("POST", f"raters/{name_of(rater)}/revoke", {}, SAFE)

    def erase(self, rater: str) -> None:
        """Forget who somebody is, and end their access; what they judged stays."""
        self._manage("POST", f"raters/{name_of(rater)}/erase", {}, SAFE)

    def figures(self, project: str, which: str, **options: Any) -> Json:
        """``which``: progress, agreement, bias, raters or adjudication.

        Agreement takes guidelines="newest" and policy="random".
        """
        return self._slow("GET", in_project(project, which + (f"?{urlencode(options)}" if options else "")))

    def habit(self, project: str, habit: str, limit: int = 50) -> Json:
        """The judgments behind a figure of bias: left, longer, repeats or quick."""
        return self._slow("GET", in_project(project, f"bias/{name_of(habit)}?limit={limit}"))

    def adjudicate(self, task: str) -> Json:
        """A disputed task, to settle it."""
        return self._manage("POST", f"tasks/{name_of(task)}/adjudicate", {}, SAFE)

    def settle(
        self, task: Mapping[str, Any], answer: Mapping[str, Any], reason: str, note: str = "", **more: Any
    ) -> Json:  # fmt: skip
        """The answer that settles a disagreement; ``task`` as ``adjudicate`` gave it.

        ``reason``: ambiguous, guideline_gap, rater_error or subjective. ``more`` as for ``submit``.
        """
        body = {"submission": _submission(task, answer, more), "reason": reason, "note": note}
        return self._call("POST", at_assignment(task["assignment"], "adjudication"), body)

    def preview(self, project: str, layout: str, settings: Mapping[str, Any] | None = None) -> Json:
        """The first rows of an export."""
        body = {"layout": layout, "settings": dict(settings or {})}
        return self._slow("POST", in_project(project, "exports/preview"), body)

    def export(self, project: str, layout: str, settings: Mapping[str, Any] | None = None) -> Json:
        """Write an export on the server."""
        return self._slow("POST", in_project(project, "exports"), {"layout": layout, "settings": dict(settings or {})})

    def download(self, export: str) -> bytes:
        """An export as a zip."""
        return bytes(self._send("GET", f"/api/manage/exports/{name_of(export)}/download", None, SAFE).content)


def new_key() -> str:
    """A name for one judgment, the same for every attempt to send it."""
    return secrets.token_hex(16)


def _submission(task: Mapping[str, Any], answer: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    guideline = (task.get("guideline") or {}).get("id")
    return {"lease": task["lease"], "key": new_key(), "answer": dict(answer), "guideline_id": guideline, **more}
