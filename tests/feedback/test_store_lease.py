"""Who gets which task, and where an answer goes that comes late, twice, or from an older window."""

import random
import shutil

import pytest
from feedback.store_work import any_answer, broken, set_up, submission, task_of
from sqlalchemy import event, select, update

from baro.feedback import assign, gold, judge, project, schema
from baro.feedback.database import Store
from baro.feedback.refusals import Refused

HALF_AN_HOUR = 30 * 60_000 + 1
LEFT = {"kind": "pair", "choice": {"outcome": "win", "position": 0}}


@pytest.fixture
def at_work(store, clock):
    """One task for one judgment, three raters, and the steps of their work."""

    class Work:
        def __init__(self, **given):
            self.made, self.raters = store.write(lambda c: set_up(c, **{"prompts": 1, "overlap": 1} | given))

        def claim(self, who):
            return store.write(lambda c: assign.claim(c, self.raters[who], self.made))

        def submit(self, who, lease, key, answer=LEFT):
            given = submission(lease, key, answer)
            return store.write(lambda c: judge.submit(c, lease.assignment_id, self.raters[who].id, given))

        def state(self, lease):
            table = schema.assignment
            with store.read() as connection:
                assert broken(connection) == []
                return connection.execute(select(table.c.state).where(table.c.id == lease.assignment_id)).scalar_one()

        def give_back(self, who, lease, reason=None):
            given = (lease.assignment_id, self.raters[who].id, lease.secret)
            store.write(lambda c: assign.give_back(c, *given, skip_reason=reason))

    return Work


def winner(store, done):
    table = schema.judged_pair
    with store.read() as connection:
        return connection.execute(select(table.c.winner_id).where(table.c.judgment_id == done.judgment_id)).scalar_one()


def test_a_task_is_for_as_many_as_it_wants(at_work):
    work = at_work(overlap=2)
    leases = [work.claim(0), work.claim(1)]
    assert work.claim(2) is None
    work.give_back(0, leases[0])
    assert work.claim(2) is not None
    assert work.claim(0) is None


def test_who_asks_again_gets_the_same_task_and_a_new_secret(at_work):
    work = at_work(prompts=3)
    old, new = work.claim(0), work.claim(0)
    assert old.assignment_id == new.assignment_id
    with pytest.raises(Refused, match="opened again elsewhere"):
        work.submit(0, old, "key-old-1")
    assert work.submit(0, new, "key-new-1").revision == 1


def test_late_and_a_place_is_free(at_work, clock):
    work = at_work()
    late = work.claim(0)
    clock(HALF_AN_HOUR)
    assert work.claim(1) is not None
    work.give_back(1, work.claim(1))
    work.submit(0, late, "key-late")
    assert work.state(late) == "submitted"
    assert work.claim(2) is None


def test_late_and_no_place_is_free(at_work, store, clock):
    """It is kept beyond the overlap, and taken back like any other."""
    work = at_work()
    late = work.claim(0)
    clock(HALF_AN_HOUR)
    work.submit(1, work.claim(1), "key-second")
    work.submit(0, late, "key-late")
    assert work.state(late) == "extra"
    assert work.submit(0, late, "key-late-2").revision == 2
    given = (late.assignment_id, work.raters[0].id, late.secret, "key-back")
    assert store.write(lambda c: judge.retract(c, *given)).revision == 3
    assert work.state(late) == "released"
    assert work.claim(2) is None


