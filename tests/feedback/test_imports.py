"""Files of Argilla and Label Studio, and plain ones, as facts: who said what when, and what was not understood."""

from __future__ import annotations

import json
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import pytest
from feedback.judging import Desk, new_store
from sqlalchemy import select

from baro.errors import ConfigError
from baro.feedback import exports, schema
from baro.feedback.assign import claim
from baro.feedback.database import Store
from baro.feedback.derive import votes_of
from baro.feedback.imports import import_file, read_judged
from baro.feedback.labels import LabelSettings, pair_labels, rank_labels, score_labels

ARGILLA = [
    {
        "id": "1", "status": "completed", "updated_at": "2025-03-01T10:00:00+00:00",
        "fields": {"instruction": "수도는?", "response-1": "서울 🏙️", "response-2": "부산"},
        "suggestions": {"preference": {"value": "response-2", "agent": "model"}},
        "responses": {
            "preference": [
                {"value": "response-1", "user_id": "8c7e"},
                {"value": "tie", "user_id": "aa01"},
                {"value": "response-2", "user_id": "dead", "status": "discarded"},
            ],
            "why": [{"value": "It is the capital.", "user_id": "8c7e"}],
        },
    },
    {
        "id": "2", "fields": {"instruction": "rank", "response_a": "x", "response_b": "y", "response_c": "z"},
        "responses": {
            "ranking": [
                {"value": ["response_c", "response_a", "response_b"], "user_id": "8c7e"},
                {"value": [{"value": "response_a", "rank": 1}, {"value": "response_b", "rank": 1},
                           {"value": "response_c", "rank": 3}], "user_id": "aa01"},
            ]
        },
    },
    {
        "id": "3", "fields": {"prompt": "rate", "completion": "hello"},
        "responses": {
            "clarity": [{"value": 4, "user_id": "8c7e"}, {"value": 2, "user_id": "aa01"}],
            "tone": [{"value": 5, "user_id": "8c7e"}],
            "corrected": [{"value": "hello there", "user_id": "8c7e"}],
            "helpful": [{"value": "yes", "user_id": "aa01"}],
            "hallucination": [{"value": "no", "user_id": "aa01"}],
            "topic": [{"value": ["a", "b"], "user_id": "aa01"}],
        },
    },
    {"id": "4", "fields": {"nothing": "here"}, "responses": {}},
]  # fmt: skip

LABEL_STUDIO = [
    {
        "id": 7, "data": {"prompt": "which?", "answer1": "left one", "answer2": "right one"},
        "predictions": [{"id": 1}],
        "annotations": [
            {"id": 1, "completed_by": {"id": 3, "email": "kim@example.org"}, "lead_time": 12.5,
             "created_at": "2025-04-01T09:00:00.000000Z",
             "result": [{"type": "pairwise", "from_name": "pw", "value": {"selected": "right"}},
                        {"type": "textarea", "from_name": "why", "value": {"text": ["because"]}}]},
            {"id": 2, "completed_by": 4, "lead_time": 3.0, "was_cancelled": True, "result": []},
        ],
    },
    {
        "id": 8, "data": {"prompt": "sort", "items": [
            {"id": "big", "title": "A", "body": "long answer"}, {"id": "mid", "body": "middle"},
            {"id": "tiny", "body": "short"}]},
        "annotations": [{"completed_by": 4, "lead_time": 30, "created_at": "2025-04-01T09:00:00Z", "result": [
            {"type": "ranker", "value": {"ranker": {"rank": ["tiny", "big", "mid"]}}}]}],
    },
    {
        "id": 9, "data": {"text": "ask", "response": "one answer"},
        "annotations": [{"completed_by": 3, "lead_time": 5, "created_at": "2025-04-01T09:00:00Z", "result": [
            {"type": "choices", "from_name": "verdict", "value": {"choices": ["Good"]}},
            {"type": "rating", "from_name": "quality", "value": {"rating": 4}},
            {"type": "brushlabels", "from_name": "x", "value": {"format": "rle"}}]}],
    },
]  # fmt: skip


@pytest.fixture
def desk(tmp_path):
    store = new_store(tmp_path / "store")
    yield Desk(store)
    store.close()


def saved(tmp_path, name, content):
    path = tmp_path / name
    lines = [json.dumps(row, ensure_ascii=False) for row in content]
    path.write_text("\n".join(lines) if name.endswith(".jsonl") else f"[{','.join(lines)}]")
    return path


def bring(desk, path, form="auto"):
    return import_file(desk.store, desk.project, path, form)


def votes(desk):
    with desk.store.read() as connection:
        return votes_of(connection, desk.project.id)


