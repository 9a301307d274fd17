"""A chat model on a server that this project did not write: `transformers serve` with a tiny model."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing

import pytest

from baro.chat_config import ServerConfig
from baro.data.new_tokenizer import train_tokenizer
from baro.data.template import Template
from baro.judge_config import PairJudgeConfig, RubricConfig
from baro.models.load import Architecture, new_policy, save_policy
from baro.records import UNKNOWN, Message, Rollout, SamplingParams, said
from baro.rewards.judge import ChatPairJudge, RubricJudge
from baro.rollout.remote import RemoteChatModel

ASKED = [(Message("user", text),) for text in ("Say hi.", "Say bye.")]
PARAMS = SamplingParams(max_new_tokens=4)
STARTS = 120  # seconds


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address and the model's name, while a server has it."""
    folder = tmp_path_factory.mktemp("served") / "tiny"
    template = Template(train_tokenizer(["User: Say hi.\nAssistant: hi"] * 3, 280), "plain")
    shape = Architecture(hidden_size=16, layers=1, heads=2, max_positions=2048, intermediate_size=24)
    save_policy(new_policy(shape, vocabulary=template.vocabulary, special=template.special, seed=0), folder)
    template.save(folder)
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder), "--device", "cpu"]
    log = folder.parent / "log"
    with log.open("w") as written:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            stdout=written,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1", str(folder)
    finally:
        process.kill()
        process.wait()


def wait_for(address, process, log):
    deadline = time.monotonic() + STARTS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    said = f"transformers serve did not start: {log.read_text()[-2000:]}"
    if os.environ.get("BARO_REQUIRE"):
        pytest.fail(said)
    pytest.skip(said)


def remote(server, folder):
    url, model = server
    return RemoteChatModel(ServerConfig(base_url=url, model=model, retries=1, concurrency=2), folder)


def test_what_it_ignores_is_found_out(server, tmp_path, caplog):
    """It takes n and log-probs in silence, and gives one answer and no log-probs."""
    model = remote(server, tmp_path)
    found = model.chat(ASKED, 2, PARAMS, [1, 2])
    assert [len(replies) for replies in found] == [2, 2]
    assert all(reply.error is None and isinstance(reply.text, str) for replies in found for reply in replies)
    assert model.options(ASKED, ["(A)", "(B)"]) == [UNKNOWN, UNKNOWN]
    told = [record.getMessage() for record in caplog.records]
    assert sum("ignores n (it gave 1 choices of 2)" in one for one in told) == 1
    assert sum("tells no log-probs" in one for one in told) == 1
    assert model.served.spent.calls == 5
    assert model.served.spent.read > 0
    assert remote(server, tmp_path).chat(ASKED, 2, PARAMS, [1, 2]) == found
    assert model.served.spent.calls == 5


def test_a_judge_that_cannot_judge_gives_no_number(server, tmp_path):
    url, model = server
    block = {"server": {"base_url": url, "model": model}}
    rollout = Rollout(ASKED[0], said("hi"))
    rubric = RubricConfig.model_validate({**block, "criteria": {"kind": "Is kind."}, "tries": 2, "max_new_tokens": 4})
    (score,) = RubricJudge(remote(server, tmp_path), rubric, name="r").score([rollout])
    assert score.value is None
    assert "no JSON object" in score.error
    judge = ChatPairJudge(remote(server, tmp_path), PairJudgeConfig.model_validate({**block, "verdicts": 2}))
    (verdict,) = judge.compare([(rollout, Rollout(ASKED[0], said("bye")))])
    assert verdict.p_first is None
    assert "no verdict begins with (A) or (B)" in verdict.error