def test_late_from_an_older_window_means_what_was_on_the_screen(at_work, store, clock):
    """Between the two leases another rater took the order that the first had; both windows show the same."""
    work = at_work(overlap=2)
    older = work.claim(0)
    clock(HALF_AN_HOUR)
    other = work.claim(1)
    newer = work.claim(0)
    assert newer.assignment_id != older.assignment_id
    table = schema.assignment
    with store.read() as connection:
        orders = dict(connection.execute(select(table.c.id, table.c.display_order)).all())
    assert orders[older.assignment_id] == orders[newer.assignment_id] == orders[other.assignment_id][::-1]
    late, mine = work.submit(0, older, "key-older"), work.submit(0, newer, "key-newer")
    assert late.assignment_id == mine.assignment_id == newer.assignment_id
    assert (late.revision, mine.revision) == (1, 2)
    assert winner(store, late) == winner(store, mine)
    assert winner(store, work.submit(1, other, "key-other")) != winner(store, mine)


def test_late_for_a_task_that_was_skipped_meanwhile(at_work, clock):
    work = at_work()
    older = work.claim(0)
    clock(HALF_AN_HOUR)
    work.give_back(1, work.claim(1))
    newer = work.claim(0)
    work.give_back(0, newer, "I cannot tell")
    assert work.submit(0, older, "key-older").assignment_id == newer.assignment_id
    assert (work.state(older), work.state(newer)) == ("expired", "submitted")


def test_taken_back_and_given_again(at_work, store):
    work = at_work(overlap=2)
    lease = work.claim(0)
    first = work.submit(0, lease, "key-first")
    given = (lease.assignment_id, work.raters[0].id, lease.secret, "key-back")
    back = store.write(lambda c: judge.retract(c, *given))
    assert (back.revision, back.action, work.state(lease)) == (2, "retract", "released")
    assert store.write(lambda c: judge.retract(c, *given)) == judge.Stored(**vars(back) | {"new": False})
    assert work.submit(0, lease, "key-first") == judge.Stored(**vars(first) | {"new": False})
    with pytest.raises(Refused, match="used for another judgment"):
        work.submit(0, lease, "key-back")
    again = work.claim(0)
    assert again.assignment_id != lease.assignment_id
    assert work.submit(0, again, "key-again").revision == 1


def test_a_key_is_for_one_judgment(at_work):
    work = at_work(prompts=3)
    lease = work.claim(0)
    work.submit(0, lease, "key-same")
    for who, other in ((0, work.claim(0)), (1, work.claim(1))):
        with pytest.raises(Refused, match="used for another judgment") as refused:
            work.submit(who, other, "key-same")
        assert refused.value.code == "conflict"
    with pytest.raises(Refused) as refused:
        work.submit(1, lease, "key-theirs")
    assert refused.value.code == "not_found"


def test_nobody_settles_what_they_had_to_judge(at_work, store, clock):
    work = at_work(overlap=2)
    task_id = None
    lease = work.claim(0)
    with store.read() as connection:
        task_id = task_of(connection, lease.assignment_id)[0].id
    settle = lambda who: store.write(lambda c: assign.lease_to_adjudicate(c, task_id, work.raters[who], work.made))  # noqa: E731
    clock(HALF_AN_HOUR)
    work.claim(1)
    with pytest.raises(Refused, match="somebody else has to settle it"):
        settle(0)
    mine = settle(2)
    assert settle(2).assignment_id == mine.assignment_id
    mine = settle(2)
    given = submission(mine, "key-settled", LEFT)
    args = (mine.assignment_id, work.raters[2].id, given)
    with pytest.raises(Refused, match="no reason"):
        store.write(lambda c: judge.adjudicate(c, *args, "because"))
    done = store.write(lambda c: judge.adjudicate(c, *args, "ambiguous", "애매함"))
    assert not store.write(lambda c: judge.adjudicate(c, *args, "ambiguous")).new
    with store.read() as connection:
        row = connection.execute(select(schema.adjudication)).one()
    assert tuple(row) == (done.judgment_id, task_id, "ambiguous", "애매함")
    assert work.claim(2) is None
    given = submission(lease, "key-other-1", LEFT)
    with pytest.raises(Refused, match="to judge, not to settle"):
        store.write(lambda c: judge.adjudicate(c, lease.assignment_id, work.raters[0].id, given, "ambiguous"))


