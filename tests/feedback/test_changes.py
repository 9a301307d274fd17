"""What a manager takes back: states of a project, tasks by what they are, prompts, and texts that have to go."""

import json
from pathlib import Path

import pytest
from feedback.judging import Desk, neither, new_store, rank, thumbs, win
from feedback.store_work import broken
from sqlalchemy import select

from baro.feedback import again, ask, assign, changes, exports, gold, judge, panel, project, schema
from baro.feedback.answers import Submission
from baro.feedback.changes import Change, Chosen
from baro.feedback.derive import last_event, votes_of
from baro.feedback.people import Rater
from baro.feedback.redaction import redact
from baro.feedback.refusals import Refused
from baro.feedback.stage_input import rows_of
from baro.feedback.withdrawals import withdraw_prompts
from baro.records import Message

SECRET = "010-1234-5678 Hong"


@pytest.fixture
def desk(store):
    return Desk(store)


def change(desk, action, value=None, **which):
    return changes.change_tasks(
        desk.store, desk.project, Chosen(**which), Change(action=action, value=value), "a manager"
    )


def row(desk, task):
    with desk.store.read() as connection:
        return connection.execute(select(schema.task).where(schema.task.c.id == task)).one()


def roles(desk, **options):
    with desk.store.read() as connection:
        return [one.role for one in votes_of(connection, desk.project.id, **options).judgments]


def whole(desk):
    with desk.store.read() as connection:
        return broken(connection)


# --------------------------------------------------------------------------------------------------------- many at once


@pytest.fixture
def several(desk):
    """Two pairs, one judged twice and one begun; two rankings of higher priority; a thumb from elsewhere."""
    found = {
        "full": desk.task("pair", "q1", ("a", "b")),
        "begun": desk.task("pair", "q2", ("a", "b")),
        "high": desk.task("rank", "q3", ("a", "b", "c"), priority=5),
        "other": desk.task("rank", "q4", ("a", "b", "c"), priority=5),
    }
    for rater in ("ann", "ben"):
        desk.say(rater, found["full"], win(0))
    desk.say("ann", found["begun"], win(1))

    def elsewhere(connection):
        made, _ = project.add_prompt(connection, desk.project.id, (Message("user", "q5"),), "elsewhere")
        one, _ = project.add_response(connection, made, None, "a")
        return project.add_task(connection, desk.project, "thumb", made, [one])

    return found | {"thumb": desk.store.write(elsewhere)}


@pytest.mark.parametrize(
    ("which", "names"),
    [
        ({}, {"full", "begun", "high", "other", "thumb"}),
        ({"kind": "pair"}, {"full", "begun"}),
        ({"source": "elsewhere"}, {"thumb"}),
        ({"source": "test", "kind": "rank"}, {"high", "other"}),
        ({"priority": 5}, {"high", "other"}),
        ({"state": "full"}, {"full"}),
        ({"state": "open"}, {"begun", "high", "other", "thumb"}),
        ({"state": "open", "kind": "pair"}, {"begun"}),
    ],
)
def test_tasks_are_chosen_by_what_they_are(desk, several, which, names):
    with desk.store.read() as connection:
        told = changes.preview(connection, desk.project, Chosen(**which), Change(action="close"))
    assert (told["tasks"], told["changed"]) == (len(names), len(names))
    assert change(desk, "close", **which)["changed"] == len(names)
    assert {name for name, task in several.items() if not row(desk, task).open} == names
    assert {name for name, task in several.items() if row(desk, task).open} == set(several) - names
    assert change(desk, "close", **which)["changed"] == 0
    assert whole(desk) == []


def test_a_preview_tells_what_it_is_about(desk, several):
    desk.do(assign.claim, desk.rater("cid"), desk.project)  # one of the rankings, which come first
    with desk.store.read() as connection:
        told = changes.preview(connection, desk.project, Chosen(), Change(action="withdraw"))
    assert told == {"tasks": 5, "changed": 5, "judgments": 3, "in_hand": 1}


def test_what_is_closed_is_not_handed_out_and_what_is_reopened_is(desk, several):
    change(desk, "close", state="open")
    assert desk.do(assign.claim, desk.rater("cid"), desk.project) is None
    change(desk, "reopen", kind="pair")
    lease = desk.do(assign.claim, desk.rater("cid"), desk.project)
    with desk.store.read() as connection:
        held = select(schema.assignment.c.task_id).where(schema.assignment.c.id == lease.assignment_id)
        assert connection.execute(held).scalar_one() == several["begun"]
        assert panel.progress(connection, desk.project)["tasks"]["closed"] == 3
    assert roles(desk) == ["vote"] * 3