@pytest.mark.parametrize("name", ["argilla.json", "argilla.jsonl"])
def test_argilla(desk, tmp_path, name):
    done = bring(desk, saved(tmp_path, name, ARGILLA))
    assert (done.form, done.judgments, done.known, done.raters) == ("argilla", 8, 0, 2)
    found = votes(desk)
    assert len(found.pairs) == 2
    assert {one.outcome for one in found.pairs} == {"win", "tie"}
    texts = {row.id: row.text for row in desk.do(lambda c: c.execute(select(schema.response)).all())}
    first = next(one for one in found.pairs if one.winner)
    assert texts[first.winner] == "서울 🏙️"
    assert first.judgment.comment == "It is the capital."
    assert first.judgment.ui_version == "argilla"
    assert first.judgment.submitted_ms == 1_740_823_200_000
    ranks = [[one.ranks[r] for r in one.judgment.task.responses] for one in found.ranks]
    assert sorted(ranks) == [[1, 1, 2], [2, 3, 1]]
    (scores,) = score_labels(found, LabelSettings()).rows
    assert scores.scores == {"clarity": 3.0, "tone": 5.0}
    assert texts[found.edits[0].edited] == "hello there"
    assert [one.good for one in found.thumbs] == [True]


def test_what_argilla_says_that_is_not_understood(desk, tmp_path):
    ledger = bring(desk, saved(tmp_path, "argilla.json", ARGILLA)).ledger
    assert [str(one) for one in ledger.dropped] == [
        "argilla.json:3: the answer 'no' to the question 'hallucination' fits no kind of judgment",
        "argilla.json:3: the answer ['a', 'b'] to the question 'topic' fits no kind of judgment",
        "argilla.json:4: holds no prompt with answers beside it",
    ]
    assert [one.reason for one in ledger.repeated] == ["suggestion", "discarded"]
    assert ledger.kept == 8


@pytest.mark.parametrize(
    "record",
    [
        {"fields": {"prompt": "q", "response_1": "x", "response_2": "y"},
         "responses": [{"user_id": "u", "status": "submitted", "values": {"best": {"value": "response_2"}}},
                       {"user_id": "v", "status": "draft", "values": {"best": {"value": "response_1"}}}]},
        {"prompt": "q", "response_1": "x", "response_2": "y", "best.responses": ["response_2", "response_1"],
         "best.responses.users": ["u", "v"], "best.responses.status": ["submitted", "discarded"]},
        {"fields": {"prompt": "q", "response_1": "x", "response_2": "y"},
         "responses": {"best": [{"value": [{"value": "2", "rank": 1}, {"value": "1", "rank": 2}], "user_id": "u"}]}},
    ],
)  # fmt: skip
def test_other_forms_of_argilla(tmp_path, record):
    form, (one,), ledger = read_judged(saved(tmp_path, "a.jsonl", [record]))
    assert form == "argilla"
    assert (one.answer.kind, one.answer.choice.position, one.rater) == ("pair", 1, "u")
    assert not ledger.dropped


def test_label_studio(desk, tmp_path):
    done = bring(desk, saved(tmp_path, "export.json", LABEL_STUDIO))
    assert (done.form, done.judgments, done.tasks, done.raters) == ("label-studio", 4, 4, 2)
    found = votes(desk)
    (pair,) = found.pairs
    assert pair.position == 1
    assert pair.winner == pair.judgment.task.responses[1]
    judgment = pair.judgment
    assert (judgment.active_ms, judgment.comment, judgment.ui_version) == (12_500, "because", "label-studio")
    assert judgment.submitted_ms - judgment.opened_ms == 12_500
    (ranking,) = found.ranks
    assert [ranking.ranks[one] for one in ranking.judgment.task.responses] == [2, 3, 1]
    assert [one.good for one in found.thumbs] == [True]
    assert [one.score for one in found.scores] == [4]
    assert sorted(one.active_ms for one in found.judgments) == [0, 5_000, 12_500, 30_000]
    assert [one.reason for one in done.ledger.repeated] == ["prediction", "skipped"]
    assert ["brushlabels" in str(one) for one in done.ledger.dropped] == [True]


def test_nobody_keeps_a_name(desk, tmp_path):
    bring(desk, saved(tmp_path, "export.json", LABEL_STUDIO))
    rows = desk.do(lambda c: c.execute(select(schema.rater)).all())
    assert all(row.pseudonym.startswith("label-studio-") and len(row.pseudonym) == 21 for row in rows)
    everything = str([desk.do(lambda c, t=t: c.execute(select(t)).all()) for t in schema.metadata.sorted_tables])
    assert "kim@example.org" not in everything