def test_a_settlement_in_hand_is_not_the_next_task(at_work, store):
    work = at_work(prompts=2)
    with store.read() as connection:
        tasks = list(connection.execute(select(schema.task.c.id).order_by(schema.task.c.order_key)).scalars())
    held = store.write(lambda c: assign.lease_to_adjudicate(c, tasks[0], work.raters[0], work.made))
    assert work.claim(0).assignment_id != held.assignment_id


def test_drafts(at_work, store):
    work = at_work()
    lease = work.claim(0)
    save = lambda version, words: store.write(  # noqa: E731
        lambda c: assign.save_draft(c, lease.assignment_id, work.raters[0].id, lease.secret, version, {"text": words})
    )
    assert save(0, "one") == 1
    assert save(1, "둘") == 2
    with pytest.raises(Refused) as refused:
        save(1, "three")
    assert (refused.value.code, refused.value.more) == ("stale_draft", {"version": 2, "answer": {"text": "둘"}})


def test_a_lease_that_ran_out_goes_on_where_nobody_took_its_place(at_work, store, clock):
    work = at_work(prompts=2)
    lease = work.claim(0)
    clock(HALF_AN_HOUR)
    again = work.claim(0)
    assert (again.assignment_id, work.state(again)) == (lease.assignment_id, "leased")
    clock(HALF_AN_HOUR)
    with store.read() as connection:
        task_id = task_of(connection, lease.assignment_id)[0].id
    store.write(lambda c: c.execute(update(schema.task).where(schema.task.c.id == task_id).values(open=False)))
    assert work.claim(0).assignment_id != lease.assignment_id  # nobody asks it any more
    assert work.state(lease) == "expired"


def test_a_draft_goes_on_under_the_next_lease_of_its_task(at_work, store, clock):
    """The lease ran out by somebody else's asking, who let the place go; a withdrawn answer begins anew."""
    work = at_work()

    def draft(lease):
        with store.read() as connection:
            here = schema.draft.c.assignment_id == lease.assignment_id
            row = connection.execute(select(schema.draft.c.version, schema.draft.c.answer).where(here)).first()
            return assign.ran_out_before(connection, lease.assignment_id), row and tuple(row)

    older = work.claim(0)
    given = (older.assignment_id, work.raters[0].id, older.secret)
    for version, words in enumerate(("하나", "둘")):
        store.write(lambda c, v=version, w=words: assign.save_draft(c, *given, v, {"text": w}))
    clock(HALF_AN_HOUR)
    other = work.claim(1)
    assert draft(other) == (None, None)
    work.give_back(1, other)
    newer = work.claim(0)
    assert draft(newer) == (older.assignment_id, (2, {"text": "둘"}))
    work.submit(0, newer, "key-newer")
    given = (newer.assignment_id, work.raters[0].id, newer.secret, "key-back")
    store.write(lambda c: judge.retract(c, *given))
    assert draft(work.claim(0)) == (None, None)


def test_nobody_judges_their_own_edit(at_work, store):
    work = at_work(kind="edit", answers=1)
    work.submit(0, work.claim(0), "key-edit", {"kind": "edit", "text": "much better"})
    store.write(lambda c: project.make_tasks(c, work.made, "pair"))
    assert work.claim(0) is None
    with store.read() as connection:
        pair = connection.execute(select(schema.task.c.id).where(schema.task.c.kind == "pair")).scalars().one()
    settle = lambda who: store.write(lambda c: assign.lease_to_adjudicate(c, pair, work.raters[who], work.made))  # noqa: E731
    with pytest.raises(Refused, match="an edit of yours; somebody else has to settle it"):
        settle(0)
    assert settle(2) is not None
    assert work.claim(1) is not None


