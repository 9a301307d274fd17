"""What the database itself refuses, whoever asks; and what a manager puts in."""

import random
import sqlite3
import time

import pytest
from feedback.store_work import any_answer, set_up, submission, work
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from baro.errors import BackendError, ConfigError
from baro.feedback import ask, assign, gold, judge, people, project, schema
from baro.feedback.database import Store, redacting
from baro.feedback.redaction import redact
from baro.feedback.refusals import Refused
from baro.feedback.withdrawals import withdraw_prompts
from baro.records import Message

LEFT = {"kind": "pair", "choice": {"outcome": "win", "position": 0}}


@pytest.fixture
def judged(store):
    """A project in which everything was judged, of every kind."""
    for kind in schema.KINDS:
        made, raters = store.write(lambda c, kind=kind: set_up(c, kind, kind=kind, answers=3 if kind == "rank" else 2))
        store.write(lambda c, made=made: project.publish_guideline(c, made, "ko", "# 지침", "test"))
        work(store, raters[0], made, random.Random(0), f"key-{kind}")
        work(store, raters[1], made, random.Random(0), f"key-{kind}-2")
    task_id, settler = store.write(
        lambda c: (
            c.execute(select(schema.task.c.id).where(schema.task.c.kind == "pair")).scalars().first(),
            people.Rater(people.add_rater(c, project.get_project(c, "pair").id, role="adjudicator"), "", "ko"),
        )
    )
    pair = store.write(lambda c: project.get_project(c, "pair"))
    lease = store.write(lambda c: assign.lease_to_adjudicate(c, task_id, settler, pair))
    given = submission(lease, "key-settled", any_answer("pair", 2, random.Random(0)))
    store.write(lambda c: judge.adjudicate(c, lease.assignment_id, settler.id, given, "subjective"))
    store.write(lambda c: ask.select(c, pair, "pair", 1, policy="random"))
    rank = store.write(lambda c: project.get_project(c, "rank"))
    prompts = select(schema.prompt.c.id).where(schema.prompt.c.project_id == rank.id).order_by(schema.prompt.c.id)
    with store.read() as connection:
        first, second, *_ = connection.execute(prompts).scalars()
    store.write(lambda c: withdraw_prompts(c, rank, [first], "test"))
    redact(store, second, "asked for it", "test")
    return store


def refused(store, statement, values=()):
    with pytest.raises((IntegrityError, BackendError)) as error:
        store.write(lambda c: c.execute(statement, values) if values else c.execute(statement))
    return str(error.value)


def test_facts_are_only_added(judged, database):
    for name in schema.APPEND_ONLY:
        table = schema.metadata.tables[name]
        with judged.read() as connection:
            before = connection.execute(select(table)).all()
        assert before, name
        first = next(column for column in table.columns if not column.primary_key)
        past = {"sqlite": f"INSERT OR REPLACE INTO {name} SELECT * FROM {name}", "postgres": f"TRUNCATE {name} CASCADE"}
        for statement in (delete(table), update(table).values({first: first}), text(past[database])):
            assert "append-only" in refused(judged, statement)
        with judged.read() as connection:
            assert connection.execute(select(table)).all() == before


def row_of(store, table, *where):
    with store.read() as connection:
        return connection.execute(select(table).where(*where)).mappings().first()


@pytest.mark.parametrize(("name", "columns"), schema.REDACTED.items())
def test_only_texts_change_and_only_while_one_is_removed(judged, name, columns):
    table = schema.metadata.tables[name]
    for column in table.c:
        statement = update(table).values({column: column})
        assert "append-only" in refused(judged, statement)

        def work(connection, statement=statement):
            with redacting(connection):
                connection.execute(statement)
            with pytest.raises(IntegrityError, match="append-only"), connection.begin_nested():
                connection.execute(statement)

        if column.name in columns:
            judged.write(work)
        else:
            with pytest.raises(IntegrityError, match="append-only"):
                judged.write(work)
    with pytest.raises(IntegrityError, match="append-only"):
        judged.write(lambda c: _deleted_while_redacting(c, table))
    assert "append-only" in refused(judged, update(table).values({columns[0]: table.c[columns[0]]}))