@pytest.mark.parametrize("rows", [ARGILLA, LABEL_STUDIO])
def test_twice_is_once(store, tmp_path, rows):
    desk = Desk(store)
    path = saved(tmp_path, "export.json", rows)
    first, second = bring(desk, path), bring(desk, path)
    assert (second.judgments, second.known, second.tasks) == (0, first.judgments, 0)
    assert len(votes(desk).judgments) == first.judgments


PLAIN = {
    "pairs.jsonl": [{"prompt": "q", "chosen": "good", "rejected": "bad"},
                    {"prompt": "q2", "chosen": "x", "rejected": "y", "p_chosen": 0.2}],
    "ranks.jsonl": [{"prompt": "q", "responses": ["a", "b", "c"], "ranks": [1, 3, 3]}],
    "thumbs.jsonl": [{"prompt": "q", "completion": "a", "label": False}],
    "scores.jsonl": [{"prompt": "q", "response": "a", "helpfulness": 4, "verbosity": 0}],
}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_plain_files_are_one_raters_judgments(desk, tmp_path, name):
    done = bring(desk, saved(tmp_path, name, PLAIN[name]))
    assert (done.form, done.judgments, done.ledger.dropped) == ("plain", len(PLAIN[name]), [])
    (rater,) = desk.do(lambda c: c.execute(select(schema.rater.c.pseudonym)).scalars().all())
    assert rater == name.removesuffix(".jsonl")
    found = votes(desk)
    texts = {row.id: row.text for row in desk.do(lambda c: c.execute(select(schema.response)).all())}
    match rater:
        case "pairs":
            labels = pair_labels(found, "overall", LabelSettings()).rows
            assert [(texts[one.chosen], texts[one.rejected]) for one in labels] == [("good", "bad"), ("y", "x")]
        case "ranks":
            assert rank_labels(found, LabelSettings()).rows[0].ranks == (1, 2, 2)
        case "thumbs":
            assert found.thumbs[0].good is False
        case "scores":
            assert {one.criterion: one.score for one in found.scores} == {"helpfulness": 4, "verbosity": 0}


def test_what_is_imported_is_exported_again(desk, tmp_path):
    bring(desk, saved(tmp_path, "pairs.jsonl", PLAIN["pairs.jsonl"]))
    with desk.store.read() as connection:
        rows = exports.preview(connection, desk.project, "pairs", {"labels": {"method": "majority"}})["rows"]
    assert [(row["prompt"], row["chosen"], row["rejected"]) for row in rows] == [("q", "good", "bad"), ("q2", "y", "x")]


def test_two_files_about_the_same_answers_are_two_votes_on_one_task(desk, tmp_path):
    bring(desk, saved(tmp_path, "ann.jsonl", PLAIN["pairs.jsonl"][:1]))
    other = [{"prompt": "q", "chosen": "bad", "rejected": "good"}]
    done = bring(desk, saved(tmp_path, "ben.jsonl", other))
    assert (done.judgments, done.tasks) == (1, 0)
    one, two = votes(desk).pairs
    assert one.judgment.task is two.judgment.task
    assert one.winner != two.winner


def test_rows_that_no_task_can_hold(desk, tmp_path):
    rows = [
        {"prompt": "q", "chosen": "same", "rejected": "same"},
        {"prompt": "q", "chosen": "fine", "rejected": "nul \0"},
        {"prompt": "q", "chosen": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"},
                                   {"role": "assistant", "content": "c"}], "rejected": "x"},
    ]  # fmt: skip
    ledger = bring(desk, saved(tmp_path, "odd.jsonl", rows)).ledger
    assert sorted(one.reason for one in ledger.dropped) == ["cannot be stored", "does not fit", "same text"]


def test_scores_off_a_known_scale(desk, tmp_path):
    bring(desk, saved(tmp_path, "scores.jsonl", PLAIN["scores.jsonl"]))  # helpfulness from 1 to 5
    more = [{"prompt": "q", "response": "b", "helpfulness": 9, "verbosity": 0}]
    ledger = bring(desk, saved(tmp_path, "more.jsonl", more)).ledger
    assert [str(one) for one in ledger.dropped] == [
        "more.jsonl:1: criterion 'helpfulness' goes from 1 to 5 in this project"
    ]