def test_a_priority_decides_what_comes_first(desk, several):
    change(desk, "priority", 9, tasks=(several["thumb"],))
    lease = desk.do(assign.claim, desk.rater("cid"), desk.project)
    with desk.store.read() as connection:
        held = select(schema.assignment.c.task_id).where(schema.assignment.c.id == lease.assignment_id)
        assert connection.execute(held).scalar_one() == several["thumb"]


def test_an_overlap_is_never_less_than_what_is_there(desk, several):
    done = change(desk, "overlap", 1)
    assert {name: (row(desk, task).overlap, row(desk, task).places) for name, task in several.items()} == {
        "full": (2, 0), "begun": (1, 0), "high": (1, 1), "other": (1, 1), "thumb": (1, 1),
    }  # fmt: skip
    assert (done["changed"], done["same"]) == (4, 1)
    change(desk, "overlap", 3, kind="pair")
    assert (row(desk, several["full"]).overlap, row(desk, several["full"]).places) == (3, 1)
    assert whole(desk) == []


def test_undo_gives_every_task_what_it_had(desk, several):
    before = {name: row(desk, task) for name, task in several.items()}
    done = [change(desk, "overlap", 1), change(desk, "priority", 7), change(desk, "close"), change(desk, "withdraw")]
    change(desk, "priority", 8, tasks=(several["high"],))  # somebody else's, which stays
    events = [number for one in done for number in one["events"]]
    told = changes.undo(desk.store, desk.project, events, "a manager")
    assert (told["changed"], told["same"]) == (4 + 4 + 5 + 5, 1)
    for name, task in several.items():
        now = row(desk, task)
        assert now.priority == (8 if name == "high" else before[name].priority)
        assert (now.open, now.withdrawn, now.overlap) == (True, False, before[name].overlap)
    assert changes.undo(desk.store, desk.project, told["events"], "a manager")["changed"] > 0
    assert row(desk, several["full"]).withdrawn
    with pytest.raises(Refused, match="event 1 is no change of this project that can be undone"):
        changes.undo(desk.store, desk.project, [1], "a manager")
    assert whole(desk) == []


def test_an_undone_overlap_below_the_wish_comes_back(desk):
    task = desk.task("pair", "q", ("a", "b"), overlap=5)
    for rater in ("ann", "ben", "cid"):
        desk.say(rater, task, win(0))
    done = change(desk, "overlap", 2)
    assert (row(desk, task).overlap, row(desk, task).first_overlap) == (3, 3)
    changes.undo(desk.store, desk.project, done["events"], "a manager")
    assert (row(desk, task).overlap, row(desk, task).first_overlap, row(desk, task).places) == (5, 5, 2)


def test_a_wish_of_the_managers_is_no_vote_asked_for_by_disagreement(tmp_path):
    """What raters disagreed on has asked for a third vote; more that the manager wants of it comes after that one."""
    desk = Desk(new_store(tmp_path), overlap=2, max_overlap=3)
    plain, divided = (desk.task("pair", name, ("a", "b")) for name in ("plain", "divided"))
    desk.say("ann", divided, win(0))
    desk.say("ben", divided, win(1))
    change(desk, "overlap", 5)
    assert [(row(desk, one).overlap, row(desk, one).first_overlap) for one in (plain, divided)] == [(5, 5), (5, 2)]
    change(desk, "overlap", 1)
    assert [(row(desk, one).overlap, row(desk, one).first_overlap) for one in (plain, divided)] == [(1, 1), (2, 2)]
    desk.store.close()


def test_what_was_asked_again_or_has_a_known_answer_is_left(desk, several):
    desk.do(project.publish_guideline, desk.project, "en", "read", "test")
    desk.do(again.ask_again, desk.project, again.Choice(kinds=("pair",)), "test")
    assert not row(desk, several["full"]).open
    with desk.store.read() as connection:
        told = changes.preview(connection, desk.project, Chosen(), Change(action="reopen"))
    assert told["changed"] == 0
    assert change(desk, "reopen")["changed"] == 0
    known = desk.do(gold.add_gold, desk.project, several["high"], rank(1, 2, 3), "test")
    with pytest.raises(Refused, match="has a known answer; replace that, or withdraw it first"):
        change(desk, "close", tasks=(known,))
    change(desk, "close")
    assert row(desk, known).open
    with pytest.raises(Refused, match="there is no task 'nowhere' in this project"):
        change(desk, "close", tasks=("nowhere",))


