"""A chat model on a server, against one that misbehaves as it is told."""

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from email.utils import formatdate

import pytest
from chat_server import answer, place, serving

from baro.chat_config import ServerConfig
from baro.errors import BackendError, ConfigError
from baro.functional.options import Step, option_logprobs
from baro.records import UNKNOWN, Message, Reply, SamplingParams
from baro.rollout import requests
from baro.rollout.remote import RemoteChatModel
from baro.rollout.requests import asked_to_wait, backoff

ASKED = [(Message("user", text),) for text in ("one", "two", "three", "four", "five", "six")]
PARAMS = SamplingParams(max_new_tokens=8, temperature=0.5)


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Waits between tries are short."""
    monkeypatch.setattr(requests, "FIRST_WAIT", 0.01)


def remote(asked, folder, **config):
    folder.mkdir(exist_ok=True)
    return RemoteChatModel(ServerConfig(**{"base_url": asked.url, "model": "there", "timeout": 5.0, **config}), folder)


def says(body):
    return f"you said {body['messages'][-1]['content']}"


def test_every_answer_comes_once_and_in_its_place(tmp_path):
    with serving(lambda body, number: answer(*[f"{says(body)} {i}" for i in range(body.get("n", 1))])) as asked:
        model = remote(asked, tmp_path)
        found = model.chat(ASKED, 2, PARAMS, range(6))
        again = remote(asked, tmp_path).chat(ASKED, 2, PARAMS, range(6))
        other = model.chat(ASKED[:1], 2, PARAMS, [7])
    assert found == [[Reply(f"you said {one[0].content} {i}") for i in range(2)] for one in ASKED]
    assert again == found
    assert other == found[:1]
    assert len(asked.bodies) == 7  # another key is another call
    first = next(one for one in asked.bodies if one["messages"][0]["content"] == "two")
    assert first == {
        "model": "there",
        "messages": [{"role": "user", "content": "two"}],
        "max_tokens": 8,
        "temperature": 0.5,
        "n": 2,
        "seed": 1,
    }


def test_n_that_a_server_ignores_becomes_calls_and_is_said_once(tmp_path, caplog):
    with serving(lambda body, number: answer(f"{says(body)} {body['seed']}")) as asked:
        found = remote(asked, tmp_path, concurrency=1).chat(ASKED[:2], 3, PARAMS, [10, 20])
    assert [[one.text[-2:] for one in own] for own in found] == [["10", "11", "12"], ["20", "21", "22"]]
    assert len(asked.bodies) == 6
    assert sum("ignores n" in record.message for record in caplog.records) == 1


def test_n_that_a_server_refuses_becomes_calls(tmp_path):
    def respond(body, number):
        return (400, {"error": {"message": "n is not supported"}}, {}) if "n" in body else answer("yes")

    with serving(respond) as asked:
        assert remote(asked, tmp_path).chat(ASKED[:1], 2, PARAMS, [1]) == [[Reply("yes")] * 2]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ((500, {"error": {"message": "out of memory"}}, {}), "answered 500"),
        ((429, {"error": {"message": "slow down"}}, {"Retry-After": "0.05"}), "answered 429"),
        (b'{"choices": [{"mess', "no JSON object"),
        (b"[1, 2]", "no JSON object"),
        (b"\xff\xfe", "no JSON object"),
        ((200, b'{"choices": ', {"Content-Length": "500"}), "the connection broke"),
        ({"choices": []}, "has no choices"),
        ({"choices": "none"}, "has no choices"),
        ({"choices": [{"finish_reason": "stop"}]}, "has no message"),
        ({"choices": [{"message": {"content": None}, "finish_reason": "stop"}]}, "has no text"),
        (answer("one", "two"), "gave 2 choices"),
    ],
)
def test_a_call_that_fails_is_tried_again_and_is_an_error_if_it_goes_on(broken, said, tmp_path):
    with serving(lambda body, number: broken if number < 2 else answer("well")) as asked:
        assert remote(asked, tmp_path, retries=2).chat(ASKED[:1], 1, PARAMS, [1]) == [[Reply("well")]]
        assert len(asked.bodies) == 3
    with serving(lambda body, number: broken) as asked:
        ((found,),) = remote(asked, tmp_path / "other", retries=1).chat(ASKED[:1], 1, PARAMS, [1])
        assert found.text is None
        assert said in found.error
        assert len(asked.bodies) == 2


def test_a_refusal_of_one_item_is_not_tried_again(tmp_path):
    def respond(body, number):
        return (
            (400, {"error": {"message": "too long"}}, {}) if body["messages"][0]["content"] == "two" else answer("ok")
        )

    with serving(respond) as asked:
        found = remote(asked, tmp_path).chat(ASKED[:3], 1, PARAMS, [1, 2, 3])
    assert [one.text for (one,) in found] == ["ok", None, "ok"]
    assert "too long" in found[1][0].error
    assert len(asked.bodies) == 3


def test_half_an_answer_is_unfinished_and_a_filtered_one_is_none(tmp_path):
    finish = {"one": "stop", "two": "length", "three": "content_filter", "four": None}
    with serving(lambda body, number: answer("half", finish=finish[body["messages"][0]["content"]])) as asked:
        found = [one for (one,) in remote(asked, tmp_path).chat(ASKED[:4], 1, PARAMS, range(4))]
    assert [(one.text, one.finished) for one in found] == [
        ("half", True),
        ("half", False),
        (None, True),
        ("half", False),
    ]
    assert "filter" in found[2].error


def drip():
    for _ in range(200):
        time.sleep(0.05)
        yield b" "


@pytest.mark.parametrize("slow", [lambda: time.sleep(3) or answer("late"), drip], ids=["nothing comes", "slow drip"])
def test_a_deadline_is_that_of_the_whole_answer(slow, tmp_path):
    with serving(lambda body, number: slow()) as asked:
        begin = time.monotonic()
        ((found,),) = remote(asked, tmp_path, timeout=0.4, retries=0).chat(ASKED[:1], 1, PARAMS, [1])
        assert time.monotonic() - begin < 2
    assert "no answer within 0.4 seconds" in found.error


@pytest.mark.parametrize("how", [lambda: "0.6", lambda: formatdate(time.time() + 2, usegmt=True)], ids=["s", "date"])
def test_retry_after_is_waited_for_by_all_calls(how, tmp_path):
    with serving(lambda body, number: answer("ok") if number else (429, {}, {"Retry-After": how()})) as asked:
        remote(asked, tmp_path, concurrency=1).chat(ASKED[:2], 1, PARAMS, [1, 2])
    assert asked.times[1] - asked.times[0] >= 0.55


def test_waits_grow_and_differ_by_key(monkeypatch):
    monkeypatch.setattr(requests, "FIRST_WAIT", 0.5)
    waits = [backoff(attempt, 3) for attempt in range(9)]
    assert all(0.25 * 2**i <= wait < 0.5 * 2**i for i, wait in enumerate(waits[:7]))
    assert all(30 <= wait < 60 for wait in waits[7:])
    assert backoff(2, 3) == waits[2] != backoff(2, 4)
    assert [asked_to_wait({"retry-after": one}) for one in ("2.5", "-1", "soon", "")] == [2.5, 0, 0, 0]


def test_no_more_than_so_many_calls_at_once_and_in_a_minute(tmp_path):
    with serving(lambda body, number: time.sleep(0.1) or answer("ok")) as asked:
        remote(asked, tmp_path, concurrency=2).chat(ASKED, 1, PARAMS, range(6))
        assert asked.most_at_once == 2
    with serving(lambda body, number: answer("ok")) as asked:
        remote(asked, tmp_path / "other", requests_per_minute=600).chat(ASKED, 1, PARAMS, range(6))
    assert asked.times[-1] - asked.times[0] >= 0.4  # 0.5 between when they are sent


def test_a_spent_budget_stops_and_a_larger_one_goes_on(tmp_path):
    with serving(lambda body, number: answer(says(body))) as asked:
        with pytest.raises(BackendError, match="max_calls 4 is spent"):
            remote(asked, tmp_path, max_calls=4).chat(ASKED, 1, PARAMS, range(6))
        assert len(asked.bodies) == 4
        with pytest.raises(BackendError, match="max_calls 4 is spent"):
            remote(asked, tmp_path, max_calls=4).chat(ASKED, 1, PARAMS, range(6))
        assert len(asked.bodies) == 4
        found = remote(asked, tmp_path, max_calls=6).chat(ASKED, 1, PARAMS, range(6))
    assert len(asked.bodies) == 6
    assert all(one.text for (one,) in found)


def test_cost_is_counted_and_stops(tmp_path):
    prices = {"price_input": 1.0, "price_output": 10.0, "max_cost": 0.00015, "concurrency": 1}
    with serving(lambda body, number: answer(says(body), usage=(10, 5))) as asked:  # 0.00006 a call
        model = remote(asked, tmp_path, **prices)
        with pytest.raises(BackendError, match=r"max_cost 0\.00015 is spent"):
            model.chat(ASKED, 1, PARAMS, range(6))
        assert len(asked.bodies) == 3
        assert model.served.cost == pytest.approx(0.00018)
    with serving(lambda body, number: answer(says(body), usage=None)) as asked:
        with pytest.raises(BackendError, match="give max_calls instead"):
            remote(asked, tmp_path / "other", **prices).chat(ASKED, 1, PARAMS, range(6))
        assert len(asked.bodies) == 1


@pytest.mark.parametrize(("status", "said"), [(401, "does not take the key"), (404, "does not know the address")])
def test_what_would_fail_every_time_stops_at_once(status, said, tmp_path):
    with serving(lambda body, number: (status, {"error": {"message": "no"}}, {})) as asked:
        with pytest.raises(BackendError, match=said):
            remote(asked, tmp_path, concurrency=1).chat(ASKED, 1, PARAMS, range(6))
        assert len(asked.bodies) == 1


def test_a_server_that_is_gone_is_not_asked_for_every_item(tmp_path, monkeypatch):
    monkeypatch.setattr(requests, "IN_A_ROW", 3)
    with serving(lambda body, number: answer("ok")) as asked:
        pass
    with pytest.raises(BackendError, match="3 calls in a row failed"):
        remote(asked, tmp_path, retries=0, concurrency=1).chat(ASKED, 1, PARAMS, range(6))
    assert len((tmp_path / "server_calls.jsonl").read_text().splitlines()) == 3


def test_a_server_that_fails_every_call_and_answers_is_not_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(requests, "IN_A_ROW", 3)
    with serving(lambda body, number: (500, {"error": {"message": "tired"}}, {})) as asked:
        found = remote(asked, tmp_path, retries=0).chat(ASKED, 1, PARAMS, range(6))
    assert all("tired" in one.error for (one,) in found)


KEY = "sk-0123456789abcdef"


@pytest.mark.parametrize(
    "respond",
    [
        lambda body, number: (500, {"error": {"message": f"key {KEY} is tired"}}, {}),
        lambda body, number: (401, {"error": {"message": f"wrong key {KEY}"}}, {}),
        lambda body, number: f"<html>Bearer {KEY}</html>".encode(),
        lambda body, number: answer(f"my key is {KEY}"),
        lambda body, number: answer("fine"),
    ],
)
def test_the_key_is_sent_and_stands_nowhere(respond, tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    with serving(respond) as asked:
        try:
            told = repr(remote(asked, tmp_path, retries=0, api_key_env="JUDGE_KEY").chat(ASKED[:2], 1, PARAMS, [1, 2]))
        except BackendError as error:
            told = str(error)
    assert asked.headers[0]["authorization"] == f"Bearer {KEY}"
    files = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY not in told + files + caplog.text


def test_no_key_of_another_service_is_sent(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    with serving(lambda body, number: answer("ok")) as asked:
        remote(asked, tmp_path).chat(ASKED[:1], 1, PARAMS, [1])
        assert KEY not in str(asked.headers)
        assert "org-1" not in str(asked.headers)
        with pytest.raises(ConfigError, match="JUDGE_KEY is not set"):
            remote(asked, tmp_path, api_key_env="JUDGE_KEY")


# ------------------------------------------------------------------------------------------------------- log-probs


def test_options_are_scored_from_the_likeliest_tokens(tmp_path):
    first = place("(", -0.1, **{" (A": -4.0})
    second = place("B", -0.5, A=-1.0, C=-3.0)
    with serving(lambda body, number: answer("(B)", logprobs=[first, second, place(")", 0.0)])) as asked:
        (found,) = remote(asked, tmp_path).options(ASKED[:1], ["(A)", "(B)"])
    assert asked.bodies[0]["logprobs"] is True
    assert asked.bodies[0]["top_logprobs"] == 20
    assert asked.bodies[0]["temperature"] == 0
    assert found.logprobs == pytest.approx((-1.0464372, -0.6), abs=1e-6)  # log(e^-1.1 + e^-4)


def test_option_log_probs_in_numbers():
    def step(token, logprob, **likeliest):
        listed = {token: logprob, **likeliest}
        return Step(token.encode(), logprob, tuple((one.encode(), value) for one, value in listed.items()))

    assert option_logprobs([step("A", -0.2, B=-1.8)], ["A", "B"]) == pytest.approx((-0.2, -1.8))
    assert option_logprobs([step("\n", -0.1, x=-3.0), step("A", -0.2, B=-1.8)], ["A", "B"]) == pytest.approx(
        (-0.3, -1.9)
    )
    # what is not listed is at most as likely as the least likely that is: never certain
    assert option_logprobs([step("A", -0.2, x=-5.0)], ["A", "B"]) == pytest.approx((-0.2, -5.0))
    assert option_logprobs([step("I", -0.2, x=-5.0)], ["A", "B"]) is None
    # half a character is a beginning of both
    parts = [Step(b"\xea", -0.1, ((b"\xea", -0.1),)), Step(b"\xb0", -0.2, ((b"\xb0", -0.2), (b"\xb1", -2.0)))]
    tail = Step(b"\x80", -0.3, ((b"\x80", -0.3), (b"\x81", -1.5)))
    assert option_logprobs([*parts, tail], ["가", "각"]) == pytest.approx((-0.6, -1.8))


def test_log_probs_that_do_not_come_are_unknown_and_asked_once(tmp_path, caplog):
    with serving(lambda body, number: answer("(A)")) as asked:
        model = remote(asked, tmp_path, concurrency=1)
        assert model.options(ASKED, ["(A)", "(B)"]) == [UNKNOWN] * 6
        assert model.options(ASKED[:1], ["(A)", "(B)"]) == [UNKNOWN]
    assert len(asked.bodies) == 1
    assert sum("tells no log-probs" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("least", [20, 5, 0])
def test_fewer_log_probs_are_asked_for_where_a_server_refuses(least, tmp_path):
    def respond(body, number):
        if body["top_logprobs"] > least:
            return 400, {"error": {"message": "top_logprobs is too large"}}, {}
        return answer("A", logprobs=[place("A", -0.2, B=-1.8)])

    with serving(respond) as asked:
        (found,) = remote(asked, tmp_path).options(ASKED[:1], ["A", "B"])
    assert found == UNKNOWN if least == 0 else found.logprobs == pytest.approx((-0.2, -1.8))
    assert [one["top_logprobs"] for one in asked.bodies] == [20, 5][: 1 if least == 20 else 2]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ([place("I", -0.1, we=-3.0)], "begins with none of A, B: 'I'"),
        ([place("A", 0.3, B=-3.0)], "cannot be read"),
        ([{"token": "A", "top_logprobs": [{"token": "A"}]}], "cannot be read"),
        ([{"token": "A", "logprob": None, "top_logprobs": [{"token": "A"}]}], "cannot be read"),
    ],
)
def test_log_probs_that_cannot_be_are_an_error(told, said, tmp_path):
    with serving(lambda body, number: answer("A", logprobs=told)) as asked:
        (found,) = remote(asked, tmp_path, retries=1).options(ASKED[:1], ["A", "B"])
    assert found.logprobs is None
    assert said in found.error


# -------------------------------------------------------------------------------------------------------- a kill

PROGRAM = """
import sys
from pathlib import Path
from baro.chat_config import ServerConfig
from baro.records import Message, SamplingParams
from baro.rollout.remote import RemoteChatModel

