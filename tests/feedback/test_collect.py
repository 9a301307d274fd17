"""The stage that collects judgments: simulated people behind the real interface, the same for a seed, safe to kill."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from baro.data.formats import read_records
from baro.demo import world
from baro.errors import ConfigError
from baro.feedback.collect import Config, run
from baro.records import Preference, Ranking, Thumb

PEOPLE = "baro.demo.world:people"


def answers_file(path, prompts=5, answers=4):
    """Requests of the demo's world with answers good and bad."""
    rng, rows = np.random.default_rng(3), []
    for row in world.prompts(3, prompts, "feedback"):
        texts: list[str] = []
        while len(texts) < answers:
            text = world.sample_answer(row["prompt"], world.DEMONSTRATORS, rng)
            texts += [text] if text not in texts else []
        rows.append({"prompt": row["prompt"], "responses": texts, "finished": [True] * answers})
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return str(path)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("kind", "record"), [("pair", Preference), ("rank", Ranking), ("thumb", Thumb)])
def test_simulated_people_judge_over_http(tmp_path, kind, record):
    config = Config(answers=answers_file(tmp_path / "answers.jsonl"), kind=kind, overlap=2, by=PEOPLE)
    done = run(config, tmp_path / "out")
    assert done.finished
    loaded = read_records(done.records, record)
    assert loaded.kind is record
    figures = {one["name"]: one["value"] for one in json.loads((done.path / "figures.json").read_text())}
    assert figures["judgments"] == 10
    assert len(loaded.records) == figures["rows"]
    assert figures["rows"] > 0
    again = run(config, tmp_path / "again")  # nothing but the seed decides
    assert again.records.read_bytes() == done.records.read_bytes()


def test_rankings_leave_their_pairs_as_well(tmp_path):
    done = run(
        Config(answers=answers_file(tmp_path / "answers.jsonl"), kind="rank", overlap=1, by=PEOPLE), tmp_path / "out"
    )
    pairs = read_records(done.path / "pairs.jsonl", Preference).records
    assert len(pairs) == 5 * 6


def test_killed_it_goes_on_as_if_it_had_not_been(tmp_path):
    config = {"answers": answers_file(tmp_path / "answers.jsonl", prompts=20), "overlap": 2, "by": PEOPLE}
    undisturbed = run(Config(**config), tmp_path / "undisturbed")
    code = (
        "import sys, json; from baro.feedback.collect import Config, run; run(Config(**json.loads(sys.argv[1])), 'out')"
    )
    command = [sys.executable, "-c", code, json.dumps(config)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    store = tmp_path / "out" / "store" / "feedback.db"
    while judged(store) < 7 and process.poll() is None:
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 7 <= judged(store) < 40
    done = run(Config(**config), tmp_path / "out")
    assert done.records.read_bytes() == undisturbed.records.read_bytes()


def judged(path) -> int:
    import sqlite3

    if not path.exists():
        return 0
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return connection.execute("SELECT count(*) FROM judgment").fetchone()[0]
    except sqlite3.OperationalError:  # not made yet
        return 0
    finally:
        connection.close()


def test_an_object_that_is_no_crowd(tmp_path):
    config = Config(answers=answers_file(tmp_path / "answers.jsonl"), by="baro.demo.world:gold")
    with pytest.raises(ConfigError, match="has no answer"):
        run(config, tmp_path / "out")