def _deleted_while_redacting(connection, table):
    with redacting(connection):
        connection.execute(delete(table))


def test_another_program_changes_no_text(judged, database):
    if database != "sqlite":
        return
    other = sqlite3.connect(judged.file)
    with pytest.raises(sqlite3.OperationalError, match="baro_redacting"):
        other.execute("UPDATE prompt SET messages = '[]'")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        other.execute("DELETE FROM prompt")
    other.close()


def test_a_verdict_names_responses_of_its_own_task(judged):
    mine = dict(row_of(judged, schema.judged_pair))
    items = schema.task_item
    other = row_of(judged, items, items.c.task_id != mine["task_id"])["response_id"]
    row = mine | {"dimension": "safer", "outcome": "win", "position": 0, "winner_id": other}
    assert "foreign key" in refused(judged, insert(schema.judged_pair).values(**row)).lower()
    rank = dict(row_of(judged, schema.judged_rank)) | {"response_id": other}
    assert "foreign key" in refused(judged, insert(schema.judged_rank).values(**rank)).lower()


def test_a_choice_is_whole(store):
    made, raters = store.write(set_up)
    lease = store.write(lambda c: assign.claim(c, raters[0], made))
    given = submission(lease, "key-choice", LEFT)
    store.write(lambda c: judge.submit(c, lease.assignment_id, raters[0].id, given))
    for change, constraint in (
        ({"outcome": "tie", "position": None}, "ck_judged_pair_winner"),
        ({"winner_id": None}, "ck_judged_pair_winner"),
        ({"position": None}, "ck_judged_pair_position"),
        ({"strength": 4}, "ck_judged_pair_strength"),
        ({"dimension": "nicer"}, "ck_judged_pair_dimension"),
    ):
        row = dict(row_of(store, schema.judged_pair)) | {"dimension": "helpful"} | change
        assert constraint in refused(store, insert(schema.judged_pair).values(**row))


def test_places_and_hands(store):
    made, raters = store.write(lambda c: set_up(c, prompts=1, overlap=1))
    task, assignment = schema.task, schema.assignment
    assert "ck_task_places" in refused(store, update(task).values(places=-1))
    assert "ck_task_places" in refused(store, update(task).values(places=2))
    store.write(lambda c: assign.claim(c, raters[0], made))
    row = dict(row_of(store, assignment)) | {"id": "another"}
    assert "task_id" in refused(store, insert(assignment).values(**row))
    store.write(lambda c: c.execute(insert(assignment).values(**row | {"state": "expired"})))


def test_a_project_s_words(store):
    for name in ("", ".hidden", "a/b", "a b", "a" * 101):
        with pytest.raises(ConfigError, match="a project's name is made of"):
            store.write(lambda c, name=name: project.create_project(c, name))
    made = store.write(lambda c: project.create_project(c, "한국어-1"))
    with pytest.raises(ConfigError, match="a project of this name already"):
        store.write(lambda c: project.create_project(c, "한국어-1"))
    store.write(lambda c: project.change_settings(c, made, {"overlap": 3}, "test"))
    later = store.write(lambda c: project.change_settings(c, made, {"blur": True}, "test"))
    assert (later.overlap, later.blur) == (3, True)
    assert store.write(lambda c: project.project_by_id(c, made.id)).settings == later
    first = store.write(lambda c: project.publish_guideline(c, made, "ko", "# 하나", "test"))
    assert store.write(lambda c: project.publish_guideline(c, made, "ko", "# 하나", "test")) == first
    assert store.write(lambda c: project.publish_guideline(c, made, "ko", "# 둘", "test")) != first


