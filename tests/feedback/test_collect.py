"""The stage that collects judgments: simulated people behind the real interface, the same for a seed, safe to kill."""

import json
import signal
import statistics
import threading
import time

import numpy as np
import pytest
from sqlalchemy import select

from baro.data.formats import read_records
from baro.demo import world
from baro.errors import ConfigError, RunError
from baro.feedback import changes, collect, schema
from baro.feedback.changes import Change, Chosen
from baro.feedback.client import Client
from baro.feedback.collect import Config, run
from baro.feedback.database import Store
from baro.feedback.project import get_project
from baro.feedback.refusals import Refused
from baro.files import hash_path
from baro.pipeline import load_pipeline
from baro.records import Preference, Ranking, Safety, Thumb
from baro.scorers import load_reward

PEOPLE, LENGTH = "baro.demo.world:people", "baro.demo.world:length_reward"


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


def figures_of(done):
    return {one["name"]: one["value"] for one in json.loads((done.path / "figures.json").read_text())}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("kind", "record"),
    [("pair", Preference), ("rank", Ranking), pytest.param("thumb", Thumb, marks=pytest.mark.slow), ("safety", Safety)],
)
def test_simulated_people_judge_over_http(tmp_path, kind, record):
    config = Config(answers=answers_file(tmp_path / "answers.jsonl"), kind=kind, overlap=2, by=PEOPLE)
    done = run(config, tmp_path / "out")
    assert done.finished
    loaded = read_records(done.records, record)
    assert loaded.kind is record
    figures = figures_of(done)
    assert figures["judgments"] == 10
    assert len(loaded.records) == figures["rows"]
    assert figures["rows"] > 0
    again = run(config, tmp_path / "again")  # nothing but the seed decides
    assert again.records.read_bytes() == done.records.read_bytes()


def test_safety_leaves_what_is_safer_and_the_more_helpful_answers_as_pairs(tmp_path):
    done = run(Config(answers=answers_file(tmp_path / "answers.jsonl"), kind="safety", by=PEOPLE), tmp_path / "out")
    found = read_records(done.records, Safety).all_of(Safety)
    assert found
    assert len(found) == 5
    assert all(0 < p < 1 for one in found for p in one.unsafe)  # two raters, and the prior of half a vote each way
    assert {one.ranks for one in found} <= {(), (1, 2), (2, 1)}
    assert all(one.p_safer > 0.5 for one in found if one.ranks)
    assert read_records(done.path / "pairs.jsonl", Preference).kind is Preference


