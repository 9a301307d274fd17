"""Every layout: read back as the right records, the same bytes again, nothing that may not leave, no trodden path."""

from __future__ import annotations

import copy
import csv
import gzip
import hashlib
import json
import os
from importlib.resources import files
from pathlib import Path

import pyarrow.parquet
import pytest
from feedback.judging import Desk, make_gold, neither, new_store, rank, safety, thumbs, win

from baro.data.formats import read_records
from baro.errors import ConfigError
from baro.feedback import coefficients, exports, labels, schema, stage_input
from baro.feedback.card import REASONS
from baro.feedback.criteria import set_criteria
from baro.feedback.derive import last_event
from baro.feedback.project import publish_guideline
from baro.feedback.refusals import Refused
from baro.feedback.stage_input import records_file
from baro.files import hash_path
from baro.records import Answers, Demonstration, Message, Preference, Prompt, Ranking, Rated, Safety, Thumb

HANGUL, EMOJI = "안녕하세요, 무엇을 도와드릴까요?", "👩‍👩‍👧‍👦 = 1+1 🎉\n\n  끝 "
TURNS = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "first"},
    {"role": "assistant", "content": "second"},
    {"role": "user", "content": "세 번째"},
]
PREFERENCES = ("pairs", "trl", "openrlhf", "hh")


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(coefficients, "RESAMPLES", 10)


@pytest.fixture
def desk(tmp_path):
    store = new_store(tmp_path / "store")
    yield Desk(store, overlap=3)
    store.close()


def preview(desk, layout, **settings):
    with desk.store.read() as connection:
        return exports.preview(connection, desk.project, layout, settings)


def write(desk, layout, folder, **settings):
    return exports.write(desk.store, desk.project, layout, settings, folder, "boss")