def test_what_a_manager_closed_is_not_asked_again(desk, several):
    change(desk, "close", tasks=(several["full"],))
    desk.do(project.publish_guideline, desk.project, "en", "read", "test")
    assert desk.do(again.ask_again, desk.project, again.Choice(), "test")["tasks"] == 1


@pytest.mark.parametrize(
    ("action", "value", "sentence"),
    [
        ("overlap", None, "overlap takes a value"),
        ("close", 3, "close takes no value"),
        ("overlap", 51, "overlap lies between 1 and 50, and this is 51"),
        ("priority", 10**9, "priority lies between -1,000,000 and 1,000,000"),
    ],
)
def test_a_change_is_whole(action, value, sentence):
    with pytest.raises(ValueError, match=sentence):
        Change(action=action, value=value)


# ------------------------------------------------------------------------------------------------- the project's state


@pytest.mark.parametrize("state", ["paused", "ended"])
def test_nothing_is_handed_out_and_nothing_is_lost(desk, state):
    task = desk.task("pair", "q", ("a", "b"))
    ann, ben = desk.rater("ann"), desk.rater("ben")
    leases = [desk.do(assign.claim, one, desk.project) for one in (ann, ben)]
    desk.do(assign.save_draft, leases[1].assignment_id, ben.id, leases[1].secret, 0, {"kind": "pair"})
    told = desk.do(changes.set_state, desk.project, state, "a manager")
    assert told == {"state": state, "leases": 2 if state == "ended" else 0}
    assert desk.do(changes.set_state, desk.project, state, "a manager")["leases"] == 0
    with pytest.raises(Refused) as refused:
        desk.do(assign.claim, ben, desk.project)
    assert refused.value.code == state
    given = Submission.model_validate({"lease": leases[0].secret, "key": "key-00001", "answer": win(0)})
    assert desk.do(judge.submit, leases[0].assignment_id, ann.id, given).new
    assert roles(desk) == ["vote"]
    assert row(desk, task).places == (0 if state == "paused" else 1)
    desk.do(changes.set_state, desk.project, "open", "a manager")
    lease = desk.do(assign.claim, ben, desk.project)
    with desk.store.read() as connection:
        kept = select(schema.draft.c.answer).where(schema.draft.c.assignment_id == lease.assignment_id)
        assert connection.execute(kept).scalar_one() == {"kind": "pair"}
        actions = connection.execute(
            select(schema.event.c.action).where(schema.event.c.entity == "project").order_by(schema.event.c.id)
        )
        assert list(actions.scalars()) == ["create", {"paused": "pause", "ended": "end"}[state], "resume"]
    assert whole(desk) == []
    with pytest.raises(Refused, match="a project is open, paused or ended, not 'gone'"):
        desk.do(changes.set_state, desk.project, "gone", "a manager")


# --------------------------------------------------------------------------------------------------------- withdrawing


def exported(desk, folder, layout="pairs", **settings):
    done = exports.write(desk.store, desk.project, layout, settings, folder, "test")
    about = json.loads((Path(done["folder"]) / "export.json").read_text())
    lines = [json.loads(line) for line in (Path(done["folder"]) / "data.jsonl").read_text().splitlines()]
    return lines, about, done["sha256"]


@pytest.mark.parametrize("of", ["task", "prompt"])
def test_what_is_withdrawn_makes_no_label_and_is_told(desk, tmp_path, of):
    tasks = [desk.task("pair", f"q{i}", ("a", "b")) for i in range(2)]
    for task in tasks:
        for rater in ("ann", "ben"):
            desk.say(rater, task, win(0))
    before, _, digest = exported(desk, tmp_path)
    with desk.store.read() as connection:
        watermark = last_event(connection, desk.project.id)
    if of == "task":
        done = change(desk, "withdraw", tasks=(tasks[0],))
        assert done["changed"] == 1
    else:
        prompt = row(desk, tasks[0]).prompt_id
        told = desk.do(withdraw_prompts, desk.project, [prompt], "a manager", why="wrong language")
        assert told == {"prompts": 1, "tasks": 1, "judgments": 2}
    lines, about, _ = exported(desk, tmp_path)
    assert (len(before), len(lines)) == (2, 1)
    assert about["judgments"] == {"vote": 2, "withdrawn": 2}
    assert about["dropped"] == {"withdrawn": 2}
    assert about["agreement"][0]["items"] == 1
    assert exported(desk, tmp_path, watermark=watermark)[2] == digest  # what was said up to then, counted as then
    facts = [one["role"] for one in exported(desk, tmp_path, "facts")[0]]
    assert facts.count("withdrawn") == 2
    assert len(facts) == 4
    with desk.store.read() as connection:
        assert panel.progress(connection, desk.project)["tasks"]["withdrawn"] == 1
        for form, rows in (("pairs", 1), ("prompts", 2 if of == "task" else 1)):
            assert len(rows_of(connection, desk.project, form, exports.ExportSettings())) == rows
    if of == "task":
        change(desk, "restore", tasks=(tasks[0],))
    else:
        desk.do(withdraw_prompts, desk.project, [prompt], "a manager", withdrawn=False)
    assert len(exported(desk, tmp_path)[0]) == 2
    assert whole(desk) == []