def test_criteria_are_scored(tmp_path):
    config = {"answers": answers_file(tmp_path / "answers.jsonl"), "kind": "criteria", "overlap": 1, "by": PEOPLE}
    done = run(Config(**config, criteria=["clarity", "correctness"]), tmp_path / "out")
    rows = [json.loads(line) for line in done.records.read_text().splitlines()]
    assert len(rows) == figures_of(done)["judgments"] == 5
    assert all(1 <= row[name] <= 5 for row in rows for name in ("clarity", "correctness"))
    with pytest.raises(ConfigError, match="'taste' is none of the criteria that come with Baro: correctness, clarity"):
        run(Config(**config, criteria=["taste"]), tmp_path / "other")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"overlap": 3, "raters": 2}, "2 raters cannot give 3 judgments of each task, one each; raise raters or lower"),
        ({"criteria": ["clarity"]}, "criteria are scored in tasks of kind criteria, and kind is pair; leave them out"),
    ],
)
def test_settings_that_contradict_each_other(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        Config(answers="answers.jsonl", **changes)


def test_rankings_leave_their_pairs_as_well(tmp_path):
    done = run(
        Config(answers=answers_file(tmp_path / "answers.jsonl"), kind="rank", overlap=1, by=PEOPLE), tmp_path / "out"
    )
    pairs = read_records(done.path / "pairs.jsonl", Preference).records
    assert len(pairs) == 5 * 6


# ----------------------------------------------------------------------------------------------- what is asked


def chosen(tmp_path, prompts=10, **choose):
    """A config that chooses by the answers' length."""
    margin = {"policy": "margin", "count": 10, "rewards": [LENGTH], **choose}
    return {"answers": answers_file(tmp_path / "answers.jsonl", prompts), "overlap": 1, "by": PEOPLE, "choose": margin}


def tasks_of(folder):
    """Each task's policy, score, propensity and texts."""
    store = Store.open(folder / "store")
    with store.read() as connection:
        texts = dict(connection.execute(select(schema.response.c.id, schema.response.c.text)).all())
        shown = {}
        for row in connection.execute(select(schema.task_item)):
            shown.setdefault(row.task_id, set()).add(texts[row.response_id])
        rows = connection.execute(select(schema.task)).all()
    store.close()
    return [(row.policy, row.score, row.propensity, frozenset(shown[row.id])) for row in rows]


def test_so_many_tasks_where_a_reward_model_is_unsure(tmp_path):
    done = run(Config(**chosen(tmp_path)), tmp_path / "out")
    assert figures_of(done) | {"rows": 10, "pairs": 10} == {
        "judgments": 10, "rows": 10, "pairs": 10, "random_tasks": 2, "chosen_tasks": 8,
    }  # fmt: skip
    tasks = tasks_of(tmp_path / "out")
    drawn = {texts: propensity for policy, _, propensity, texts in tasks if policy == "random"}
    unsure = {texts: score for policy, score, _, texts in tasks if policy == "margin"}
    assert (len(drawn), len(unsure)) == (2, 8)
    assert all(0 < propensity < 0.1 for propensity in drawn.values())  # 2 of the pairs of 10 prompts
    for texts, score in unsure.items():  # the scores of the demo's reward: 1 for 50 characters
        first, second = texts
        assert score == pytest.approx(-abs(len(first) - len(second)) / 50)
    assert statistics.fmean(unsure.values()) > -0.1
    rows = [json.loads(line) for line in done.records.read_text().splitlines()]
    for row in rows:
        texts = frozenset((row["chosen"], row["rejected"]))
        assert row["policy"] == ("random" if texts in drawn else "margin")
        assert row["propensity"] == drawn.get(texts, 1.0)
    assert read_records(done.records, Preference).kind is Preference
    again = run(Config(**chosen(tmp_path)), tmp_path / "again")
    assert again.records.read_bytes() == done.records.read_bytes()
    other = run(Config(**chosen(tmp_path), seed=1), tmp_path / "other")
    assert other.records.read_bytes() != done.records.read_bytes()


def test_every_policy_and_a_larger_random_part(tmp_path):
    for i, (choose, at_random) in enumerate([
        ({"random_fraction": 0.5}, 5),
        ({"policy": "random", "rewards": []}, 10),
        ({"policy": "disagreement", "rewards": [LENGTH, "baro.demo.world:random_reward"]}, 2),
    ]):  # fmt: skip
        done = run(Config(**chosen(tmp_path, **choose)), tmp_path / str(i))
        assert figures_of(done)["random_tasks"] == at_random
        assert {policy for policy, *_ in tasks_of(done.path)} == {"random", choose.get("policy", "margin")}
    config = chosen(tmp_path, count=3) | {"kind": "rank", "size": 3}
    ranked = read_records(run(Config(**config), tmp_path / "ranked").records, Ranking).records
    assert [len(one.completions) for one in ranked] == [3, 3, 3]


def test_two_reward_models_of_one_content_are_one(tmp_path):
    """Nothing would come of asking where they differ."""
    for name in ("one", "copy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text("1")
    rewards = [str(tmp_path / "one"), str(tmp_path / "copy")]
    with pytest.raises(ConfigError, match=r"one and .*copy are the same reward model; name different ones"):
        run(Config(**chosen(tmp_path, policy="disagreement", rewards=rewards)), tmp_path / "out")


def test_every_prompt_unless_told_otherwise(tmp_path):
    config = chosen(tmp_path, prompts=5) | {"choose": None, "per_prompt": 2}
    done = run(Config(**config), tmp_path / "out")
    assert (figures_of(done)["random_tasks"], figures_of(done)["chosen_tasks"]) == (10, 0)
    assert {json.loads(line)["policy"] for line in done.records.read_text().splitlines()} == {"random"}


def test_a_reward_run_is_an_input_of_the_stage(tmp_path, monkeypatch):
    stages = {
        "reward": {"do": "reward", "model": "owner/model", "preferences": "owner/rows"},
        "judged": {"do": "feedback collect", "answers": answers_file(tmp_path / "answers.jsonl"), "by": PEOPLE,
                   "choose": {"policy": "margin", "rewards": ["reward"], "count": 5}},
    }  # fmt: skip
    stage = load_pipeline({"stages": dict(reversed(stages.items()))}, out=tmp_path / "out").stages[1]
    assert (stage.name, stage.needs) == ("judged", ("reward",))
    assert stage.config.choose.rewards == [str(tmp_path / "out" / "reward")]

    model = tmp_path / "out" / "reward"
    model.mkdir(parents=True)
    (model / "weights").write_text("1")
    monkeypatch.setattr("baro.scorers.load_reward", lambda by: load_reward(LENGTH))
    done = run(stage.config, tmp_path / "judged")
    assert done.manifest["inputs"]["choose.rewards.0"] == hash_path(model)
    (model / "weights").write_text("2")
    with pytest.raises(RunError, match=r"choose\.rewards\.0"):
        run(stage.config, tmp_path / "judged")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"choose": {"policy": "margin", "count": 5}}, "'choose': policy margin with 0 rewards: random looks at no"),
        ({"choose": {"policy": "random", "count": 5, "rewards": [LENGTH]}}, "policy random with 1 rewards"),
        ({"choose": {"policy": "disagreement", "count": 5, "rewards": [LENGTH]}}, "disagreement at two or more"),
        ({"choose": {"policy": "best", "count": 5}}, "'choose.policy' must be 'random', 'margin' or 'disagreement'"),
        ({"choose": {"policy": "random"}}, "'choose.count' is missing .tasks in all."),
        ({"choose": {"policy": "random", "count": 5, "random_fraction": 0.1}}, "random_fraction' must be at least 0.2"),
        ({"kind": "thumb"}, "choose goes with tasks that compare answers, and kind is thumb; leave choose out"),
        ({"per_prompt": 2}, "leave per_prompt out"),
    ],
)  # fmt: skip
def test_what_cannot_be_chosen_is_said_before_the_run(changes, sentence):
    choose = {"policy": "random", "count": 5}
    stages = {"judged": {"do": "feedback collect", "answers": "a/b", "choose": choose, **changes}}
    with pytest.raises(ConfigError, match=sentence):
        load_pipeline({"stages": stages})