def test_every_rater_gets_a_known_answer_once(at_work, store):
    work = at_work(prompts=25, gold_fraction=0.5)
    with store.read() as connection:
        task_id = connection.execute(select(schema.task.c.id)).scalars().first()
    known = store.write(lambda c: gold.add_gold(c, work.made, task_id, LEFT, "test"))
    tasks = []
    while (lease := work.claim(0)) is not None:
        with store.read() as connection:
            tasks.append(task_of(connection, lease.assignment_id)[0].id)
        work.submit(0, lease, f"key-gold-{len(tasks)}")
    assert tasks.count(known) == 1
    assert len(tasks) == len(set(tasks)) == 26


def test_sides_are_even_and_secret(at_work, store):
    """Over many tasks each slot stands on the left about half the time, and another store draws otherwise."""
    work = at_work(prompts=60, raters=1)
    while (lease := work.claim(0)) is not None:
        work.submit(0, lease, f"key-{lease.assignment_id}")
    with store.read() as connection:
        orders = [tuple(one) for one in connection.execute(select(schema.assignment.c.display_order)).scalars()]
    assert 12 < orders.count((0, 1)) < 48
    assert assign.orders_of("one", "task", 9) != assign.orders_of("other", "task", 9)
    for items in range(1, 10):
        drawn = assign.orders_of("seed", "task", items)
        assert all(sorted(one) == list(range(items)) for one in drawn)
        assert items == 1 or len(drawn) == len({tuple(one) for one in drawn})
        assert items == 1 or all(one[::-1] == other for one, other in zip(drawn[::2], drawn[1::2], strict=True))


@pytest.mark.parametrize("kind", schema.KINDS)
def test_every_kind_is_stored(at_work, store, kind):
    work = at_work(kind=kind, answers=4 if kind == "rank" else 2)
    lease = work.claim(0)
    with store.read() as connection:
        task, items = task_of(connection, lease.assignment_id)
    done = work.submit(0, lease, "key-kind", any_answer(kind, items, random.Random(0)))
    tables = [table for name, table in schema.metadata.tables.items() if name.startswith("judged_")]
    with store.read() as connection:
        counts = {one.name: len(connection.execute(select(one)).all()) for one in tables}
        row = connection.execute(select(schema.judgment)).one()
    told = (
        {"judged_safety": 2, "judged_pair": 2}
        if kind == "safety"
        else {f"judged_{'score' if kind == 'criteria' else kind}": 1 if kind in ("pair", "edit") else items}
    )
    assert {name: count for name, count in counts.items() if count} == told
    assert (row.id, row.kind, row.task_id, row.event_id > 0) == (done.judgment_id, kind, task.id, True)


def test_a_claim_takes_the_indexes(sqlite_template, tmp_path):
    """Of SQLite, whose planner needs no rows to say so: nothing is scanned, and the queue is in order already."""
    shutil.copy(sqlite_template, tmp_path)
    store = Store.open(tmp_path)
    made, raters = store.write(set_up)
    seen = []
    event.listen(store._writer, "before_cursor_execute", lambda *given: seen.append((given[2], given[3])))
    store.write(lambda connection: assign.claim(connection, raters[0], made))
    with store.read() as connection:
        raw = connection.connection.dbapi_connection
        explained = [
            (sql, raw.execute(f"EXPLAIN QUERY PLAN {sql}", given)) for sql, given in seen if "BEGIN" not in sql
        ]
        plans = [(sql, " / ".join(row[3] for row in rows)) for sql, rows in explained]
    store.close()
    (queue,) = [plan for sql, plan in plans if sql.startswith("SELECT task.id") and "task.order_key" in sql[-50:]]
    assert queue.startswith("SEARCH task USING INDEX ix_task_queue (project_id=?) / ")
    assert "TEMP B-TREE" not in queue
    (freed,) = [plan for sql, plan in plans if sql.startswith("UPDATE assignment")]
    assert "ix_assignment_leased (expires_ms<?)" in freed
    assert [plan for _, plan in plans if "SCAN" in plan.replace("SCAN CONSTANT ROW", "")] == []