config = ServerConfig(base_url=sys.argv[1], model="there", concurrency=3)
asked = [(Message("user", str(i)),) for i in range(20)]
found = RemoteChatModel(config, Path(sys.argv[2])).chat(asked, 2, SamplingParams(), range(20))
print([[one.text for one in own] for own in found])
"""


@pytest.mark.parametrize(
    "kill_at", [pytest.param(1, marks=pytest.mark.slow), 4, pytest.param(19, marks=pytest.mark.slow)]
)
def test_a_killed_run_repeats_at_most_the_calls_in_flight(kill_at, tmp_path):
    def respond(body, number):
        time.sleep(0.01)
        return answer(*[f"{says(body)} {i}" for i in range(body["n"])])

    with serving(respond) as asked:
        command = [sys.executable, "-c", textwrap.dedent(PROGRAM), asked.url, str(tmp_path)]
        killed = subprocess.run(
            command, env={**os.environ, "BARO_FAULT": f"after-server-call:{kill_at}"}, check=False, timeout=60
        )
        assert killed.returncode == -signal.SIGKILL
        kept = len((tmp_path / "server_calls.jsonl").read_text().splitlines())
        assert kept == kill_at
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        assert 20 <= len(asked.bodies) <= 20 + 3
        assert done.stdout == f"{[[f'you said {i} {s}' for s in range(2)] for i in range(20)]}\n"
    lines = (tmp_path / "server_calls.jsonl").read_text().splitlines()
    names = [name for line in lines for name in json.loads(line)["answers"]]
    assert len(names) == len(set(names)) == 40


def test_a_line_that_was_half_written_is_asked_again(tmp_path):
    with serving(lambda body, number: answer(says(body))) as asked:
        remote(asked, tmp_path).chat(ASKED[:2], 1, PARAMS, [1, 2])
        path = tmp_path / "server_calls.jsonl"
        path.write_bytes(path.read_bytes()[:-5])
        found = remote(asked, tmp_path).chat(ASKED[:2], 1, PARAMS, [1, 2])
    assert len(asked.bodies) == 3
    assert [one.text for (one,) in found] == ["you said one", "you said two"]