def test_what_is_there_is_not_added_twice(store):
    made = store.write(lambda c: project.create_project(c, "name"))

    def put(connection):
        one = project.add_generation(connection, made.id, "model", {"b": 1, "a": (1, 2)})
        assert project.add_generation(connection, made.id, "model", {"a": [1, 2], "b": 1}) == one
        other = project.add_generation(connection, made.id, "model", {"b": 2})
        prompt_id, new = project.add_prompt(connection, made.id, (Message("user", "hi"),), "test")
        assert new
        assert project.add_prompt(connection, made.id, (Message("user", "hi"),), "other") == (prompt_id, False)
        assert project.add_prompt(connection, made.id, (Message("system", "hi"),), "other")[1]
        found = [project.add_response(connection, prompt_id, g, t) for g, t in ((one, "a"), (other, "a"), (one, "b"))]
        assert [new for _, new in found] == [True, False, True]
        assert found[0][0] == found[1][0]
        rows = connection.execute(select(schema.response.c.sample_index).order_by(schema.response.c.sample_index))
        assert list(rows.scalars()) == [0, 1]

    store.write(put)


def test_tasks_are_made_once_and_evenly(store):
    made = store.write(lambda c: set_up(c, prompts=0, raters=0))[0]
    prompts = store.write(lambda c: [fill(c, made, i, answers) for i, answers in enumerate((8, 2, 1, 0))])
    make = lambda **given: store.write(lambda c: project.make_tasks(c, made, **given))  # noqa: E731
    done = make(kind="pair", per_prompt=10, seed=1)
    assert (done.added, done.known) == (11, 0)
    assert sorted(str(one).split("has ")[1] for one in done.refused) == [
        "0 different answers; pair tasks need 2", "1 different answers; pair tasks need 2"
    ]  # fmt: skip
    assert (make(kind="pair", per_prompt=10, seed=1).added, make(kind="rank", size=4).added) == (0, 1)
    with store.read() as connection:
        row = connection.execute(select(schema.task).where(schema.task.c.prompt_id == prompts[0])).first()
    assert (row.places, row.overlap, row.policy, row.propensity) == (2, 2, "random", 10 / 28)
    assert make(kind="pair", per_prompt=1000, prompts=[prompts[0]]).added == 28 - 10
    assert [str(one) for one in make(kind="pair", prompts=["nothing"]).refused] == [
        "prompt nothing is not in this project"
    ]


def fill(connection, made, number, answers):
    prompt_id, _ = project.add_prompt(connection, made.id, (Message("user", f"new {number}"),), "test")
    for j in range(answers):
        project.add_response(connection, prompt_id, None, f"answer {j}")
    return prompt_id


def test_many_answers_do_not_explode(store):
    """Of 60 answers there are 75 million sets of 6; a thousand of them are drawn all the same."""
    made = store.write(lambda c: set_up(c, prompts=0, raters=0))[0]
    store.write(lambda c: fill(c, made, 0, 60))
    start = time.monotonic()
    assert store.write(lambda c: project.make_tasks(c, made, "rank", size=6, per_prompt=1000)).added == 1000
    assert time.monotonic() - start < 10


def test_an_edit_that_equals_another_answer(store):
    """Two responses with one text: tasks are made of the others, and one with both is refused."""
    made, raters = store.write(lambda c: set_up(c, prompts=1, answers=2, kind="edit"))
    lease = store.write(lambda c: assign.claim(c, raters[0], made))
    with store.read() as connection:
        item = connection.execute(select(schema.task_item)).one()
        rows = connection.execute(select(schema.response)).all()
    (other,) = [row.text for row in rows if row.id != item.response_id]
    given = submission(lease, "key-edit-1", {"kind": "edit", "text": other})
    store.write(lambda c: judge.submit(c, lease.assignment_id, raters[0].id, given))
    same = [row.id for row in rows if row.text == other]
    with store.read() as connection:
        same += connection.execute(select(schema.response.c.id).where(schema.response.c.author == "human")).scalars()
    assert store.write(lambda c: project.make_tasks(c, made, "pair", per_prompt=5)).added == 1
    with pytest.raises(Refused, match="the same text, which nobody can tell apart"):
        store.write(lambda c: project.add_task(c, made, "pair", rows[0].prompt_id, same))