def test_a_second_judgment_is_a_revision_where_a_tool_tells_who_and_when(desk, tmp_path):
    """One user with two annotations in one file, and an annotation that was changed before the next export."""

    def task(*annotations):
        made = {"data": {"prompt": "q", "answer1": "x", "answer2": "y"}, "annotations": []}
        for side, at in annotations:
            said = [{"type": "pairwise", "value": {"selected": side}}]
            made["annotations"] += [{"completed_by": 3, "lead_time": 1, "created_at": at, "result": said}]
        return saved(tmp_path, "export.json", [made])

    one, two, three = (
        ("left", "2025-04-01T09:00:00Z"),
        ("right", "2025-04-02T09:00:00Z"),
        ("left", "2025-04-03T09:00:00Z"),
    )
    for given, judgments, known, position in (
        ([one, two], 2, 0, 1), ([one, two], 0, 2, 1), ([one, two, three], 1, 2, 0), ([two], 0, 1, 0),
    ):  # fmt: skip
        done = bring(desk, task(*given))
        assert (done.judgments, done.known, done.ledger.dropped) == (judgments, known, [])
        assert [pair.position for pair in votes(desk).pairs] == [position]
    rows = desk.do(lambda c: c.execute(select(schema.judgment).order_by(schema.judgment.c.event_id)).all())
    assert [(row.revision, row.action) for row in rows] == [(1, "submit"), (2, "revise"), (3, "revise")]


def annotated(*annotations, **more):
    """A task of Label Studio's, with what one person chose and when."""
    made = {"data": {"prompt": "q", "answer1": "x", "answer2": "y"}, "annotations": []}
    for side, day in annotations:
        said = [{"type": "pairwise", "value": {"selected": side}}]
        at = f"2025-{day}T09:00:00Z"
        made["annotations"] += [{"completed_by": 3, "lead_time": 1, "created_at": at, "result": said} | more]
    return made


def test_an_older_export_changes_nothing(desk, tmp_path):
    """March's first, then February's; and within one file what was said last comes first."""
    for i, (days, judgments, older) in enumerate(
        [(("03-01",), 1, 0), (("02-01",), 0, 1), (("03-01",), 0, 0), (("05-01", "04-01"), 2, 0)]
    ):
        sides = {"02-01": "left", "03-01": "right", "04-01": "left", "05-01": "right"}
        rows = [annotated((sides[day], day)) for day in days]
        done = bring(desk, saved(tmp_path, f"{i}.json", rows))
        assert (done.judgments, done.ledger.dropped) == (judgments, [])
        assert [one.reason for one in done.ledger.repeated] == ["older"] * older
        assert [pair.position for pair in votes(desk).pairs] == [1]


def test_one_name_in_two_forms_of_unicode_is_one_person(desk, tmp_path):
    rows = [{"prompt": "q", "chosen": "a", "rejected": "b"}]
    for form in ("NFC", "NFD"):
        bring(desk, saved(tmp_path, unicodedata.normalize(form, "평가.jsonl"), rows))
    assert desk.do(lambda c: c.execute(select(schema.rater.c.pseudonym)).scalars().all()) == ["평가"]


@pytest.mark.parametrize(("seconds", "ms"), [(3e7, 86_400_000), (-1, 0), (1e300, 86_400_000)])
def test_a_page_that_stayed_open_for_a_month(store, tmp_path, seconds, ms):
    desk = Desk(store)
    done = bring(desk, saved(tmp_path, "export.json", [annotated(("left", "03-01"), lead_time=seconds)]))
    assert (done.judgments, [one.active_ms for one in votes(desk).judgments]) == (1, [ms])


