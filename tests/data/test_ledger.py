"""Every row is accounted for, and too many unusable ones stop the run with their reasons."""

import io

import pytest
from rich.console import Console

from baro.data.ledger import Ledger
from baro.errors import DataError


def filled(kept: int, dropped: int) -> Ledger:
    ledger = Ledger("rows.jsonl", kept=kept)
    for number in range(dropped):
        reason = "equal pair" if number else "duplicate"
        ledger.drop(f"rows.jsonl:{number + 7}", reason, f"sentence {number}")
    return ledger


def test_at_the_limit_it_passes_above_it_stops():
    filled(99, 1).check(0.01)
    with pytest.raises(DataError) as error:
        filled(95, 5).check(0.01)
    assert str(error.value) == (
        "rows.jsonl: 5 of 100 rows cannot be used (1 duplicate, 4 equal pair), more than max_dropped_fraction 0.01 "
        "allows; fix them, or raise data.max_length or data.max_dropped_fraction. The first:\n"
        "  rows.jsonl:7: sentence 0\n"
        "  rows.jsonl:8: sentence 1\n"
        "  rows.jsonl:9: sentence 2"
    )


def test_without_a_row_left_it_stops_whatever_the_limit():
    with pytest.raises(DataError, match=r"2 of 2 rows cannot be used \(1 duplicate, 1 equal pair\), none is left"):
        filled(0, 2).check(1.0)
    with pytest.raises(DataError, match=r"rows\.jsonl: holds no row"):
        Ledger("rows.jsonl").check(1.0)


def test_repeated_and_truncated_rows_are_told_and_are_nobodys_mistake():
    ledger = Ledger("rows.jsonl", kept=1)
    ledger.pass_over("rows.jsonl:2", "duplicate", "says the same as rows.jsonl:1")
    ledger.truncate("rows.jsonl:1", "completion cut", "has 9 tokens")
    ledger.check(0.0)
    assert ledger.rows == 2
    assert ledger.to_json() == {
        "name": "rows.jsonl",
        "rows": 2,
        "kept": 1,
        "dropped": {},
        "truncated": {"rows.jsonl:1": "has 9 tokens"},
        "repeated": {"rows.jsonl:2": "says the same as rows.jsonl:1"},
        "votes": {},
    }


def test_the_table_has_a_line_for_each_reason():
    console = Console(width=120, file=io.StringIO())
    console.print(filled(1000, 3).summary())
    shown = console.file.getvalue()
    for words in ("1,000", "dropped: duplicate", "dropped: equal pair", "rows.jsonl:8: sentence 1"):
        assert words in shown
