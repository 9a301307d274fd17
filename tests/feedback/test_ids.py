"""Names of rows: they ascend in the order in which a process makes them."""

import threading

import pytest

from baro.feedback import ids


@pytest.fixture
def clock(monkeypatch):
    """Its first number is what the clock says."""
    now = [1_800_000_000_000]
    monkeypatch.setattr(ids, "now_ms", lambda: now[0])
    monkeypatch.setattr(ids, "_ticks", ids._Ticks())
    return now


def parts(name):
    """Milliseconds, count, and what is random."""
    number = 0
    for letter in name:
        number = number << 5 | ids._CROCKFORD.index(letter)
    return number >> 80, number >> 64 & 0xFFFF, number & (1 << 64) - 1


def test_ids_of_one_millisecond_ascend(clock):
    made = [ids.new_id() for _ in range(70_000)]  # more than the counter holds
    assert made == sorted(set(made))
    assert {len(one) for one in made} == {26}
    assert [parts(one)[:2] for one in made[:3]] == [(clock[0], 0), (clock[0], 1), (clock[0], 2)]
    assert parts(made[65_536])[:2] == (clock[0] + 1, 0)
    randoms = [parts(one)[2] for one in made]
    assert len(set(randoms)) == len(made)
    for bit in range(64):
        ones = sum(number >> bit & 1 for number in randoms)
        assert abs(ones - 35_000) < 1_000  # 7.5 standard deviations


def test_ids_ascend_when_the_clock_is_set_back(clock):
    first = ids.new_id()
    clock[0] -= 3_600_000
    second = ids.new_id()
    clock[0] += 3_600_001
    third = ids.new_id()
    assert first < second < third
    assert parts(third)[:2] == (clock[0], 0)


def test_ids_of_many_threads_ascend_in_each():
    found = [[] for _ in range(8)]
    start = threading.Barrier(8)

    def make(mine):
        start.wait()
        mine.extend(ids.new_id() for _ in range(2_000))

    threads = [threading.Thread(target=make, args=(mine,)) for mine in found]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert all(mine == sorted(mine) for mine in found)
    assert len({one for mine in found for one in mine}) == 16_000