def test_what_is_withdrawn_is_not_handed_out_settled_or_made_anew(desk):
    task = desk.task("pair", "q", ("a", "b"))
    ann = desk.rater("ann")
    lease = desk.do(assign.claim, ann, desk.project)
    prompt = row(desk, task).prompt_id
    desk.do(withdraw_prompts, desk.project, [prompt], "a manager")
    assert (row(desk, task).withdrawn, row(desk, task).places) == (True, 2)
    assert desk.do(assign.claim, ann, desk.project) is None
    given = Submission.model_validate({"lease": lease.secret, "key": "key-00001", "answer": win(0)})
    assert desk.do(judge.submit, lease.assignment_id, ann.id, given).new  # who was at it loses nothing
    assert roles(desk) == ["withdrawn"]
    settler = Rater(desk.rater("eve").id, "eve", "en")
    with pytest.raises(Refused, match="this task was withdrawn"):
        desk.do(assign.lease_to_adjudicate, task, settler, desk.project)
    desk.responses("q", ("c", "d"))
    done = desk.do(project.make_tasks, desk.project, "pair", per_prompt=9)
    assert (done.added, [str(one) for one in done.refused]) == (0, [f"prompt {prompt} is withdrawn"])
    assert desk.do(ask.select, desk.project, "pair", 5, policy="random")["added"] == 0
    with pytest.raises(Refused, match="no task can be made of this"):
        desk.task("pair", "q", ("a", "c"))
    assert whole(desk) == []


def test_a_task_that_was_withdrawn_before_its_prompt_stays_so(desk):
    one, other = desk.task("pair", "q", ("a", "b")), desk.task("pair", "q", ("a", "c"))
    prompt = row(desk, one).prompt_id
    change(desk, "withdraw", tasks=(one,))
    desk.do(withdraw_prompts, desk.project, [prompt], "a manager")
    assert change(desk, "restore")["changed"] == 0  # the prompt's doing
    event = desk.do(lambda c: c.execute(select(schema.withdrawal.c.event_id).order_by(schema.withdrawal.c.event_id))
                    .scalars().all())[-1]  # fmt: skip
    changes.undo(desk.store, desk.project, [event], "a manager")
    assert (row(desk, one).withdrawn, row(desk, other).withdrawn) == (True, False)


def test_withdrawn_judgments_measure_nobody(desk):
    task = desk.task("pair", "q", ("a", "b"))
    known = desk.do(gold.add_gold, desk.project, task, win(0), "test")
    desk.say("ann", known, win(1))
    with desk.store.read() as connection:
        assert panel.raters(connection, desk.project)[0]["gold"]["n"] == 1
    desk.do(withdraw_prompts, desk.project, [row(desk, task).prompt_id], "a manager")
    with desk.store.read() as connection:
        assert panel.raters(connection, desk.project)[0]["gold"]["n"] == 0


# ------------------------------------------------------------------------------------------------------------ removing


def everything(store):
    """All that a store holds, as text; of SQLite the bytes of its files, too."""
    with store.read() as connection:
        rows = [list(connection.execute(select(table)).all()) for table in schema.metadata.sorted_tables]
    found = repr(rows)
    if store.file is not None:
        files = [one.read_bytes() for one in store.file.parent.glob(f"{store.file.name}*")]
        found += b"".join(files).decode("utf-8", "replace")
    return found