def test_a_known_answer_fits_its_task(store):
    made, _ = store.write(lambda c: set_up(c, prompts=1))
    with store.read() as connection:
        task_id = connection.execute(select(schema.task.c.id)).scalar_one()
    for answer, sentence in (
        ({}, "the known answer is none"),
        ({"kind": "pair", "choice": {"outcome": "win"}}, "a win needs the position"),
        ({"kind": "thumb", "thumbs": [{"good": True}] * 2}, "the task is of kind pair, the known answer of kind thumb"),
    ):
        with pytest.raises(Refused, match=sentence):
            store.write(lambda c, answer=answer: gold.add_gold(c, made, task_id, answer, "test"))
    with pytest.raises(Refused, match="there is no such task"):
        store.write(lambda c: gold.add_gold(c, made, "nothing", LEFT, "test"))
    with pytest.raises(Refused, match="is no answer to prompt"):
        store.write(lambda c: project.add_task(c, made, "pair", "nothing", ["one", "two"]))


def test_invites_work_once_and_sessions_end(store, clock):
    _, raters = store.write(set_up)
    link = store.write(lambda c: people.invite(c, raters[0].id))
    token = store.write(lambda c: people.redeem(c, link))
    look = lambda: store.write(lambda c: people.who(c, token))  # noqa: E731
    assert look().id == raters[0].id
    with pytest.raises(Refused, match="used already"):
        store.write(lambda c: people.redeem(c, link))
    late = store.write(lambda c: people.invite(c, raters[0].id, days=1))
    clock(people.DAY_MS + 1)
    with pytest.raises(Refused, match="has expired"):
        store.write(lambda c: people.redeem(c, late))
    store.write(lambda c: people.erase(c, raters[0].id, "test"))
    with pytest.raises(Refused, match="there is no session"):
        look()
    for work_ in (people.invite, lambda c, r: people.revoke(c, r, "test"), lambda c, r: people.erase(c, r, "test")):
        with pytest.raises(Refused, match="there is no rater with the id"):
            store.write(lambda c, work_=work_: work_(c, "nobody"))


def test_pseudonyms(store):
    made, _ = store.write(lambda c: set_up(c, raters=0))
    for name in ("", " ", "a" * 61, "a\nb", "a\u202eb"):
        with pytest.raises(Refused, match="1 to 60 visible characters"):
            store.write(lambda c, name=name: people.add_rater(c, made.id, pseudonym=name))
    store.write(lambda c: people.add_rater(c, made.id, pseudonym="rater-2"))
    store.write(lambda c: people.add_rater(c, made.id))  # its number would be 2
    with pytest.raises(Refused, match="there is a 'rater-2' already"):
        store.write(lambda c: people.add_rater(c, made.id, pseudonym="rater-2"))
    with pytest.raises(Refused, match="no page in 'fr'"):
        store.write(lambda c: people.add_rater(c, made.id, lang="fr"))
    with store.read() as connection:
        assert connection.execute(select(func.count()).select_from(schema.rater)).scalar_one() == 2


def test_erasing_a_rater_keeps_what_they_judged(judged):
    table = schema.judgment
    with judged.read() as connection:
        before = connection.execute(select(table)).all()
    judged.write(lambda c: people.erase(c, before[0].rater_id, "test"))
    with judged.read() as connection:
        assert connection.execute(select(table)).all() == before
        where = schema.rater.c.id == before[0].rater_id
        assert connection.execute(select(schema.rater.c.pseudonym).where(where)).scalar_one().startswith("erased-")


def test_postgres_keeps_no_plan_from_when_the_tables_were_empty(postgres_url):
    with_tables = Store.open(postgres_url, create=True)
    try:
        with with_tables.read() as connection:
            for number in range(20):  # psycopg prepares what was executed five times
                connection.execute(select(schema.prompt).where(schema.prompt.c.id == str(number)))
            prepared = connection.execute(select(func.count()).select_from(text("pg_prepared_statements"))).scalar_one()
        assert prepared == 0
    finally:
        with_tables.close()
