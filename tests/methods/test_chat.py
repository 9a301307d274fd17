"""Talking with a policy: what is answered, what is kept, and what becomes of a log."""

import json
from contextlib import nullcontext

import pytest

from baro.config import load_config
from baro.data.chat_logs import write_prompts
from baro.data.formats import read_records
from baro.errors import BackendError, ConfigError
from baro.methods.chat import HELP, Config, run
from baro.records import Demonstration, Message


class Lines:
    """Somebody who types these lines."""

    def __init__(self, *lines):
        self.lines, self.asked, self.answers, self.notes = list(lines), [], [], []

    def ask(self, question):
        self.asked.append(question)
        return self.lines.pop(0) if self.lines else None

    def answer(self, text, note):
        self.answers.append((text, note))

    def note(self, text):
        self.notes.append(text)

    def wait(self, total):
        return nullcontext(lambda done: None)


def config(policy, **changes):
    return load_config(Config, None, ["sampling.max_new_tokens=8"], {"policy": str(policy), **changes})


def test_a_conversation_goes_on_until_it_is_begun_anew(policy, tmp_path):
    said = Lines("Say hi.", "", "Say bye.", "/undo", "/help", "/new", "Name a colour.", "/quit", "never")
    run(config(policy, record=str(tmp_path / "log" / "talk.jsonl"), consent=True, system="Be kind."), said)
    assert said.lines == ["never"]
    assert said.notes == [HELP, "taken back; the record keeps it", HELP, "a new conversation"]
    first, second, third = read_records(tmp_path / "log" / "talk.jsonl", Demonstration).records
    kind = Message("system", "Be kind.")
    assert first.prompt == (kind, Message("user", "Say hi."))
    assert second.prompt == (*first.prompt, *first.completion, Message("user", "Say bye."))
    assert third.prompt == (kind, Message("user", "Name a colour."))
    assert [one.completion[0].content for one in (first, second, third)] == [text for text, _ in said.answers]
    assert first.extra["consent"] is True
    assert first.extra["model"] == str(policy)


def test_the_same_seed_says_the_same(policy):
    texts = []
    for seed in (0, 0, 1):
        said = Lines("Say hi.", "Say bye.")
        run(config(policy, seed=seed), said)
        texts.append(said.answers)
    assert texts[0] == texts[1] != texts[2]


def test_a_cut_answer_and_a_full_conversation_are_told(policy):
    said = Lines("Say hi.", *["What is one and one?"] * 6)
    run(config(policy, sampling={"max_new_tokens": 500}), said)
    assert any(note.startswith("cut off after ") for _, note in said.answers)
    assert any("tokens, and the model takes 96; /undo, or /new" in note for note in said.notes)


@pytest.mark.parametrize(("answer", "kept"), [("y", True), ("네", True), ("", False), (None, False)])
def test_nothing_is_kept_without_consent(policy, tmp_path, answer, kept):
    said = Lines(*([] if answer is None else [answer, "Say hi."]))
    run(config(policy, record=str(tmp_path / "talk.jsonl")), said)
    assert said.asked[0] == (
        f"What you type and the answers are written to {tmp_path}/talk.jsonl, and may be used for training. "
        "Agree? [y/N] "
    )
    assert (tmp_path / "talk.jsonl").exists() is kept
    assert ("nothing is recorded" in said.notes) is not kept


def test_a_record_that_cannot_be_written(policy, tmp_path):
    with pytest.raises(ConfigError, match="let it end in"):
        run(config(policy, record="talk.txt", consent=True), Lines("Say hi."))
    (tmp_path / "file").write_text("")
    with pytest.raises(BackendError, match="cannot be written"):
        run(config(policy, record=str(tmp_path / "file" / "talk.jsonl"), consent=True), Lines("Say hi."))


# ------------------------------------------------------------------------------------------------- logs as prompts


def log(tmp_path, *rows):
    """Conversations, each of turns by turns, with what their rows say of consent."""
    path = tmp_path / "log.jsonl"
    written = []
    for consent, *texts in rows:
        turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
        written.append({"messages": turns, "user": "u-17", "consent": consent})
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in written))
    return path


def prompts(path):
    return [json.loads(line)["prompt"] for line in path.read_text().splitlines()]


def test_every_turn_of_a_person_is_a_prompt(tmp_path):
    path = log(tmp_path, (True, "q1", "a1", "q2", "a2"), (True, "Q1 ", "other"), (True, "q3", "a3"))
    described, ledger = write_prompts(path, tmp_path / "prompts.jsonl")
    turns = [{"role": role, "content": text} for role, text in (("user", "q1"), ("assistant", "a1"), ("user", "q2"))]
    assert prompts(tmp_path / "prompts.jsonl") == ["q1", turns, "q3"]
    assert (ledger.kept, ledger.rows) == (3, 4)
    assert [str(one) for one in ledger.repeated] == ["log.jsonl:2, turn 1: asks what an earlier prompt asked"]
    assert "u-17" not in (tmp_path / "prompts.jsonl").read_text()
    assert "messages" in described


def test_only_with_consent(tmp_path):
    path = log(tmp_path, (True, "q1", "a"), (False, "q2", "a"), (None, "q3", "a"), ("yes", "q4", "a"))
    out = tmp_path / "prompts.jsonl"
    _, ledger = write_prompts(path, out)
    assert prompts(out) == ["q1"]
    assert [one.reason for one in ledger.dropped] == ["no consent", "no word of consent", "no consent"]
    write_prompts(path, out, all_agreed=True)
    assert prompts(out) == ["q1", "q3"]
    out.unlink()
    with pytest.raises(Exception, match=r"let rows of people who agreed say `consent: true`"):
        write_prompts(log(tmp_path, (None, "q1", "a")), out)
    assert not out.exists()
    with pytest.raises(ConfigError, match="let it end in"):
        write_prompts(path, tmp_path / "prompts.csv")


def test_personal_data_stays_behind(tmp_path):
    path = log(tmp_path, (True, "제 번호는 010-1234-5678이에요", "네", "다음은요?", "네"), (True, "q", "a"))
    out = tmp_path / "prompts.jsonl"
    _, ledger = write_prompts(path, out)
    assert prompts(out) == ["q"]
    assert str(ledger.dropped[1]) == "log.jsonl:1, turn 3: holds what looks like a phone number"
    _, ledger = write_prompts(path, out, personal="mask")
    assert prompts(out)[0] == "제 번호는 [phone number]이에요"
    assert (ledger.kept, len(ledger.truncated)) == (3, 2)
    _, ledger = write_prompts(path, out, personal="keep")
    assert prompts(out)[0] == "제 번호는 010-1234-5678이에요"