def test_after_an_error_a_mended_config_begins_anew(tmp_path, caplog):
    config = chosen(tmp_path, prompts=2, count=50)
    with pytest.raises(Refused, match="a task of kind pair shows 2 responses, not 3"):
        run(Config(**config, size=3), tmp_path / "out")
    done = run(Config(**config), tmp_path / "out")
    assert figures_of(done)["judgments"] == 12
    assert "choose.count is 50, and the answers make only 12 tasks" in caplog.text
    (tmp_path / "same.jsonl").write_text(json.dumps({"prompt": "p", "responses": ["a", "a"]}) + "\n")
    with pytest.raises(ConfigError, match=r"same.jsonl: no prompt has enough different answers"):
        run(Config(**config | {"answers": "same.jsonl"}), tmp_path / "same")


# ------------------------------------------------------------------------------------------------------------- killed


def test_an_answer_that_no_page_can_show_is_left_out_and_counted(tmp_path, caplog):
    path = tmp_path / "answers.jsonl"
    answers_file(path)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1]["responses"][2] = "half a\0nswer"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run(Config(answers=str(path), kind="rank", overlap=1, by=PEOPLE), tmp_path / "out")
    assert "answers left out, since no page can show them: 1; for example answers.jsonl:2: a text holds" in caplog.text
    assert figures_of(done)["judgments"] == 4