def removable(desk, what):
    """The id of something that holds the secret, and the task that it is about."""
    if what == "prompt":
        turns = [{"role": "system", "content": "be kind"}, {"role": "user", "content": f"call {SECRET}"}]
        task = desk.task("pair", turns, ("a", "b"))
        return row(desk, task).prompt_id, task
    if what == "response":
        task = desk.task("pair", "q", (f"call {SECRET}", "b"))
        with desk.store.read() as connection:
            one = select(schema.response.c.id).where(schema.response.c.text.contains(SECRET))
            return connection.execute(one).scalar_one(), task
    if what == "edit":
        task = desk.task("edit", "q", ("a",))
        answer = {"kind": "edit", "position": 0, "text": f"call {SECRET}", "critique": "", "spans": []}
        desk.say("ann", task, answer)
        with desk.store.read() as connection:
            return connection.execute(select(schema.judged_edit.c.edited_id)).scalar_one(), task
    if what == "thumb":
        task = desk.task("thumb", "q", ("a",))
        answer = thumbs(True)
        answer["thumbs"][0]["reasons"] = [SECRET]
        assignment = desk.say("ann", task, answer)
    elif what == "critique":
        task = desk.task("edit", "q", ("a long answer",))
        spans = [{"start": 0, "end": 1, "note": f"of {SECRET}"}]
        answer = {"kind": "edit", "position": 0, "text": None, "critique": f"ask {SECRET}", "spans": spans}
        assignment = desk.say("ann", task, answer)
    else:
        task = desk.task("pair", "q", ("a", "b"))
        if what == "skip":
            lease = desk.do(assign.claim, desk.rater("ann"), desk.project)
            told = {"comment": f"it is {SECRET}"}
            given = (lease.assignment_id, desk.rater("ann").id, lease.secret)
            desk.do(assign.give_back, *given, skip_reason=f"other: {SECRET}", told=told)
            return lease.assignment_id, task
        assignment = desk.say("ann", task, win(0), comment=f"it is {SECRET}")
        desk.again("ann", assignment, win(1))
    with desk.store.read() as connection:
        first = select(schema.judgment.c.id).where(schema.judgment.c.assignment_id == assignment)
        return connection.execute(first.order_by(schema.judgment.c.revision.desc())).scalars().first(), task


@pytest.mark.parametrize("what", ["prompt", "response", "edit", "comment", "thumb", "critique", "skip"])
def test_a_text_that_was_removed_is_nowhere(desk, what):
    found, task = removable(desk, what)
    assert SECRET in everything(desk.store)
    told = redact(desk.store, found, "asked by letter", "a manager")
    assert told["project"] == "demo"
    assert SECRET not in everything(desk.store)
    shows = what in ("prompt", "response")
    assert row(desk, task).withdrawn == shows
    assert told["tasks"] == (1 if shows else 0)
    with desk.store.read() as connection:
        logged = connection.execute(select(schema.event).where(schema.event.c.action == "redact")).one()
        assert (logged.actor, logged.entity_id, logged.details) == ("a manager", found, {"why": "asked by letter"})
        assert broken(connection) == []
    desk.store.check()


def test_labels_and_figures_without_a_removed_text(desk, tmp_path):
    found, task = removable(desk, "prompt")
    other = desk.task("pair", "q", ("a", "b"))
    desk.say("ann", task, win(0))
    desk.say("ben", task, win(1))
    for rater in ("ann", "ben"):
        desk.say(rater, other, win(0))
    with desk.store.read() as connection:
        watermark = last_event(connection, desk.project.id)
        assert [one["task"] for one in panel.disagreements(connection, desk.project)] == [task]
    redact(desk.store, found, "asked", "a manager")
    for settings in ({}, {"watermark": watermark}):  # at no event can it be read
        lines, about, _ = exported(desk, tmp_path, **settings)
        assert [one["group_id"] for one in lines] == [other]
        assert about["dropped"] == {"withdrawn": 2}
    with desk.store.read() as connection:
        assert panel.disagreements(connection, desk.project) == []
        for form, rows in (("prompts", 1), ("answers", 1), ("pairs", 1)):
            assert len(rows_of(connection, desk.project, form, exports.ExportSettings())) == rows
    with pytest.raises(Refused, match=f"the text of prompt {found} was removed"):
        desk.do(withdraw_prompts, desk.project, [found], "a manager", withdrawn=False)
    assert change(desk, "restore")["changed"] == 0


def test_an_edit_that_was_removed_is_in_no_export(desk, tmp_path):
    found, _ = removable(desk, "edit")
    second = desk.task("edit", "other", ("a",))
    desk.say("ann", second, {"kind": "edit", "position": 0, "text": "better", "critique": "", "spans": []})
    redact(desk.store, found, "asked", "a manager")
    assert [one["completion"] for one in exported(desk, tmp_path, "edits")[0]] == ["better"]
    assert len(exported(desk, tmp_path, of="edits")[0]) == 1


