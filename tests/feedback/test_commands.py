"""The command line of feedback, as a user types it: from nothing to a data set, and what goes wrong."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from baro import cli
from baro.data.formats import read_records
from baro.errors import BaroError
from baro.feedback import people
from baro.feedback.address import keep_address
from baro.feedback.client import Client
from baro.feedback.database import Store
from baro.feedback.server.app import create_app
from baro.records import Preference, Score

ANSWERS = [{"prompt": f"{word} Mina.", "responses": [f"{word}, Mina!", "Mina.", "No."]} for word in ("Greet", "Thank")]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BARO_FEEDBACK", raising=False)
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ANSWERS))
    (tmp_path / "guideline.md").write_text("# Kind answers are better")


def says(*words: str) -> str:
    done = CliRunner().invoke(cli.app, ["feedback", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout.strip()


class Length:
    """A reward source that likes long answers."""

    name = "length"

    def score(self, rollouts):
        return [Score(float(len(one.text))) for one in rollouts]


length = Length()


def set_up() -> str:
    says("create", "greetings", "--set", "overlap=1", "--set", "repeat_fraction=0", "--set", "gold_fraction=0")
    assert says("import", "greetings", "answers.jsonl", "--model", "mine") == "2 prompts, 6 answers added"
    again = "0 prompts, 0 answers added; 2 prompts, 6 answers known"
    assert says("import", "greetings", "answers.jsonl", "--model", "mine") == again
    return says("tasks", "greetings", "--per-prompt", "3")


def judge_all(store: Store) -> int:
    """One rater through the whole application, without a network."""
    from starlette.testclient import TestClient

    with store.read() as connection:
        rater = connection.exec_driver_sql("SELECT id FROM rater ORDER BY id").scalars().first()
    token = store.write(lambda connection: people.open_session(connection, rater, kind="api"))
    done = 0
    with TestClient(create_app(store, files=store.file.parent), base_url="http://localhost") as http:
        client = Client("http://localhost", token, transport=http._transport)
        while (task := client.next("greetings")) is not None:
            texts = [one["text"] for one in task["responses"]]
            better = texts.index(max(texts, key=lambda text: ("!" in text, text)))
            client.submit(task, {"kind": "pair", "choice": {"outcome": "win", "position": better, "strength": 2}})
            done += 1
    return done


def test_from_answers_to_a_data_set(tmp_path):
    assert set_up() == "6 tasks added, 0 known"
    says("guideline", "greetings", "guideline.md", "--lang", "en")
    assert says("criteria", "greetings", "correctness", "overall") == "correctness, overall"
    links = says("invite", "greetings", "--count", "2", "--lang", "en").splitlines()
    assert [line.partition("  /join#")[0] for line in links] == ["rater-1", "rater-2"]  # no address is known yet
    assert judge_all(Store.open("feedback")) == 6
    assert json.loads(says("progress", "greetings", "--json"))["judgments"] == 6
    assert "scales" in says("agreement", "greetings")
    assert "rater-1" in says("raters", "greetings")
    assert says("adjudicate", "greetings", "--json") == "[]"
    folder = says("export", "greetings", "--layout", "pairs", "--out", "exports").splitlines()[-1]
    assert len(read_records(folder, Preference).records) == 6
    chosen = read_records(says("records", "greetings"), Preference).records
    assert {one.chosen[0].content for one in chosen} >= {"Greet, Mina!", "Thank, Mina!"}
    assert says("backup", "copy.db") == "copy.db"
    assert says("restore", "copy.db", "--store", "other") == "other/feedback.db"
    assert json.loads(says("progress", "greetings", "--json", "--store", "other"))["judgments"] == 6
    assert (tmp_path / "other" / "feedback.db").stat().st_mode & 0o777 == 0o600
    with pytest.raises(BaroError, match=r"feedback.db: a store is here already; name another folder with --store"):
        says("restore", "copy.db")
    (tmp_path / "torn.db").write_bytes((tmp_path / "copy.db").read_bytes()[:20_000])
    with pytest.raises(BaroError, match=r"damaged|malformed"):
        says("restore", "torn.db", "--store", "third")
    with pytest.raises(BaroError, match=r"answers.jsonl: is no backup of a store"):
        says("restore", "answers.jsonl", "--store", "third")
    assert list((tmp_path / "third").iterdir()) == []


def test_answers_of_nobody_named_are_taken_and_said(tmp_path):
    says("create", "greetings", "--set", "overlap=1")
    done = CliRunner().invoke(cli.app, ["feedback", "import", "greetings", "answers.jsonl"])
    assert (done.exit_code, done.stdout.strip()) == (0, "2 prompts, 6 answers added")
    assert "their model is 'unknown'; --model NAME says it" in done.stderr
    assert says("tasks", "greetings") == "2 tasks added, 0 known"
    task = json.loads(says("list", "greetings", "--json"))["items"][0]["id"]
    assert {one["model"] for one in json.loads(says("task", task, "--json"))["responses"]} == {"unknown"}


@pytest.mark.parametrize(
    ("rows", "words", "sentence"),
    [
        ([], (), "no pair task was made: the project has no prompts; import answers"),
        (
            [{"prompt": "Greet Mina."}],
            (),
            "no pair task was made: prompt .* has 0 different answers; pair tasks need 2",
        ),
        (ANSWERS, ("--kind", "rank", "--size", "5"), "no rank task was made: prompt .* has 3 different answers"),
    ],
)
def test_tasks_that_make_nothing_say_why(tmp_path, rows, words, sentence):
    says("create", "greetings")
    if rows:
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        says("import", "greetings", "rows.jsonl")
    with pytest.raises(BaroError, match=sentence) as error:
        says("tasks", "greetings", *words)
    assert error.value.exit_code == 2


def test_invitations_say_who_and_where(tmp_path):
    says("create", "greetings")
    done = CliRunner().invoke(cli.app, ["feedback", "invite", "greetings"])
    assert "no address is known, since no server was started with this store yet" in done.stderr
    store = Store.open("feedback")
    store.write(lambda connection: keep_address(connection, "http://127.0.0.1:1"))
    store.write(lambda connection: keep_address(connection, "https://feedback.example.org"))
    store.close()
    assert says("invite", "greetings", "--pseudonym", "민수").startswith("민수  https://feedback.example.org/join#")
    other = says("invite", "greetings", "--address", "http://localhost:9/")
    assert other.split("  ")[1].startswith("http://localhost:9/join#")
    assert says("invite", "greetings", "--count", "2", "--csv", "links.csv") == "links.csv"
    lines = (tmp_path / "links.csv").read_bytes().decode("utf-8-sig").splitlines()
    assert [line.partition("/join#")[0] for line in lines] == [
        "pseudonym,link", "rater-4,https://feedback.example.org", "rater-5,https://feedback.example.org",
    ]  # fmt: skip
    assert (tmp_path / "links.csv").stat().st_mode & 0o777 == 0o600
    with pytest.raises(BaroError, match=r"links.csv: exists already; name another file"):
        says("invite", "greetings", "--csv", "links.csv")


def test_what_was_done_is_taken_back():
    set_up()
    assert says("change", "greetings", "close", "--kind", "pair", "--preview") == (
        "of 6 tasks 6 would change; 0 judgments, 0 in somebody's hands"
    )
    done = CliRunner().invoke(cli.app, ["feedback", "change", "greetings", "close", "--all"])
    assert done.stdout.strip() == "6 tasks changed, 0 were so already or cannot change"
    undo = done.stderr.strip().rpartition("baro feedback ")[2].split()
    assert says(*undo) == "6 tasks changed, 0 were so already or cannot change"
    assert json.loads(says("list", "greetings", "--state", "open", "--json"))["total"] == 6
    assert says("change", "greetings", "priority", "7", "--state", "open", "--json").startswith('{"changed": 6')
    for words, sentence in (
        (("close",), "say which tasks: --kind, --source"),
        (("close", "--all", "--kind", "pair"), "say which tasks"),
        (("overlap", "--all"), "overlap takes a value"),
        (("close", "--kind", "pairs"), "--kind pairs: there is no such thing"),
        (("shut", "--all"), "ACTION shut: there is no such thing"),
    ):
        with pytest.raises(BaroError, match=sentence):
            says("change", "greetings", *words)
    with pytest.raises(BaroError, match="x: is no event"):
        says("undo", "greetings", "x")


def test_a_project_stops_and_goes_on_and_a_text_goes():
    set_up()
    assert says("pause", "greetings") == "greetings is paused"
    assert says("end", "greetings") == "greetings is ended"
    assert json.loads(says("list", "--json"))[0]["state"] == "ended"
    assert says("resume", "greetings") == "greetings is open"
    said = "2 prompts withdrawn, with 6 tasks and 0 judgments; 0 were so already"
    assert says("withdraw", "greetings", "--source", "answers.jsonl", "--why", "wrong language") == said
    prompt = json.loads(says("list", "greetings", "prompts", "--json"))["items"][0]["id"]
    restored = "1 prompts restored, with 3 tasks and 0 judgments; 0 were so already"
    assert says("withdraw", "greetings", prompt, "--restore") == restored
    removed = f"prompt {prompt} of greetings: removed; 3 more tasks count no more"
    assert says("redact", prompt, "--why", "asked by letter", "--yes") == removed
    found = json.loads(says("list", "greetings", "prompts", "--json"))["items"][0]
    assert (found["messages"][0]["content"], found["removed"]) == ("[removed]", True)
    with pytest.raises(BaroError, match="no prompt of greetings came from there"):
        says("withdraw", "greetings", "--source", "nowhere")
    with pytest.raises(BaroError, match="name the prompts by their ids"):
        says("withdraw", "greetings")


def test_asking_again_under_a_new_guideline(tmp_path):
    set_up()
    says("guideline", "greetings", "guideline.md", "--lang", "en")
    says("invite", "greetings", "--lang", "en")
    judge_all(Store.open("feedback"))
    assert says("ask-again", "greetings", "--preview") == "0 tasks would be asked again, for 0 judgments"
    (tmp_path / "guideline.md").write_text("# Kind answers are better, and short ones")
    says("guideline", "greetings", "guideline.md", "--lang", "en")
    wanted = "6 tasks would be asked again, for 12 judgments"
    assert says("ask-again", "greetings", "--preview", "--overlap", "2").startswith(wanted)
    assert says("ask-again", "greetings", "--kind", "rank") == "0 tasks asked again, for 0 judgments"
    assert says("ask-again", "greetings", "--which", "divided") == "0 tasks asked again, for 0 judgments"
    assert says("ask-again", "greetings") == "6 tasks asked again, for 6 judgments"
    assert judge_all(Store.open("feedback")) == 6
    told = json.loads(says("agreement", "greetings", "--guidelines", "newest", "--json"))
    assert (told["scales"][0]["judgments"], [one["version"] for one in told["guidelines"]]) == (6, [1, 2])
    assert json.loads(says("bias", "greetings", "--json"))["left"]["n"] == 12
    with pytest.raises(BaroError, match="--which some: there is no such thing; give one of all, divided"):
        says("ask-again", "greetings", "--which", "some")


def test_what_to_ask_next():
    says("create", "greetings")
    says("import", "greetings", "answers.jsonl", "--model", "mine")
    assert says("ask", "greetings", "--count", "2").startswith("2 tasks added; 2 draws at random")
    asked = says("ask", "greetings", "--count", "2", "--by", f"{__name__}:length", "--seed", "1")
    assert re.fullmatch(r"[12] tasks added; 1 draws at random(, 1 of which are tasks already)?\n?", asked)
    says("invite", "greetings", "--lang", "en")
    judge_all(Store.open("feedback"))
    told = [json.loads(says("agreement", "greetings", "--policy", one, "--json")) for one in ("all", "random")]
    assert told[0]["policies"] == told[1]["policies"]
    judged = [one["scales"][0]["judgments"] for one in told]
    assert judged == [sum(told[0]["policies"].values()), told[0]["policies"]["random"]]
    assert judged[0] > judged[1]
    with pytest.raises(BaroError, match="--policy margin: there is no such thing; give one of all, random"):
        says("agreement", "greetings", "--policy", "margin")


def test_people_come_and_go():
    set_up()
    first = says("invite", "greetings", "--pseudonym", "민수", "--lang", "en")
    assert says("invite", "greetings", "--again", "민수").partition("#")[0] == first.partition("#")[0]
    says("revoke", "민수")
    with pytest.raises(BaroError, match="민수 is not active any more; invite somebody new"):
        says("invite", "greetings", "--again", "민수")
    says("erase", "민수")
    with pytest.raises(BaroError, match="there is no rater '민수'"):
        says("revoke", "민수")


def test_a_role_is_one_in_a_project():
    set_up()
    says("create", "other")
    says("invite", "greetings", "--role", "manager", "--pseudonym", "mia")
    says("invite", "other", "--again", "mia")
    says("invite", "--all-projects", "--pseudonym", "all")

    def roles(name: str) -> dict[str, str]:
        return {one["pseudonym"]: one["role"] for one in json.loads(says("list", name, "people", "--json"))}

    assert (roles("greetings"), roles("other")) == ({"mia": "manager"}, {"mia": "rater"})
    says("invite", "other", "--again", "mia", "--role", "adjudicator")
    assert (roles("greetings"), roles("other")) == ({"mia": "manager"}, {"mia": "adjudicator"})
    store = Store.open("feedback")
    with store.read() as connection:
        whole = people.rater_by_pseudonym(connection, "all").id
        assert people.manages_all(connection, whole)
        assert not people.manages_all(connection, people.rater_by_pseudonym(connection, "mia").id)
    for wrong, told in (
        (["greetings", "--all-projects"], "leave out PROJECT"), (["--all-projects", "--role", "rater"], "--role"),
        ([], "name the PROJECT"), (["greetings", "--again", "all", "--role", "rater"], "has no other role"),
        (["greetings", "--role", "owner"], "'owner' is no role; give one of rater, adjudicator, manager"),
    ):  # fmt: skip
        with pytest.raises(BaroError, match=told):
            says("invite", *wrong)


def test_what_is_there():
    set_up()
    (project,) = json.loads(says("list", "--json"))
    assert (project["name"], project["prompts"], project["tasks"]) == ("greetings", 2, 6)
    assert "blur: true" in says("settings", "greetings", "--set", "blur=true")
    assert "overlap: 1" in says("settings", "greetings")
    page = json.loads(says("list", "greetings", "--limit", "1", "--json"))
    assert (page["total"], len(page["items"])) == (6, 1)
    told = '{"kind": "pair", "choice": {"outcome": "win", "position": 0}}'
    gold = says("gold", "greetings", page["items"][0]["id"], "--answer", told, "--note", "it says hello")
    assert json.loads(says("task", gold, "--json"))["gold_answer"]["choice"]["position"] == 0
    assert json.loads(says("list", "greetings", "--state", "gold", "--json"))["total"] == 1
    assert says("gold", "greetings", gold, "--answer", told.replace("0", "1"), "--correct") == gold
    assert json.loads(says("task", gold, "--json"))["gold_answer"]["choice"]["position"] == 1
    assert says("gold", "greetings", gold, "--withdraw") == gold
    assert json.loads(says("list", "greetings", "--state", "gold", "--json"))["total"] == 0
    for what in ("prompts", "guidelines", "criteria", "events", "people"):
        says("list", "greetings", what)


def test_criteria_of_ones_own(tmp_path):
    set_up()
    with pytest.raises(BaroError, match="a criteria task needs criteria to score; write them on the page"):
        says("tasks", "greetings", "--kind", "criteria")
    words = "labels: {ko: {name: 친절, anchors: [무례, 보통, 친절]}}"
    (tmp_path / "criteria.yaml").write_text(f"criteria:\n  - {{key: kindness, {words}, low: 0, high: 2}}\n")
    assert says("criteria", "greetings", "--file", "criteria.yaml") == "kindness"
    assert says("criteria", "greetings", "overall", "--file", "criteria.yaml") == "overall, kindness"
    (tmp_path / "criteria.yaml").write_text(f"criteria:\n  - {{key: warmth, {words}}}\n")
    with pytest.raises(BaroError, match=r"criteria.yaml:2: .*'warmth' has 3 anchors in 'ko' and 5 scores; write"):
        says("criteria", "greetings", "--file", "criteria.yaml")


def test_an_export_with_settings():
    set_up()
    with pytest.raises(BaroError, match="there is no row to export yet"):
        says("export", "greetings", "--layout", "pairs", "--set", "labels.method=majority")
    says("invite", "greetings")
    judge_all(Store.open("feedback"))
    assert "count: 6" in says("export", "greetings", "--layout", "pairs", "--preview")
    folder = says(
        "export", "greetings", "--layout", "pairs", "--set", "labels.method=majority", "--set", "held_out=0.5"
    )
    assert "majority" in (Path(folder) / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("export", "greetings", "--layout", "pairs", "--set", "bad"), "this is no assignment; write --set KEY=VALUE"),
        (("export", "greetings", "--layout", "pairs", "--set", "watermark=x"), "--set watermark=x: 'watermark'"),
        (("guideline", "greetings", "nowhere.md"), "nowhere.md: cannot be read .No such file or directory."),
        (("guideline", "greetings", "latin.md"), "latin.md: is no UTF-8 text .byte 3.; save it as UTF-8"),
        (("guideline", "greetings", "empty.md"), "a guideline has 1 to 200,000 characters, and this one 0"),
        (("guideline", "greetings", "guideline.md", "--lang", "fr"), "there is no page in 'fr'; give one of en, ko"),
        (("settings", "greetings", "--set", "overlaps=2"), "did you mean 'overlap'"),
        (("invite", "greetings", "--count", "2", "--pseudonym", "mina"), "are about one person; leave --count out"),
        (("gold", "greetings", "x"), "give the answer with --answer, or --withdraw the one that is known"),
        (("gold", "greetings", "x", "--answer", "{"), "--answer: the text: Invalid JSON"),
        (("gold", "greetings", "x", "--answer", '{"kind": "pair"}'), "--answer: pair.choice: Field required"),
        (("list", "greetings", "persons"), "WHAT persons: there is no such thing; give one of tasks, prompts"),
    ],
)
def test_words_that_are_wrong(tmp_path, words, sentence):
    set_up()
    (tmp_path / "latin.md").write_bytes("caf\xe9".encode("latin-1"))
    (tmp_path / "empty.md").write_text("")
    with pytest.raises(BaroError, match=sentence):
        says(*words)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("progress", "greetings"), "holds no feedback yet; `baro feedback create NAME` starts a project there"),
        (("create", "a/b"), "a project's name is made of at most"),
        (("create", "x", "--set", "overlaps=2"), "did you mean"),
    ],
)
def test_what_goes_wrong_is_one_sentence(words, sentence):
    with pytest.raises(BaroError, match=sentence) as error:
        says(*words)
    assert error.value.exit_code == 2


def test_an_unknown_project_and_form():
    set_up()
    with pytest.raises(BaroError, match="there is no project 'thanks'"):
        says("tasks", "thanks")
    with pytest.raises(BaroError, match="--format xml: there is no such thing; give one of argilla"):
        says("import", "greetings", "answers.jsonl", "--format", "xml")


def test_a_stage_takes_what_people_judged(tmp_path):
    from baro.inputs import hash_input, resolve

    set_up()
    says("invite", "greetings")
    judge_all(Store.open("feedback"))
    path = resolve("feedback:greetings", "records")
    assert read_records(path, Preference).kind is Preference
    assert hash_input("feedback:greetings", "records") == hash_input(str(path), "records")
    with pytest.raises(BaroError, match="holds no ranks yet"):
        resolve("feedback:greetings/ranks", "records")


def test_a_log_gives_prompts(tmp_path):
    rows = [
        {
            "messages": [{"role": "user", "content": "Greet Mina."}, {"role": "assistant", "content": "Hi"}],
            "consent": True,
        },
        {"messages": [{"role": "user", "content": "Write to mina@example.com."}], "consent": True},
        {"messages": [{"role": "user", "content": "Thank Mina."}], "consent": False},
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    says("create", "talks")
    assert says("import", "talks", "log.jsonl", "--chat") == "1 prompts, 0 answers added"
    masked = "1 prompts, 0 answers added; 1 prompts, 0 answers known"
    assert says("import", "talks", "log.jsonl", "--chat", "--personal", "mask") == masked
    (_, masked) = json.loads(says("list", "talks", "prompts", "--json"))["items"]
    assert (masked["messages"][0]["content"], masked["extra"]) == ("Write to [email].", {})
    with pytest.raises(BaroError, match="--chat takes the prompts of a log, and --model answers"):
        says("import", "talks", "log.jsonl", "--chat", "--model", "m")
    (tmp_path / "log.jsonl").write_text(json.dumps(rows[2]) + "\n")
    with pytest.raises(BaroError, match="none is left; let rows of people who agreed say `consent: true`"):
        says("import", "talks", "log.jsonl", "--chat")


def test_a_stage_says_what_its_form_leaves_out(monkeypatch):
    from baro import inputs

    said = []
    done = subprocess.CompletedProcess([], 0, "rows.jsonl\n", "3 rows are left out\n")
    monkeypatch.setattr(inputs.subprocess, "run", lambda *_, **__: done)
    monkeypatch.setattr(inputs.log, "warning", lambda words, *more: said.append(words % more))
    assert inputs.resolve("feedback:of several layouts", "records") == Path("rows.jsonl")
    assert said == ["3 rows are left out"]