def test_a_person_at_the_page_is_waited_for(tmp_path, monkeypatch, caplog):
    """The link is told and opened in a browser; the stage goes on when everything is judged."""
    opened = []

    def browser(link):
        def judge():
            with Client.join(link) as person:
                while (task := person.next("collected")) is not None:
                    person.submit(task, world.people.answer(0, task), active_ms=2000)

        opened.append(link)
        threading.Thread(target=judge).start()
        return True

    monkeypatch.setattr("webbrowser.open", browser)
    monkeypatch.setattr(collect, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(collect, "UNDO_SECONDS", 0.2)
    choose = {"policy": "random", "count": 3}
    config = Config(
        answers=answers_file(tmp_path / "answers.jsonl"), overlap=1, raters=1, port=0, open_page=True, choose=choose
    )
    with caplog.at_level("INFO", logger="baro"):
        done = run(config, tmp_path / "out")
    assert opened == [message.split()[-1] for message in caplog.messages if "/join#" in message]
    assert figures_of(done)["judgments"] == 3 == len(list(read_records(done.records, Preference)))


@pytest.mark.parametrize("how", ["ended", "closed"])
def test_what_a_manager_stops_is_not_waited_for(tmp_path, monkeypatch, how):
    """One judgment, then a pause, which is waited out; then the end of the project, or of all tasks that are left."""
    seen = {}

    def browser(link):
        def work():
            with Client.join(link) as person:
                task = person.next("collected")
                person.submit(task, world.people.answer(0, task), active_ms=2000)
                store = Store.open(tmp_path / "out" / "store")
                with store.read() as connection:
                    made = get_project(connection, "collected")
                store.write(lambda c: changes.set_state(c, made, "paused", "test"))
                changes.change_tasks(store, made, Chosen(), Change(action="close"), "test")
                time.sleep(1)
                seen["waited"] = not (tmp_path / "out" / "records.jsonl").exists()
                if how == "ended":
                    changes.change_tasks(store, made, Chosen(), Change(action="reopen"), "test")
                store.write(lambda c: changes.set_state(c, made, "ended" if how == "ended" else "open", "test"))
                store.close()

        threading.Thread(target=work).start()
        return True

    monkeypatch.setattr("webbrowser.open", browser)
    monkeypatch.setattr(collect, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(collect, "UNDO_SECONDS", 0.2)
    config = Config(answers=answers_file(tmp_path / "answers.jsonl"), overlap=1, raters=1, port=0, open_page=True)
    done = run(config, tmp_path / "out")
    assert seen == {"waited": True}
    assert figures_of(done)["judgments"] == 1 == len(list(read_records(done.records, Preference)))


def test_what_everybody_skipped_is_not_waited_for(tmp_path, monkeypatch, caplog):
    """One of two people skips a task, and nobody else could judge it a second time."""

    def judge(link, skips):
        with Client.join(link) as person:
            while (task := person.next("collected")) is not None:
                if skips:
                    person.skip(task, "cannot_judge")
                    skips = False
                else:
                    person.submit(task, world.people.answer(0, task), active_ms=2000)

    def told(record):
        if "/join#" in record.getMessage():
            links.append(record.getMessage().split()[-1])
            threading.Thread(target=judge, args=(links[-1], len(links) == 1)).start()
        return True

    links = []
    monkeypatch.setattr(collect, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(collect, "UNDO_SECONDS", 0.2)
    monkeypatch.setattr(collect.log, "filter", told)
    with caplog.at_level("INFO", logger="baro"):
        done = run(Config(answers=answers_file(tmp_path / "answers.jsonl"), port=0), tmp_path / "out")
    assert len(links) == 2
    assert "1 of 10 judgments are missing: nobody is left who may still give them" in caplog.text
    assert figures_of(done)["judgments"] == 9


CHOSEN = {"policy": "margin", "count": 12, "rewards": [LENGTH]}


@pytest.mark.parametrize(
    "choose", [pytest.param(None, id="all"), pytest.param(CHOSEN, id="chosen", marks=pytest.mark.slow)]
)
def test_killed_it_goes_on_as_if_it_had_not_been(forks, tmp_path, choose):
    config = {"answers": answers_file(tmp_path / "answers.jsonl", prompts=12), "overlap": 2, "by": PEOPLE}
    config["choose"] = choose
    undisturbed = run(Config(**config), tmp_path / "undisturbed")
    code = "import json; from baro.feedback.collect import Config, run; run(Config(**json.loads(sys.argv[1])), 'out')"
    process = forks.start(code, json.dumps(config))
    store = tmp_path / "out" / "store" / "feedback.db"
    while judged(store) < 4 and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL, process.errors
    assert 4 <= judged(store) < 24
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
