"""When a figure is computed anew, and when the one that is there will do."""

import threading

from baro.feedback.server.figures import KEPT, SHARE, Figures


class Clock:
    """Shows what it is told to, and what computing takes."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def computing(self, value, seconds):
        def compute():
            self.now += seconds
            return value

        return compute


def test_the_same_until_something_happens():
    clock = Clock()
    figures = Figures(clock)
    assert figures.get("a", 1, 0, clock.computing("first", 0.1)) == "first"
    clock.now += 1e6
    assert figures.get("a", 1, 0, clock.computing("again", 0.1)) == "first"
    assert figures.get("b", 1, 0, clock.computing("other", 0.1)) == "other"
    assert figures.get("a", 2, 0, clock.computing("second", 0.1)) == "second"
    assert figures.get("a", None, 0, clock.computing("third", 0.1)) == "third"
    assert figures.get("a", None, 0, clock.computing("fourth", 0.1)) == "fourth"


def test_what_takes_long_may_be_a_little_old():
    clock = Clock()
    figures = Figures(clock)
    figures.get("a", 1, 0, clock.computing("first", 3.0))
    clock.now += 3.0 * SHARE - 1
    assert figures.get("a", 2, 0, clock.computing("second", 3.0)) == "first"
    clock.now += 1
    assert figures.get("a", 3, 0, clock.computing("third", 3.0)) == "third"


def test_what_a_manager_did_is_seen_at_once():
    clock = Clock()
    figures = Figures(clock)
    for state in (1, None):  # of figures that need no event to change, too
        figures.get(state, state, 0, clock.computing("first", 3.0))
        assert figures.get(state, state and 2, 0, clock.computing("second", 3.0)) == "first"
        assert figures.get(state, state and 3, 3, clock.computing("third", 3.0)) == "third"
        assert figures.get(state, state and 4, 3, clock.computing("fourth", 3.0)) == "third"


def test_of_several_at_once_one_computes():
    figures, go, computed, told = Figures(), threading.Event(), [], []

    def compute():
        computed.append(1)
        go.wait(10)
        return "value"

    asking = [threading.Thread(target=lambda: told.append(figures.get("a", 1, 0, compute))) for _ in range(5)]
    for one in asking:
        one.start()
    go.set()
    for one in asking:
        one.join()
    assert (len(computed), told) == (1, ["value"] * 5)


def test_no_more_are_kept_than_so_many():
    figures = Figures()
    for key in range(KEPT + 5):
        figures.get(key, 1, 0, lambda: "value")
    assert len(figures._kept) == KEPT
