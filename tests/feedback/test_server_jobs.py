"""Answers that ``baro generate`` draws for a manager: what is started, what is imported, what is refused."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from feedback.serving import Site, error_of, serving
from sqlalchemy import select

from baro.errors import ConfigError
from baro.feedback import schema
from baro.feedback.database import FILE, Store
from baro.feedback.server.detached import is_locked
from baro.feedback.server.jobs import Job
from baro.feedback.server.policies import known_policies

FAKE = """
import json, pathlib, sys, time
given = dict(one.removeprefix("--").split("=", 1) for one in sys.argv[2:] if not one.startswith("--set"))
print(json.dumps(sys.argv[1:]), file=sys.stderr, flush=True)
out = pathlib.Path(given["out"])
rows = [json.loads(line) for line in pathlib.Path(given["prompts"]).read_text().splitlines()]
total = int(given["n"]) * len(rows)
print(f"\\r\\x1b[2Kgenerate ----- {total // 2}/{total} 0:00:01", file=sys.stderr, end="", flush=True)
while (pathlib.Path(given["policy"]) / "wait").exists():
    time.sleep(0.01)
if given["policy"].endswith("broken"):
    sys.exit("\\nerror: no such model")
out.mkdir(exist_ok=True)
with (out / "records.jsonl").open("w") as file:
    for row in rows:
        texts = [f"drawn {i} of {given['seed']}" for i in range(int(given["n"]))]
        texts[0] += "\\0" * (given["seed"] == "66")
        finished = [True] * len(texts)
        print(json.dumps(row | {"responses": texts, "finished": finished}), file=file)