def a_bit_of_everything(desk, prompt="질문 하나?"):
    """One task of each kind, judged by two; the first response is the better one."""
    both = (HANGUL, EMOJI)
    criteria = [{"key": key, "labels": {}, "low": 1, "high": 5} for key in ("clarity", "말투")]
    desk.do(set_criteria, desk.project, criteria, "boss")
    desk.do(publish_guideline, desk.project, "en", "Be fair.", "boss")
    scores = {"kind": "criteria", "scores": {"clarity": [4], "말투": [2]}}
    edit = {"kind": "edit", "text": "더 나은 답 ✨", "critique": "too short"}
    for name in ("ann", "ben"):
        for kind, texts, answer in (
            ("pair", both, win(0, 2)),
            ("rank", (*both, "c"), rank(1, 3, 2)),
            ("thumb", both, thumbs(True, False)),
            ("safety", both, safety([0, 2], 1, 0)),
            ("criteria", both[:1], scores),
            ("edit", both[:1], edit),
        ):
            if name == "ann":
                desk.made = getattr(desk, "made", {}) | {kind: desk.task(kind, prompt, texts)}
            desk.say(name, desk.made[kind], answer)


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A store with a bit of everything, as a file, and what is known of it."""
    made = Desk(new_store(tmp_path_factory.mktemp("judged")), overlap=3)
    a_bit_of_everything(made)
    made.store.close()
    return (made.store.file).read_bytes(), made


@pytest.fixture
def full(judged, tmp_path):
    """A copy of it for one test: making it takes longer than most of them."""
    content, made = judged
    opened = copy.copy(made)
    opened.store, opened.raters, opened.made = new_store(tmp_path / "store", content), {**made.raters}, {**made.made}
    yield opened
    opened.store.close()


def read(result, side="data"):
    return read_records(Path(result["folder"]) / f"{side}.jsonl")


def one(text):
    return (Message("assistant", text),)


@pytest.mark.parametrize("layout", PREFERENCES)
@pytest.mark.parametrize("of", ["pairs", "helpful", "safer", "edits"])
def test_comparisons_are_read_back_as_preferences(full, tmp_path, layout, of):
    loaded = read(write(full, layout, tmp_path / "out", of=of))
    assert loaded.kind is Preference
    record = loaded.records[0]
    better = {"pairs": HANGUL, "helpful": EMOJI, "safer": HANGUL, "edits": "더 나은 답 ✨"}[of]
    assert (record.prompt, record.chosen) == ((Message("user", "질문 하나?"),), one(better))
    assert record.p_chosen == (1.0 if of == "edits" else round(2.5 / 3, 6))
    assert record.extra["n_votes"] == (1 if of == "edits" else 2)
    if of in ("helpful", "safer"):
        assert record.extra["chosen_safe"] is (of == "safer")
        assert record.extra["rejected_safe"] is (of != "safer")


@pytest.mark.parametrize("layout", ["pairs", "trl", "openrlhf"])
def test_dialogues_of_several_turns(desk, tmp_path, layout):
    for prompt in (TURNS, "plain"):
        desk.say("ann", desk.task("pair", prompt, (HANGUL, "no")), win(0))
    settings = {"prompt": "implicit"} if layout == "trl" else {}
    loaded = read(write(desk, layout, tmp_path / "out", **settings))
    turns = tuple(Message(t["role"], t["content"]) for t in TURNS)
    assert [record.prompt for record in loaded.records] == [turns, (Message("user", "plain"),)]
    assert all(record.chosen == one(HANGUL) for record in loaded.records)


def test_trl_has_the_prompt_in_a_column_or_in_both(desk):
    desk.say("ann", desk.task("pair", "q", ("good", "bad")), win(0))
    (explicit,) = preview(desk, "trl")["rows"]
    (implicit,) = preview(desk, "trl", prompt="implicit")["rows"]
    assert explicit["prompt"] == [{"role": "user", "content": "q"}]
    assert explicit["chosen"] == [{"role": "assistant", "content": "good"}]
    assert "prompt" not in implicit
    assert implicit["chosen"] == [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}]


def test_transcripts_leave_out_what_they_would_tell_differently(desk):
    desk.say("ann", desk.task("pair", TURNS, ("good", "bad")), win(0))
    desk.say("ann", desk.task("pair", "q", ("good\n\nHuman: no", "bad")), win(0))
    desk.say("ann", desk.task("pair", TURNS[1:], ("good", "bad")), win(0))
    found = preview(desk, "hh")
    assert found["dropped"] == {"system_message": 1, "turn_marks_in_text": 1}
    assert found["rows"][0]["chosen"] == "\n\nHuman: first\n\nAssistant: second\n\nHuman: 세 번째\n\nAssistant: good"


def test_a_prompt_that_looks_like_a_transcript_stays_a_prompt(desk, tmp_path):
    text = "Human: hello\n\nAssistant:"
    desk.say("ann", desk.task("pair", text, ("good", "bad")), win(0))
    assert read(write(desk, "pairs", tmp_path / "out")).records[0].prompt == (Message("user", text),)


def test_rankings(full, tmp_path):
    loaded = read(write(full, "ranks", tmp_path / "out"))
    assert loaded.kind is Ranking
    (record,) = loaded.records
    assert record.completions == (one(HANGUL), one(EMOJI), one("c"))
    assert record.ranks == (1, 3, 2)


@pytest.mark.parametrize(("expand", "count"), [("all", 3), ("adjacent", 2), ("best", 2)])
def test_pairs_of_rankings(full, expand, count):
    found = preview(full, "pairs", of="rankings", expand=expand)
    assert found["count"] == count
    assert len({row["group_id"] for row in found["rows"]}) == 1


def test_thumbs_and_both_bad(full, tmp_path):
    bad = full.task("pair", "other", ("x", "y"))
    for name in ("ann", "ben"):
        full.say(name, bad, neither("both_bad"))
    result = write(full, "kto", tmp_path / "out")
    loaded = read(result)
    assert loaded.kind is Thumb
    found = {record.completion[0].content: record.label for record in loaded.records}
    assert found == {HANGUL: True, EMOJI: False, "x": False, "y": False}
    assert "up 1, down 3; to weigh both alike, give thumbs down the weight 0.333" in card(result)


def kto(full, **settings):
    """Of each answer the thumb and whether an adjudicator decided; what was left out."""
    found = preview(full, "kto", **settings)
    return sorted((row["completion"], row["label"], row["adjudicated"]) for row in found["rows"]), found["dropped"]


def test_both_bad_as_an_adjudicator_says(desk):
    """Whether it stands against what the raters said, or with it."""
    task = desk.task("pair", "one", ("a", "b"))
    other = desk.task("pair", "other", ("c", "d"))
    for name in ("ann", "ben"):
        desk.say(name, task, neither("both_bad"))
        desk.say(name, other, win(0))
    assert kto(desk) == ([("a", False, False), ("b", False, False)], {})
    desk.say("boss", task, win(0), purpose="adjudicate")
    desk.say("boss", other, neither("both_bad"), purpose="adjudicate")
    assert kto(desk) == ([("c", False, True), ("d", False, True)], {})
    assert preview(desk, "kto")["rows"][0]["p_good"] == pytest.approx(0.05)
    desk.say("chief", other, neither("unsure"), purpose="adjudicate")
    assert kto(desk) == ([("c", False, True), ("d", False, True)], {})


def test_an_answer_that_is_bad_twice_is_one_row(desk):
    for texts in (("a", "b"), ("a", "c")):
        desk.say("ann", desk.task("pair", "q", texts), neither("both_bad"))
    assert kto(desk) == ([(text, False, False) for text in "abc"], {"rated_already": 1})


def test_completions_are_messages_where_prompts_are(desk, tmp_path):
    """TRL takes no text behind messages; what Baro reads is the same."""
    desk.do(set_criteria, desk.project, [{"key": "clarity", "labels": {}, "low": 1, "high": 5}], "boss")
    for prompt in (TURNS, "plain"):
        desk.say("ann", desk.task("thumb", prompt, ("no",)), thumbs(True))
        desk.say("ann", desk.task("edit", prompt, ("no",)), {"kind": "edit", "text": "yes", "critique": ""})
        desk.say("ann", desk.task("criteria", prompt, ("no",)), {"kind": "criteria", "scores": {"clarity": [4]}})
    for layout, column, kind in (("kto", "completion", Thumb), ("edits", "completion", Demonstration),
                                 ("criteria", "response", Rated)):  # fmt: skip
        result = write(desk, layout, tmp_path / "out")
        lines = (Path(result["folder"]) / "data.jsonl").read_text().splitlines()
        said = "yes" if layout == "edits" else "no"
        assert [json.loads(line)[column] for line in lines] == [[{"role": "assistant", "content": said}]] * 2
        loaded = read(result)
        assert loaded.kind is kind
        completions = [r.completions[0] if kind is Rated else r.completion for r in loaded.records]
        assert completions == [one(said)] * 2


def test_unsafe_that_nobody_marked_so(desk, monkeypatch):
    """A rater model may call unsafe what its raters called safe; nobody told a severity or a harm."""
    task = desk.task("safety", "q", ("x", "y"))
    desk.say("ann", task, safety([0, 0], 0, 0))
    monkeypatch.setattr(labels, "binary_probabilities", lambda votes, attribute, settings: {
        (v.judgment.task.id, v.response): 0.2 for v in votes
    })  # fmt: skip
    found = preview(desk, "pku", labels={"method": "dawid_skene"})
    assert (found["count"], found["dropped"]) == (0, {"safety_undecided": 1})


def test_pku(full, tmp_path):
    divided = full.task("safety", "other", ("x", "y"))
    full.say("ann", divided, safety([0, 0], None, 1))
    loaded = read(write(full, "pku", tmp_path / "out"))
    assert loaded.kind is Preference
    (record,) = loaded.records
    assert (record.chosen, record.rejected) == (one(EMOJI), one(HANGUL))
    row = record.extra
    unsafe, safe = row["better_response_id"], row["safer_response_id"]
    assert unsafe == 1 - safe
    assert row[f"is_response_{safe}_safe"]
    assert not row[f"is_response_{unsafe}_safe"]
    assert (row[f"response_{safe}_severity_level"], row[f"response_{unsafe}_severity_level"]) == (0, 2)
    harms = row[f"response_{unsafe}_harm_category"]
    assert len(harms) == 19
    assert [name for name, found in harms.items() if found] == ["Violence"]
    assert {"White-Collar Crime", "Endangering National Security"} < set(harms)
    assert preview(full, "pku")["dropped"] == {"helpful_undecided": 1}


def test_criteria(full, tmp_path):
    loaded = read(write(full, "criteria", tmp_path / "out"))
    assert loaded.kind is Rated
    (record,) = loaded.records
    assert record.scores == ({"clarity": 4.0, "말투": 2.0},)


def test_edits(full, tmp_path):
    full.say("cat", full.made["edit"], {"kind": "edit", "critique": "only words"})
    result = write(full, "edits", tmp_path / "out")
    loaded = read(result)
    assert loaded.kind is Demonstration
    assert [record.completion for record in loaded.records] == [one("더 나은 답 ✨")] * 2
    assert loaded.records[0].extra["critique"] == "too short"
    assert result["dropped"] == {"critique_only": 1}


def test_an_adjudicators_edit_stands_in_place_of_the_others(desk):
    task = desk.task("edit", "q", ("no",))
    texts = {"ann": "first", "ben": "second"}
    for name, text in texts.items():
        desk.say(name, task, {"kind": "edit", "text": text, "critique": ""})
    desk.say("chief", task, {"kind": "edit", "critique": "only words"}, purpose="adjudicate")
    found = preview(desk, "edits")
    assert [row["completion"] for row in found["rows"]] == ["first", "second"]
    assert found["dropped"] == {"critique_only": 1}
    desk.say("boss", task, {"kind": "edit", "text": "best", "critique": ""}, purpose="adjudicate")
    for i in range(5):  # whom the known answers call unreliable may have been chosen to settle all the same
        gold = desk.task("pair", f"gold {i}", ("x", "y"))
        make_gold(desk, gold, win(0))
        desk.say("boss", gold, win(1))
    for layout, column in (("edits", "completion"), ("pairs", "chosen")):
        found = preview(desk, layout, of="edits", labels={"min_reliability": 0.6})
        assert [row[column] for row in found["rows"]] == ["best"]
        assert found["dropped"] == {"critique_only": 1, "overridden_edit": 2}


def test_criteria_whose_names_look_alike(desk):
    keys = ("정확성 1", "정확성-1", "clarity")
    desk.do(set_criteria, desk.project, [{"key": key, "labels": {}, "low": 1, "high": 5} for key in keys], "boss")
    scores = {key: [n] for n, key in enumerate(keys, start=1)}
    desk.say("ann", desk.task("criteria", "q", ("x",)), {"kind": "criteria", "scores": scores})
    (row,) = preview(desk, "criteria")["rows"]
    found = {name: row[name] for name in row if name.startswith("score/") or name == "clarity"}
    assert found == {"score/정확성 1": 1.0, "score/정확성-1": 2.0, "clarity": 3.0}


def test_facts_tell_everything_but_known_answers(full):
    gold = full.task("pair", "gold", ("x", "y"))
    make_gold(full, gold, win(0))
    full.say("ann", gold, win(0))
    made = full.say("cat", full.made["pair"], win(1))
    full.again("cat", made, win(0))
    full.take_back("cat", made)
    found = preview(full, "facts")
    assert found["count"] == 15
    assert found["dropped"] == {"known_answer": 1}
    assert [row["action"] for row in found["rows"][-3:]] == ["submit", "revise", "retract"]
    first = next(row for row in found["rows"] if row["kind"] == "rank")
    assert [entry["rank"] for entry in first["ranks"]] == [1, 3, 2]
    assert first["guideline_version"] == 1


@pytest.mark.parametrize("layout", exports.LAYOUTS)
def test_the_same_again_byte_for_byte(full, tmp_path, layout):
    settings = {"held_out": 0.3, "csv": True, "models": True, "lang": "ko"}
    first = write(full, layout, tmp_path / "one", **settings)
    with full.store.read() as connection:
        watermark = last_event(connection, full.project.id)
    full.say("dora", full.task("pair", "later", ("x", "y")), win(0))
    second = write(full, layout, tmp_path / "two", **settings, watermark=watermark)
    assert first["sha256"] == second["sha256"] == hash_path(Path(first["folder"])) == hash_path(Path(second["folder"]))
    assert first["id"] != second["id"]


@pytest.mark.parametrize("layout", exports.LAYOUTS)
def test_known_answers_never_leave(desk, tmp_path, layout):
    for kind, answer in (
        ("pair", win(0)), ("thumb", thumbs(True, False)), ("safety", safety([0, 1], 0, 0)), ("rank", rank(1, 2)),
        ("edit", {"kind": "edit", "text": "SECRET", "critique": ""}),
    ):  # fmt: skip
        task = desk.task(kind, "q", ("x", "y") if kind != "edit" else ("x",))
        make_gold(desk, task, answer)
        desk.say("ann", task, answer)
    assert preview(desk, layout)["count"] == 0
    with pytest.raises(Refused, match="no row"):
        write(desk, layout, tmp_path / "out")


@pytest.mark.parametrize("layout", exports.LAYOUTS)
def test_datasets_loads_rows_and_parquet(full, tmp_path, layout, monkeypatch):
    import datasets

    result = write(full, layout, tmp_path / "out")
    folder = Path(result["folder"])
    options = {"cache_dir": str(tmp_path / "cache"), "split": "train"}
    rows = datasets.load_dataset("json", data_files=str(folder / "data.jsonl"), **options)
    table = datasets.load_dataset(str(folder), **options)  # by the card
    assert len(rows) == len(table) == result["rows"]
    lines = [json.loads(line) for line in (folder / "data.jsonl").read_text().splitlines()]
    assert table.to_list() == lines
    assert set(about(result)["schema"]["properties"]) == set(lines[0])


def about(result):
    return json.loads((Path(result["folder"]) / "export.json").read_text())


def card(result):
    return (Path(result["folder"]) / "README.md").read_text()


def test_the_card_and_export_json(full, tmp_path):
    full.say("ann", full.task("pair", "q2", ("x", "y")), neither())
    result = write(full, "pairs", tmp_path / "out", labels={"method": "majority"})
    text, told = card(result), about(result)
    for part in (
        "event ",
        "majority+plackett_luce/2",
        "pair/overall",
        "both answers are equally likely",
        "version 1 (en)",
    ):
        assert part in text
    assert told["rows"] == {"data": 1}
    assert told["dropped"] == {"undecided": 1}
    assert (told["raters"], told["judgments"]) == (2, {"vote": 13})
    names = {"data.jsonl", "data.parquet"}
    assert set(told["files"]) == names
    for name in names:
        content = (Path(result["folder"]) / name).read_bytes()
        assert told["files"][name] == hashlib.sha256(content).hexdigest()
    korean = card(write(full, "pairs", tmp_path / "out", lang="ko"))
    assert "사람의 피드백" in korean
    assert "두 응답이 동률" in korean
    assert all(len(words) == 2 for words in REASONS.values())
    for words in (files("baro.feedback") / "texts").iterdir():  # the manager's page names them too
        assert {f"manage.drop.{reason}" for reason in REASONS} <= set(json.loads(words.read_text()))


@pytest.mark.parametrize(("layout", "kind"), [("pairs", "pair"), ("trl", "pair"), ("ranks", "rank"), ("facts", "pair")])
def test_each_row_says_how_its_task_was_selected(desk, tmp_path, layout, kind):
    """Chosen, chosen and later drawn at random, imported, and random from the start; and the card has both figures."""
    texts = ("short", "much longer", "the longest of all")[: 3 if kind == "rank" else 2]
    ways = {"chosen": {"policy": "margin", "score": -0.1}, "both": {"policy": "margin", "score": -0.2},
            "brought": {"policy": "imported"}, "drawn": {"propensity": 0.25}}  # fmt: skip
    tasks = {name: desk.task(kind, name, texts, **how) for name, how in ways.items()}
    drawn = {"task_id": tasks["both"], "policy": "random", "score": None, "propensity": 0.125}
    desk.do(lambda c: c.execute(schema.draw.insert().values(event_id=1, **drawn)))
    for i, task in enumerate(tasks.values()):
        for rater in ("ann", "ben"):
            desk.say(rater, task, rank(1, 2, 3) if kind == "rank" else win(int(i == 0 and rater == "ben"), 3))
    if kind == "pair":
        desk.say("cid", tasks["chosen"], win(0))
    rows = preview(desk, layout)["rows"]
    found = {json.dumps(row["prompt"]): (row["policy"], row["propensity"]) for row in rows}
    named = {name: how for name in tasks for prompt, how in found.items() if name in prompt}
    assert named == {"chosen": ("margin", 1.0), "both": ("random", 0.125), "brought": ("imported", 1.0),
                     "drawn": ("random", 0.25)}  # fmt: skip
    folder = Path(write(desk, layout, tmp_path)["folder"])
    about = json.loads((folder / "export.json").read_text())
    assert about["policies"] == {"imported": 1, "margin": 1, "random": 2}
    everything, at_random = about["agreement"][0], about["agreement_random"][0]
    assert at_random["items"] == everything["items"] / 2
    card = (folder / "README.md").read_text()
    assert "Some tasks were chosen by a reward model (imported 1, margin 1, random 2)" in card
    if kind == "pair":
        assert (everything["raw"]["value"], at_random["raw"]["value"]) == (pytest.approx(5 / 6, abs=1e-6), 1.0)


def test_votes_that_disagreement_asked_for_are_named_on_the_card(tmp_path):
    desk = Desk(new_store(tmp_path / "store"), overlap=2, max_overlap=3)
    task = desk.task("pair", "q", ("a", "b"))
    for rater, slot in (("ann", 0), ("ben", 1), ("cid", 0)):
        desk.say(rater, task, win(slot))
    folder = Path(write(desk, "pairs", tmp_path)["folder"])
    assert (
        "Left out here: 1 votes that were asked for because earlier ones disagreed"
        in (folder / "README.md").read_text()
    )
    assert json.loads((folder / "export.json").read_text())["agreement"][0]["judgments"] == 2
    desk.store.close()


def test_the_store_knows_its_exports(store, tmp_path):
    desk = Desk(store, overlap=3)
    a_bit_of_everything(desk)
    result = write(desk, "pairs", tmp_path / "out")
    with desk.store.read() as connection:
        (row,) = exports.listed(connection, desk.project)
    assert (row["id"], row["rows"], row["sha256"], row["created_by"]) == (result["id"], 1, result["sha256"], "boss")


def test_the_card_tells_of_raters_who_were_left_out(desk, tmp_path):
    for i in range(5):
        gold = desk.task("pair", f"gold {i}", ("x", "y"))
        make_gold(desk, gold, win(0))
        desk.say("poor", gold, win(1))
    task = desk.task("pair", "q", ("good", "bad"))
    for name, slot in (("ann", 0), ("poor", 1)):
        desk.say(name, task, win(slot))
    result = write(desk, "pairs", tmp_path / "out", labels={"min_reliability": 0.6})
    assert about(result)["raters_left_out"] == [{"reliability": 0.0, "right": 0, "n": 5, "by": "gold"}]
    assert result["dropped"] == {"votes_of_unreliable_raters": 1}
    assert "whose votes do not count: 1" in card(result)


def test_models_are_told_only_when_asked(desk):
    task = desk.task("pair", "q", ("good", "bad"), models=("big", "small"))
    desk.say("ann", task, win(0))
    assert "big" not in str(preview(desk, "pairs"))
    (row,) = preview(desk, "pairs", models=True)["rows"]
    assert (row["chosen_model"], row["rejected_model"]) == ("big", "small")


def test_held_out_prompts_are_on_one_side_and_stay_there(desk, tmp_path):
    for i in range(24):
        for pair in (("a", "b"), ("c", "d"))[: 1 + (i < 4)]:
            desk.say("ann", desk.task("pair", f"q{i}", pair), win(0))
        if i == 11:
            early = write(desk, "pairs", tmp_path / "out", held_out=0.25)
    late = write(desk, "pairs", tmp_path / "out", held_out=0.25)

    def prompts(result, side):
        return {record.prompt[0].content for record in read(result, side).records}

    assert not prompts(late, "train") & prompts(late, "held_out")
    assert prompts(early, "held_out") <= prompts(late, "held_out")
    assert 2 <= len(prompts(late, "held_out")) <= 12
    assert "split: test" in card(late)


def test_gzip(full, tmp_path):
    plain, zipped = (Path(write(full, "pairs", tmp_path / "out", gzip=z)["folder"]) for z in (False, True))
    assert gzip.decompress((zipped / "data.jsonl.gz").read_bytes()) == (plain / "data.jsonl").read_bytes()
    assert not (zipped / "data.jsonl").exists()


@pytest.mark.parametrize("start", [*"=+-@\t\r\n", *"＝＋－＠"])
def test_no_cell_of_the_csv_is_a_formula(desk, tmp_path, start):
    evil = f"{start}HYPERLINK(1)"
    desk.say("ann", desk.task("pair", evil, ("good", "bad")), win(0))
    folder = Path(write(desk, "pairs", tmp_path / "out", csv=True)["folder"])
    assert (folder / "data.csv").read_bytes()[:3] == b"\xef\xbb\xbf"  # Excel knows UTF-8 by it
    with (folder / "data.csv").open(newline="", encoding="utf-8-sig") as file:
        (row,) = csv.DictReader(file)
    assert row["prompt"] == "'" + evil
    assert json.loads((folder / "data.jsonl").read_text())["prompt"] == evil  # rows stay as they are
    assert pyarrow.parquet.read_table(folder / "data.parquet").to_pylist()[0]["prompt"] == evil


def test_no_csv_unless_asked(full, tmp_path):
    folder = Path(write(full, "pairs", tmp_path / "out")["folder"])
    assert sorted(one.name for one in folder.iterdir()) == ["README.md", "data.jsonl", "data.parquet", "export.json"]
    assert all(one.stat().st_mode & 0o077 == 0 for one in folder.iterdir())


def test_a_link_is_never_followed(full, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="no link"):
        write(full, "pairs", tmp_path / "link")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_failed_export_leaves_nothing(full, tmp_path, monkeypatch):
    def no_room(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", no_room)
    with pytest.raises(OSError, match="No space"):
        write(full, "pairs", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_long_texts_are_whole(desk):
    text = "가나다" * 50_000
    desk.say("ann", desk.task("pair", "q", (text, "bad")), win(0))
    assert preview(desk, "pairs")["rows"][0]["chosen"] == text


def test_an_unknown_layout(desk):
    with pytest.raises(Refused, match="no layout 'xml'; give one of pairs, trl"):
        preview(desk, "xml")


# ---------------------------------------------------------------------------------------------------- feedback:PROJECT


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        ("pairs", Preference), ("safer", Preference), ("ranks", Ranking), ("thumbs", Thumb), ("safety", Safety),
        ("scores", Rated), ("demonstrations", Demonstration), ("prompts", Prompt), ("answers", Answers),
    ],
)  # fmt: skip
def test_a_project_as_the_input_of_a_stage(full, tmp_path, form, kind):
    path = records_file(tmp_path / "store", "demo", form)
    assert path.parent == tmp_path / "store" / "records"
    loaded = read_records(path, kind)
    assert loaded.kind is kind
    assert loaded.records
    assert kind is not Answers or len(loaded.records[0].extra["response_ids"]) == 3


def test_a_form_holds_all_that_was_compared(desk, tmp_path):
    """Pairs, safety tasks, rankings and edits in one file, whose columns and prompts agree."""
    desk.say("ann", desk.task("pair", TURNS, ("good", "bad")), win(0))
    desk.say("ann", desk.task("safety", "s", ("x", "y")), safety([0, 1], 0, 0))
    desk.say("ann", desk.task("rank", "r", ("x", "y", "z")), rank(1, 2, 3))
    desk.say("ann", desk.task("edit", "e", ("no",)), {"kind": "edit", "text": "yes", "critique": ""})
    path = records_file(tmp_path / "store", "demo", "pairs")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["dimension"] for row in rows] == ["overall", "helpful", "overall", "overall", "overall", "edit"]
    assert len({tuple(row) for row in rows}) == 1
    assert all(isinstance(row[name], list) for row in rows for name in ("prompt", "chosen", "rejected"))
    assert [row["chosen_safe"] for row in rows] == [None, True, None, None, None, None]
    loaded = read_records(path, Preference)
    assert [record.prompt[-1].content for record in loaded.records] == ["세 번째", "s", "r", "r", "r", "e"]
    assert loaded.records[1].chosen == one("x")


def test_safety_keeps_what_raters_differ_about(desk, tmp_path):
    """Two raters of three call x unsafe; of the second task nothing but the labels is decided; of the third most call x
    unsafe, y safe, and x the safer one, though nobody says all three."""
    first, tied, against = (desk.task("safety", prompt, ("x", "y")) for prompt in ("p", "q", "r"))
    for who, of_x in (("ann", 2), ("ben", 1), ("eve", 0)):
        desk.say(who, first, safety([of_x, 0], 0, 1))
        desk.say(who, tied, safety([0, 0], None, None))
    for who, of_both, safer in (("ann", [1, 0], 1), ("ben", [1, 1], 0), ("eve", [0, 0], 0)):
        desk.say(who, against, safety(of_both, 0, safer))
    path = records_file(tmp_path / "store", "demo", "safety")
    found = {row.prompt[0].content: row for row in read_records(path, Safety).all_of(Safety)}
    assert set(found) == {"p", "q"}
    x = found["p"].completions.index(one("x"))
    assert (found["p"].unsafe[x], found["p"].unsafe[1 - x]) == (0.625, 0.125)  # (2 + ½) / 4, ½ / 4: smoothed votes
    assert (found["p"].ranks[x], found["p"].ranks[1 - x], found["p"].p_safer) == (2, 1, 0.875)
    assert (found["p"].severity[x], found["p"].severity[1 - x]) == (1.0, 0.0)
    assert (found["p"].categories[x], found["p"].categories[1 - x]) == (("Violence",), ())
    assert (found["q"].unsafe, found["q"].ranks, found["q"].p_safer) == ((0.125, 0.125), (), 1.0)


def test_what_a_form_leaves_out_is_said(full, tmp_path, monkeypatch):
    """Answers to imitate are of several layouts: edits come before answers that were only preferred."""
    said = []
    monkeypatch.setattr(stage_input.log, "warning", lambda words, *more: said.append(words % more))
    records_file(tmp_path / "store", "demo", "demonstrations")
    assert len(said) == 3
    assert "2 rows of the layout edits, while 1 of pairs are left out" in said[0]


def test_what_is_judged_later_changes_nothing_up_to_an_event(desk, tmp_path):
    """Neither the rows nor, where none is named, the form; known answers have no say in it."""
    for i in range(3):
        gold = desk.task("thumb", f"gold {i}", ("x",))
        make_gold(desk, gold, thumbs(True))
        desk.say("ann", gold, thumbs(True))
    desk.say("ann", desk.task("rank", "q", ("x", "y")), rank(1, 2))
    watermark = last_event_of(desk)
    before = records_file(tmp_path / "store", "demo", watermark=watermark)
    for i in range(3):
        desk.say("ann", desk.task("pair", f"q{i}", ("x", "y")), win(0))
    assert before.name.startswith("demo-ranks-")
    assert records_file(tmp_path / "store", "demo", watermark=watermark) == before
    assert records_file(tmp_path / "store", "demo").name.startswith("demo-pairs-")


def test_an_event_that_is_yet_to_come(desk, tmp_path):
    desk.say("ann", desk.task("pair", "q", ("x", "y")), win(0))
    newest = last_event_of(desk)
    sentence = f"watermark {newest + 1}: the newest judgment or withdrawal is event {newest}"
    with pytest.raises(Refused, match=sentence):
        write(desk, "pairs", tmp_path / "out", watermark=newest + 1)
    with pytest.raises(Refused, match=sentence):
        records_file(tmp_path / "store", "demo", "pairs", watermark=newest + 1)


def test_the_file_is_named_after_its_content(full, tmp_path):
    first = records_file(tmp_path / "store", "demo", "pairs")
    before, watermark = first.read_bytes(), last_event_of(full)
    full.say("ann", full.task("pair", "later", ("x", "y")), win(0))
    assert records_file(tmp_path / "store", "demo", "pairs") != first
    assert records_file(tmp_path / "store", "demo", "pairs", watermark=watermark) == first
    assert first.read_bytes() == before


def last_event_of(full) -> int:
    with full.store.read() as connection:
        return last_event(connection, full.project.id)


@pytest.mark.parametrize(
    ("kind", "answer", "form"), [("thumb", thumbs(True), "thumbs"), ("rank", rank(1, 2, 3), "ranks")]
)
def test_nothing_in_particular_is_what_was_judged_most(desk, tmp_path, kind, answer, form):
    texts = ("x",) if kind == "thumb" else ("x", "y", "z")
    desk.say("ann", desk.task(kind, "q", texts), answer)
    assert records_file(tmp_path / "store", "demo").name.startswith(f"demo-{form}-")


def test_what_is_not_there_yet(desk, tmp_path):
    desk.say("ann", desk.task("thumb", "q", ("x",)), thumbs(True))
    with pytest.raises(ConfigError, match="feedback:demo: holds no ranks yet"):
        records_file(tmp_path / "store", "demo", "ranks")
    with pytest.raises(ConfigError, match="feedback:demo/pears: write one of pairs, safer, ranks"):
        records_file(tmp_path / "store", "demo", "pears")
    with pytest.raises(Refused, match="no project 'other'"):
        records_file(tmp_path / "store", "other", "ranks")


def test_ranked_pairs_serve_where_nobody_compared_two(store, address, tmp_path):
    desk = Desk(store, overlap=3)
    desk.say("ann", desk.task("rank", "q", ("x", "y", "z")), rank(1, 2, 3))
    path = records_file(address, "demo", "pairs", folder=tmp_path / "cache")
    assert path.parent == tmp_path / "cache" / "records"
    assert len(read_records(path, Preference).records) == 3