def test_one_message_and_the_same_text_elsewhere(desk):
    found, _ = removable(desk, "prompt")
    with pytest.raises(Refused, match=r"has 2 messages, and none is number 3"):
        redact(desk.store, found, "asked", "a manager", message=3)
    redact(desk.store, found, "asked", "a manager", message=2)
    with desk.store.read() as connection:
        turns = connection.execute(select(schema.prompt.c.messages).where(schema.prompt.c.id == found)).scalar_one()
    assert [turn["content"] for turn in turns] == ["be kind", "[removed]"]
    one, _ = desk.responses("first", ("the same",))[1], None
    two = desk.responses("second", ("the same",))[1]
    assert redact(desk.store, one[0], "asked", "a manager")["same_text"] == two
    assert desk.responses("first", ("the same",))[1] == one  # an import does not bring it back
    with desk.store.read() as connection:
        text = connection.execute(select(schema.response.c.text).where(schema.response.c.id == one[0])).scalar_one()
    assert text == "[removed]"


def test_what_cannot_be_removed(desk):
    found, _ = removable(desk, "response")
    for given, sentence in (
        ((found, " "), "say why the text is removed"),
        (("nothing", "asked"), "there is no prompt, response, judgment or skipped task 'nothing'"),
    ):
        with pytest.raises(Refused, match=sentence):
            redact(desk.store, *given, "a manager")
    with pytest.raises(Refused, match="only a prompt has messages"):
        redact(desk.store, found, "asked", "a manager", message=1)
    with pytest.raises(Refused, match="there is no prompt"):
        redact(desk.store, found, "asked", "a manager", project_id="another")
    assert SECRET in everything(desk.store)


def test_a_draft_of_a_removed_text_goes_with_it(desk):
    found, _ = removable(desk, "prompt")
    ann = desk.rater("ann")
    lease = desk.do(assign.claim, ann, desk.project)
    desk.do(assign.save_draft, lease.assignment_id, ann.id, lease.secret, 0, {"comment": SECRET})
    redact(desk.store, found, "asked", "a manager")
    assert SECRET not in everything(desk.store)
    assert desk.do(assign.claim, ann, desk.project) is None


def test_ties_are_still_ties(desk):
    """A hidden repeat of what is withdrawn is withdrawn, and is not handed out."""
    task = desk.task("pair", "q", ("a", "b"))
    desk.say("ann", task, neither())
    change(desk, "withdraw", tasks=(task,))
    assert desk.do(assign._repeat, desk.rater("ann").id, desk.project.id) is None


def test_who_settles_a_task_does_so_alone(desk, clock):
    task = desk.task("pair", "q", ("a", "b"))
    for rater, slot in (("ann", 0), ("ben", 1)):
        desk.say(rater, task, win(slot))
    settlers = [Rater(desk.rater(name).id, name, "en") for name in ("eve", "fay")]
    lease = desk.do(assign.lease_to_adjudicate, task, settlers[0], desk.project)
    with pytest.raises(Refused, match="somebody else is settling this task just now"):
        desk.do(assign.lease_to_adjudicate, task, settlers[1], desk.project)
    assert desk.do(assign.lease_to_adjudicate, task, settlers[0], desk.project).assignment_id == lease.assignment_id
    clock(31 * 60_000)  # who let it lie gives it up
    desk.do(assign.lease_to_adjudicate, task, settlers[1], desk.project)


def test_skips_are_seen_and_flagged(desk):
    tasks = [desk.task("pair", f"q{i}", ("a", "b"), overlap=1) for i in range(12)]
    desk.say("ben", tasks[0], win(0))
    ann = desk.rater("ann")
    for _ in range(8):
        lease = desk.do(assign.claim, ann, desk.project)
        desk.do(assign.give_back, lease.assignment_id, ann.id, lease.secret, skip_reason="language")
    with desk.store.read() as connection:
        found = {one["pseudonym"]: one for one in panel.raters(connection, desk.project)}
    assert (found["ann"]["done"], found["ann"]["skips"]["count"], found["ann"]["skips"]["n"]) == (0, 8, 8)
    assert [one["flag"] for one in found["ann"]["flags"]] == ["skips"]
    assert (found["ben"]["skips"]["count"], found["ben"]["skips"]["n"], found["ben"]["flags"]) == (0, 1, [])
