"""Claims, answers, revisions, retractions, skips and late answers in any order, with the invariants between."""

import random
from collections.abc import Callable
from itertools import count
from typing import Any
from unittest import mock

import pytest
from feedback.store_work import any_answer, broken, set_up, submission, task_of
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import func, select

from baro.feedback import again, assign, changes, gold, ids, judge, people, project, schema, withdrawals
from baro.feedback.database import Store
from baro.feedback.redaction import redact
from baro.feedback.refusals import Refused

WHICH = st.integers(0, 1000)
KNOWN = {"pair": {"kind": "pair", "choice": {"outcome": "tie"}}, "rank": {"kind": "rank", "ranks": [1, 2, 3]}}
TASKS = 3
names = count()


class People(RuleBasedStateMachine):
    """Three to five raters and a settler; the store is the subclass's, and every example works in its own project.

    A rule with nothing to work on does nothing: a precondition would depend on what the store hands out by chance, and
    Hypothesis must find the same rules ready when it runs an example again.
    """

    store: Store

    def __init__(self):
        super().__init__()
        self.now, self.keys = 1_800_000_000_000, count()
        self.name = f"project-{next(names)}"
        self.clock = mock.patch.object(ids, "now_ms", side_effect=lambda: self.now)
        self.soon = mock.patch.object(assign, "REPEAT_AFTER", 1)
        self.clock.start()
        self.soon.start()
        self.leases = []  # every lease that was ever told, and to whom
        self.sent = []  # every answer that was taken: (submission, lease, rater, judgment)
        self.state, self.removed = "open", []
        self.said = {}  # of each assignment: the newest answer's judgment, None if it was taken back

    def teardown(self):
        self.clock.stop()
        self.soon.stop()

    @initialize(
        kind=st.sampled_from(["pair", "rank"]),
        overlap=st.integers(1, 3),
        raters=st.integers(3, 5),
        apart=st.sampled_from([0.0, 0.3]),
    )
    def project(self, kind, overlap, raters, apart):
        given = {"overlap": overlap, "repeat_fraction": apart, "gold_fraction": apart, "answers": 2 + (kind == "rank")}

        def work(connection):
            made, everybody = set_up(connection, self.name, kind=kind, prompts=TASKS, raters=raters, **given)
            here = select(schema.task.c.id).where(schema.task.c.project_id == made.id).order_by(schema.task.c.id)
            tasks = list(connection.execute(here).scalars())
            gold.add_gold(connection, made, tasks[0], KNOWN[kind], "test")
            settler = people.Rater(people.add_rater(connection, made.id, role="adjudicator"), "", "ko")
            return made, everybody, settler, tasks

        self.kind = kind
        self.made, self.raters, self.settler, self.tasks = self.store.write(work)

    def one_of(self, rows, which):
        return rows[-1 - which % len(rows)]

    def asked(self, work: Callable[..., Any], *codes: str) -> Any:
        """What the work returns; None where it is refused with one of the codes."""
        try:
            return self.store.write(work)
        except Refused as refused:
            if refused.code not in codes:
                raise
            return None

    def key(self):
        return f"{self.name}-{next(self.keys)}"

    def answer(self, lease, seed):
        with self.store.read() as connection:
            task, items = task_of(connection, lease.assignment_id)
        return submission(lease, self.key(), any_answer(task.kind, items, random.Random(seed)), comment=f"{seed}")

    @rule(who=WHICH)
    def claim(self, who):
        rater = self.raters[who % len(self.raters)]
        lease = self.asked(lambda connection: assign.claim(connection, rater, self.made), self.state)
        if lease is not None:
            self.leases.append((lease, rater))

    @rule(which=WHICH, seed=st.integers(0, 99))
    def submit(self, which, seed):
        """The first answer, a revision, or a late one, as it comes."""
        if not self.leases:
            return
        lease, rater = self.one_of(self.leases, which)
        given = self.answer(lease, seed)
        done = self.asked(lambda c: judge.submit(c, lease.assignment_id, rater.id, given), "lease_lost")
        if done is not None:
            assert done.new
            self.sent.append((given, lease, rater, done))
            self.said[done.assignment_id] = done.judgment_id

    @rule(which=WHICH)
    def submit_again(self, which):
        if not self.sent:
            return
        given, lease, rater, done = self.one_of(self.sent, which)
        again = self.asked(lambda connection: judge.submit(connection, lease.assignment_id, rater.id, given))
        assert (again.judgment_id, again.revision, again.new) == (done.judgment_id, done.revision, False)

    @rule(which=WHICH)
    def retract(self, which):
        if not self.leases:
            return
        lease, rater = self.one_of(self.leases, which)
        given = (lease.assignment_id, rater.id, lease.secret, self.key())
        done = self.asked(lambda connection: judge.retract(connection, *given), "lease_lost", "conflict")
        if done is not None:
            assert self.asked(lambda connection: judge.retract(connection, *given)).judgment_id == done.judgment_id
            self.said[done.assignment_id] = None

    @rule(which=WHICH, reason=st.sampled_from([None, "I cannot tell"]))
    def give_back(self, which, reason):
        if not self.leases:
            return
        lease, rater = self.one_of(self.leases, which)
        given = (lease.assignment_id, rater.id, lease.secret)
        self.asked(lambda c: assign.give_back(c, *given, skip_reason=reason), "lease_lost", "conflict")

    @rule(minutes=st.sampled_from([1, 31, 31]))
    def time_passes(self, minutes):
        self.now += minutes * 60_000

    @rule(which=WHICH)
    def renew(self, which):
        if not self.leases:
            return
        lease, rater = self.one_of(self.leases, which)
        given = (lease.assignment_id, rater.id, lease.secret, self.made.settings)
        self.asked(lambda connection: assign.renew(connection, *given), "lease_lost")

    @rule(which=WHICH, settler=st.booleans(), reason=st.sampled_from(schema.REASONS))
    def settle(self, which, settler, reason):
        """By somebody from outside, or by a rater, who is refused if they have had the task to judge."""
        rater = self.settler if settler else self.raters[which % len(self.raters)]
        task_id = self.tasks[which % TASKS]
        lease = self.asked(lambda c: assign.lease_to_adjudicate(c, task_id, rater, self.made), "conflict")
        if lease is None:
            return
        self.leases.append((lease, rater))
        given = self.answer(lease, which)
        done = self.asked(lambda c: judge.adjudicate(c, lease.assignment_id, rater.id, given, reason))
        self.said[done.assignment_id] = done.judgment_id

    @rule(overlap=st.integers(1, 3), which=st.sampled_from(["all", "divided"]))
    def ask_again(self, overlap, which):
        """A new guideline, and what was judged under older ones opens again: once, however often it is asked."""
        body = f"version {next(self.keys)}"
        self.store.write(lambda c: project.publish_guideline(c, self.made, "ko", body, "test"))
        choice = again.Choice(which, overlap=overlap)
        with self.store.read() as connection:
            expected = again.preview(connection, self.made, choice)["tasks"]
        for wanted in (expected, 0):
            assert self.store.write(lambda c: again.ask_again(c, self.made, choice, "test"))["tasks"] == wanted

    @rule(
        which=WHICH,
        action=st.sampled_from(["close", "reopen", "reopen", "withdraw", "restore", "restore", "priority", "overlap"]),
        value=st.integers(1, 4),
        some=st.booleans(),
        back=st.booleans(),
    )
    def change(self, which, action, value, some, back):
        """One task or all of them, as the preview says; taken back at once, they are what they were."""
        chosen = changes.Chosen(tasks=(self.tasks[which % TASKS],)) if some else changes.Chosen(kind=self.kind)
        given = changes.Change(action=action, value=value if action in changes.RANGES else None)
        before = self.looks()
        with self.store.read() as connection:
            expected = changes.preview(connection, self.made, chosen, given)["changed"]
        done = changes.change_tasks(self.store, self.made, chosen, given, "test")
        assert done["changed"] == expected
        assert (self.looks() == before) == (expected == 0)
        if back:
            assert changes.undo(self.store, self.made, done["events"], "test")["changed"] == expected
            assert self.looks() == before

    def looks(self):
        """What the changes are about: leases that ended with a withdrawal stay ended, so places are left out."""
        task = schema.task
        columns = (task.c.id, task.c.open, task.c.withdrawn, task.c.priority, task.c.overlap)
        query = (
            select(*columns).where(task.c.project_id == self.made.id, task.c.repeat_of.is_(None)).order_by(task.c.id)
        )
        with self.store.read() as connection:
            return connection.execute(query).all()

    @rule(which=WHICH, withdrawn=st.sampled_from([True, False, False]))
    def withdraw_prompt(self, which, withdrawn):
        with self.store.read() as connection:
            prompt = connection.execute(
                select(schema.task.c.prompt_id).where(schema.task.c.id == self.tasks[which % TASKS])
            )
            given = [prompt.scalar_one()]
        self.asked(lambda c: withdrawals.withdraw_prompts(c, self.made, given, "test", withdrawn=withdrawn), "conflict")

    @rule(which=WHICH, message=st.booleans())
    def remove_a_text(self, which, message):
        """Of a prompt or an answer: at most one of each project, lest nothing be left to judge."""
        if self.removed:
            return
        task, item = schema.task, schema.task_item
        with self.store.read() as connection:
            row = connection.execute(
                select(task, item.c.response_id).join(item).where(task.c.id == self.tasks[0])
            ).first()
        self.removed.append(row.prompt_id if message else row.response_id)
        redact(self.store, self.removed[-1], "asked for", "test")

    @rule(state=st.sampled_from(["open", "open", "open", "paused", "ended"]))
    def set_state(self, state):
        self.store.write(lambda c: changes.set_state(c, self.made, state, "test"))
        self.state = state

    @invariant()
    def holds(self):
        if not hasattr(self, "made"):
            return
        table, task = schema.judgment, schema.task
        query = select(table.c.assignment_id, table.c.id, table.c.action).join(task, task.c.id == table.c.task_id)
        query = query.where(task.c.project_id == self.made.id).order_by(table.c.revision)
        with self.store.read() as connection:
            assert broken(connection, self.made.id) == []
            rows = connection.execute(query).all()
        assert {row.assignment_id: None if row.action == "retract" else row.id for row in rows} == self.said


EXAMPLES = {"some": {"sqlite": 16, "postgres": 4}, "many": {"sqlite": 60, "postgres": 12}}  # of 50 steps each


@pytest.mark.parametrize("how_many", ["some", pytest.param("many", marks=pytest.mark.slow)])
def test_any_order_of_work(store, database, how_many):
    machine = type("PeopleHere", (People,), {"store": store})
    examples = EXAMPLES[how_many][database]
    checks = list(HealthCheck)
    limits = settings(max_examples=examples, stateful_step_count=50, deadline=None, suppress_health_check=checks)
    run_state_machine_as_test(machine, settings=settings(limits, derandomize=True))
    table = schema.assignment
    with store.read() as connection:
        assert broken(connection) == []
        found = dict(connection.execute(select(table.c.state, func.count()).group_by(table.c.state)).all())
        purposes = set(connection.execute(select(table.c.purpose)).scalars())
        again = connection.execute(select(func.count()).where(schema.task.c.again_of.is_not(None))).scalar_one()
    if database == "sqlite":  # enough examples that everything happened
        assert set(found) >= {"submitted", "expired", "released"}, found
        assert purposes == {"judge", "adjudicate"}
        assert again > 0
    store.check()