def test_a_claim_at_the_same_moment_takes_the_place(postgres, postgres_url, tmp_path):
    """The import waits for it, and its judgment is one beyond the places."""
    store = Store.open(postgres_url, create=True)
    desk = Desk(store, overlap=1)
    desk.task("pair", "q", ("a", "b"))
    path = saved(tmp_path, "pairs.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "b"}])
    with ThreadPoolExecutor(1) as pool:

        def work(c):
            assert claim(c, desk.rater("ann"), desk.project) is not None
            imported = pool.submit(bring, desk, path)
            deadline = time.monotonic() + 30
            while not postgres.ask("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
                assert not imported.done()
                assert time.monotonic() < deadline
            return imported

        desk.rater("ann")
        assert store.write(work).result().judgments == 1
    states = desk.do(lambda c: c.execute(select(schema.assignment.c.state)).scalars().all())
    assert sorted(states) == ["extra", "leased"]
    assert desk.do(lambda c: c.execute(select(schema.task.c.places)).scalars().all()) == [0]
    store.close()


def test_a_plain_file_that_judges_twice(desk, tmp_path):
    """Its rows are by nobody knows whom, in no order: the first counts, and the others are named."""
    rows = [
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"prompt": "q", "chosen": "b", "rejected": "a"},
        {"prompt": "q", "chosen": "a", "rejected": "b"},
    ]
    for judgments in (1, 0):
        done = bring(desk, saved(tmp_path, "pairs.jsonl", rows))
        assert (done.judgments, done.known) == (judgments, 1 - judgments)
        assert [str(one) for one in done.ledger.dropped] == [
            "pairs.jsonl:2: pairs.jsonl:1 is another judgment of the same answers by the same rater"
        ]
        assert [str(one) for one in done.ledger.repeated] == ["pairs.jsonl:3: says again what pairs.jsonl:1 says"]
    changed = bring(desk, saved(tmp_path, "pairs.jsonl", rows[1:2]))
    assert (changed.judgments, changed.ledger.dropped) == (1, [])
    texts = {row.id: row.text for row in desk.do(lambda c: c.execute(select(schema.response)).all())}
    (pair,) = votes(desk).pairs
    assert texts[pair.winner] == "b"
    assert pair.judgment.shown[pair.position] == pair.winner


def test_a_plain_file_tells_no_side(desk, tmp_path):
    """Its chosen answer stands first in every row; nobody clicked on the left all day."""
    rows = [{"prompt": f"q{i}", "chosen": "a", "rejected": "b"} for i in range(60)]
    bring(desk, saved(tmp_path, "pairs.jsonl", rows))
    pairs = votes(desk).pairs
    assert 15 < sum(pair.position == 0 for pair in pairs) < 45
    assert all(pair.judgment.shown[pair.position] == pair.winner for pair in pairs)


def test_what_was_judged_here_stays(desk, tmp_path):
    """A file that is called as somebody who has judged the same task on the page."""
    task = desk.task("pair", "q", ["a", "b"])
    desk.say("ann", task, {"kind": "pair", "choice": {"outcome": "tie"}})
    done = bring(desk, saved(tmp_path, "ann.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "b"}]))
    assert (done.judgments, [one.reason for one in done.ledger.dropped]) == (0, ["judged here"])
    assert [pair.outcome for pair in votes(desk).pairs] == ["tie"]


def test_what_cannot_be_stored_leaves_nothing_behind(desk, tmp_path):
    rows = [
        {"prompt": "nowhere", "chosen": "fine", "rejected": "nul \0"},
        {"prompt": "q", "chosen": "a", "rejected": "b"},
    ]
    assert bring(desk, saved(tmp_path, "odd.jsonl", rows)).judgments == 1
    assert desk.do(lambda c: c.execute(select(schema.prompt.c.messages)).scalars().all()) == [
        [{"role": "user", "content": "q"}]
    ]


def test_a_file_that_nobody_judged(desk, tmp_path):
    with pytest.raises(ConfigError, match=r"prompts.jsonl: holds prompts, which nobody has judged"):
        bring(desk, saved(tmp_path, "prompts.jsonl", [{"prompt": "q"}]))


def test_judgments_about_an_empty_prompt_are_dropped(desk, tmp_path):
    """Whatever tool they come from; what else is in the file is kept, and no criteria are made for what is dropped."""
    pairs = [{"prompt": text, "chosen": "a", "rejected": "b"} for text in ("", "which?", " \n")]
    done = bring(desk, saved(tmp_path, "pairs.jsonl", pairs))
    assert [one.key for one in done.ledger.dropped] == ["pairs.jsonl:1", "pairs.jsonl:3"]
    assert {one.reason for one in done.ledger.dropped} == {"empty prompt"}
    assert (done.judgments, done.ledger.kept, done.ledger.rows) == (1, 1, 3)
    record = {"id": "1", "fields": {"instruction": "", "response": "x"}}
    record |= {"responses": {"depth": [{"value": 4, "user_id": "a"}]}}
    done = bring(desk, saved(tmp_path, "argilla.json", [record]), "argilla")
    assert (done.judgments, done.raters, [one.reason for one in done.ledger.dropped]) == (0, 0, ["empty prompt"])
    task = {"data": {"prompt": " ", "answer1": "x", "answer2": "y"}}
    said = [{"type": "pairwise", "from_name": "pw", "value": {"selected": "left"}}]
    task |= {"annotations": [{"completed_by": 1, "lead_time": 1, "result": said}]}
    done = bring(desk, saved(tmp_path, "studio.json", [task]), "label-studio")
    assert (done.judgments, [one.reason for one in done.ledger.dropped]) == (0, ["empty prompt"])
    assert desk.do(lambda c: c.execute(select(schema.criterion)).all()) == []
    assert len(desk.do(lambda c: c.execute(select(schema.prompt)).all())) == 1