told = {"format": 1, "verb": "generate", "environment": {}, "status": "finished"}
(out / "run.json").write_text(json.dumps(told))
"""


@pytest.fixture
def policies(tmp_path: Path) -> dict[str, str]:
    found = {}
    for name in ("good", "broken"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.json").write_text("{}")
        found |= known_policies([str(tmp_path / "runs" / name)])
    return found


@pytest.fixture
def site(sqlite_template: Path, tmp_path: Path, policies: dict[str, str]) -> Iterator[Site]:
    (tmp_path / FILE).write_bytes(sqlite_template.read_bytes())
    (tmp_path / "fake.py").write_text(FAKE)
    with serving(Store.open(tmp_path), tmp_path / "files", policies=policies, prompts=2) as made:
        made.app.state.jobs.command = (sys.executable, str(tmp_path / "fake.py"))
        yield made


def generate(site: Site, *draws: dict[str, Any], **more: Any) -> Any:
    body = {"policies": list(draws), **more}
    return site.ask("manager", "POST", "/api/manage/projects/colours/generate", body)


def ended(site: Site, job: str) -> Any:
    for _ in range(6000):
        told = site.ask("manager", "GET", f"/api/manage/jobs/{job}").json()
        if told["state"] in ("done", "failed", "interrupted"):
            return told
        time.sleep(0.01)
    raise AssertionError(told)


def test_answers_are_drawn_and_imported(site: Site):
    assert site.ask("manager", "GET", "/api/manage/policies").json() == {"policies": ["broken", "good"]}
    draw = {"policy": "good", "n": 3, "seed": 7, "sampling": {"temperature": 0.5}}
    started = generate(site, draw)
    assert started.status_code == 202
    told = ended(site, started.json()["job"])
    assert (told["state"], told["done"], told["total"], told["added"]) == ("done", 6, 6, 6)
    arguments = json.loads(told["log_tail"][0])
    assert arguments[0] == "generate"
    assert {"--n=3", "--seed=7", "--set=sampling.temperature=0.5", "--set=sampling.top_p=1.0"} <= set(arguments)
    with site.store.read() as connection:
        query = select(schema.response.c.text, schema.generation.c.settings).join(schema.generation)
        rows = connection.execute(query.where(schema.generation.c.model == "good")).all()
    assert sorted(row.text for row in rows) == sorted([f"drawn {i} of 7" for i in range(3)] * 2)
    assert rows[0].settings["temperature"] == 0.5
    again = ended(site, generate(site, draw).json()["job"])
    assert (again["state"], again["added"]) == ("done", 0)


def test_a_job_that_fails_says_why(site: Site):
    told = ended(site, generate(site, {"policy": "broken"}).json()["job"])
    assert told["state"] == "failed"
    assert "error: no such model" in told["problem"]


def test_an_answer_that_cannot_be_stored_is_left_out(site: Site):
    told = ended(site, generate(site, {"policy": "good", "n": 3, "seed": 66}).json()["job"])
    assert (told["state"], told["added"]) == ("done", 4)
    assert ["records.jsonl:1: an answer was left out" in told["log_tail"][-2], "NUL" in told["log_tail"][-1]] == [
        True
    ] * 2


def test_one_at_a_time_with_progress(site: Site, tmp_path: Path):
    gate = tmp_path / "runs" / "good" / "wait"
    gate.touch()
    first = generate(site, {"policy": "good", "n": 2}).json()["job"]
    second = generate(site, {"policy": "good", "n": 2, "seed": 1}).json()["job"]
    for _ in range(1000):
        told = site.ask("manager", "GET", f"/api/manage/jobs/{first}").json()
        if told["done"]:
            break
        time.sleep(0.01)
    assert (told["state"], told["done"], told["total"]) == ("running", 2, 4)
    assert site.ask("manager", "GET", f"/api/manage/jobs/{second}").json()["state"] == "queued"
    gate.unlink()
    assert [ended(site, job)["state"] for job in (first, second)] == ["done", "done"]


def post(site: Site, path: str) -> Any:
    return site.ask("manager", "POST", f"/api/manage/jobs/{path}", {})


def test_a_job_is_cancelled(site: Site, tmp_path: Path):
    """At work, and while it waits; what an earlier policy of the same job has drawn stays."""
    gate = tmp_path / "runs" / "slow" / "wait"
    gate.parent.mkdir()
    gate.touch()
    site.app.state.jobs.policies["slow"] = str(gate.parent)
    first = generate(site, {"policy": "good", "n": 2}, {"policy": "slow", "n": 2}).json()["job"]
    second, third = (generate(site, {"policy": "good", "n": 1, "seed": seed}).json()["job"] for seed in (1, 2))
    assert post(site, f"{second}/cancel").json()["state"] == "cancelled"
    jobs = site.app.state.jobs
    at_work = jobs.folder / first / "process-1.lock"
    for _ in range(6000):
        if is_locked(at_work):
            break
        time.sleep(0.01)
    told = post(site, f"{first}/cancel").json()
    assert (told["state"], told["added"], told["problem"], is_locked(at_work)) == ("cancelled", 4, None, False)
    assert ended(site, third)["state"] == "done"
    for job in (first, second):
        assert site.ask("manager", "GET", f"/api/manage/jobs/{job}").json()["state"] == "cancelled"
        assert Job.load(jobs.folder / job).state == "cancelled"  # for the next server
        assert error_of(post(site, f"{job}/again")) == (409, "conflict")
    assert error_of(post(site, f"{third}/cancel")) == (409, "conflict")
    assert error_of(post(site, "nope/cancel")) == (404, "not_found")
    assert error_of(site.ask("rater", "POST", f"/api/manage/jobs/{third}/cancel", {})) == (403, "forbidden")
    with site.store.read() as connection:
        drawn = select(schema.response.c.text).where(schema.response.c.text.startswith("drawn"))
        assert set(connection.execute(drawn).scalars()) == {"drawn 0 of 0", "drawn 1 of 0", "drawn 0 of 2"}
        actions = connection.execute(select(schema.event.c.action, schema.event.c.actor)).all()
    assert [actor for action, actor in actions if action == "cancel"] == [site.ids["manager"]] * 2


def test_a_server_that_stops_ends_its_process(sqlite_template: Path, tmp_path: Path, policies: dict[str, str]):
    (tmp_path / FILE).write_bytes(sqlite_template.read_bytes())
    (tmp_path / "fake.py").write_text(FAKE)
    (tmp_path / "runs" / "good" / "wait").touch()
    before = set(threading.enumerate())
    with serving(Store.open(tmp_path), tmp_path, policies=policies, prompts=2) as site:
        site.app.state.jobs.command = (sys.executable, str(tmp_path / "fake.py"))
        job = generate(site, {"policy": "good"}).json()["job"]
        for _ in range(1000):
            if site.ask("manager", "GET", f"/api/manage/jobs/{job}").json()["done"]:
                break
            time.sleep(0.01)
    cut = site.app.state.jobs.get(job).to_json()
    assert (cut["state"], cut["problem"], cut["added"]) == ("interrupted", "the server was stopped", 0)
    assert "generate" in cut["log_tail"][0]
    assert not [one for one in set(threading.enumerate()) - before if one.name.startswith("baro-generate")]


@pytest.mark.parametrize(
    "draw",
    [
        {"policy": "/etc"},
        {"policy": "../runs/good"},
        {"policy": "good/../broken"},
        {"policy": "owner/name"},
        {"policy": "--out=/tmp/x"},
        {"policy": ""},
        {"policy": "good", "n": 0},
        {"policy": "good", "n": 65},
        {"policy": "good", "n": "1 --out=/tmp"},
        {"policy": "good", "seed": -1},
        {"policy": "good", "out": "/tmp/x"},
        {"policy": "good", "sampling": {"temperature": -1}},
        {"policy": "good", "sampling": {"temperature": "0.5 --set data.template=none"}},
        {"policy": "good", "sampling": {"x=y --out": 1}},
        {"policy": "good", "sampling": {"max_new_tokens": 2.5}},
    ],
)
def test_what_comes_over_http_is_no_path_and_no_argument(site: Site, draw: dict[str, Any]):
    assert error_of(generate(site, draw)) == (422, "invalid")
    assert not (site.app.state.files / "jobs").exists()


def test_refused_before_anything_is_started(site: Site):
    assert error_of(generate(site, {"policy": "good"}, prompts=["nope"])) == (422, "invalid")
    assert error_of(generate(site)) == (422, "invalid")
    empty = site.ask("manager", "POST", "/api/manage/projects/elsewhere/generate", {"policies": [{"policy": "good"}]})
    assert error_of(empty) == (422, "invalid")
    assert error_of(site.ask("manager", "GET", "/api/manage/jobs/nope")) == (404, "not_found")


def test_policies_that_an_operator_gives(tmp_path: Path):
    for name in ("one", "two"):
        (tmp_path / "runs" / name / "model").mkdir(parents=True)
        (tmp_path / "runs" / name / "run.json").write_text("{}")
    (tmp_path / "runs" / "three").mkdir()
    found = known_policies([str(tmp_path / "runs"), "owner/name@main"])
    assert found == {
        "one": str(tmp_path / "runs" / "one"),
        "two": str(tmp_path / "runs" / "two"),
        "owner/name@main": "owner/name@main",
    }
    (tmp_path / "runs" / "file").write_text("")
    empty, file = str(tmp_path / "runs" / "three"), str(tmp_path / "runs" / "file")
    for wrong in ("nowhere", "../x/y", "-x/y", "x/rows.jsonl", "폴더/모델", empty, file):
        with pytest.raises(ConfigError):
            known_policies([wrong])
    with pytest.raises(ConfigError, match="another policy"):
        known_policies([str(tmp_path / "runs"), str(tmp_path / "runs" / "one")])


def test_baro_generate_itself(sqlite_template: Path, tmp_path: Path):
    """The real command with a tiny untrained model: its arguments are taken, and its answers come back."""
    from baro.data.new_tokenizer import train_tokenizer
    from baro.data.template import Template
    from baro.models.load import Architecture, new_policy, save_policy

    folder = tmp_path / "tiny"
    template = Template(train_tokenizer(["User: question 1\nAssistant: answer"] * 9, 280), "plain")
    shape = Architecture(hidden_size=16, layers=1, heads=2, max_positions=96, intermediate_size=24)
    save_policy(new_policy(shape, vocabulary=template.vocabulary, special=template.special, seed=0), folder)
    template.save(folder)
    (tmp_path / FILE).write_bytes(sqlite_template.read_bytes())
    with serving(Store.open(tmp_path), tmp_path, policies=known_policies([str(folder)]), prompts=2) as site:
        draw = {"policy": "tiny", "n": 2, "sampling": {"max_new_tokens": 6, "temperature": 1.5, "min_p": 0.01}}
        told = ended(site, generate(site, draw).json()["job"])
        assert (told["state"], told["done"], told["total"]) == ("done", 4, 4), told
        assert 2 <= told["added"] <= 4  # two may be the same
        assert told["log_tail"]
