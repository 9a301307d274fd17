"""What an import or new tasks leave out: each reason in both languages, and no row that stops an import."""

import ast
import re
from pathlib import Path

import pytest
from feedback.reasons import FIELD

import baro
from baro.feedback import intake, project
from baro.feedback.catalogue import LANGUAGES, catalogue
from baro.feedback.database import Store
from baro.feedback.left_out import REASONS, LeftOut

SOURCE = Path(baro.__file__).parent
TOKENS = {
    "encode.py",
    "usable.py",
    "rendering.py",
    "convert.py",
}  # what they leave out is no import's: it is tokenised, or written


def raised():
    """Every reason that is written in the code through which an import reads rows."""
    for path in [*sorted((SOURCE / "data").glob("*.py")), SOURCE / "feedback" / "intake.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or path.name in TOKENS:
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            first = node.args[1:2] if name == "drop" else node.args[:1] if name in ("Unusable", "_unusable") else []
            yield from (one.value for one in first if isinstance(one, ast.Constant))
    yield from ("no consent", "no word of consent")  # chat_logs.py returns them


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_reason_of_an_import_is_told_in_every_language(lang):
    prefix = "manage.ledger.reason."
    told = {key.removeprefix(prefix).replace("_", " "): text for key, text in catalogue(lang).items() if prefix in key}
    assert set(told) == set(raised())
    assert len(told) > 15
    assert [text for text in told.values() if bool(re.search("[가-힣]", text)) != (lang == "ko")] == []


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_reason_why_no_task_was_made_is_told_in_every_language(lang):
    prefix = "manage.tasks.left."
    told = {key.removeprefix(prefix): text for key, text in catalogue(lang).items() if key.startswith(prefix)}
    assert set(told) == set(REASONS)
    for code, text in told.items():
        assert set(FIELD.findall(text)) == set(FIELD.findall(REASONS[code])), code
        assert bool(re.search("[가-힣]", text)) == (lang == "ko")


def test_a_prompt_that_was_left_out_in_words():
    one = LeftOut("01A", "too_few", {"have": 1, "kind": "rank", "need": 4}, "greetings: 'hello'")
    assert str(one) == "prompt 01A (greetings: 'hello') has 1 different answers; rank tasks need 4"
    assert one.to_json() == {"prompt": "01A", "code": "too_few", "values": {"have": 1, "kind": "rank", "need": 4},
                             "sentence": str(one)}  # fmt: skip
    assert str(LeftOut("01A", "withdrawn")) == "prompt 01A is withdrawn"


GOOD = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n'
UNUSABLE = {
    "no content": GOOD + '{"messages": [{"role": "user", "content": null}, {"role": "assistant", "content": "a"}]}\n',
    "unknown role": GOOD + '{"messages": [{"role": "seer", "content": "q"}, {"role": "assistant", "content": "a"}]}\n',
    "no label": '{"prompt": "q", "completion": "a", "label": true}\n{"prompt": "p", "completion": "a", "label": null}',
    "missing cell": "prompt,completion\nq,a\n,b\n",
}


@pytest.mark.parametrize("reason", UNUSABLE)
@pytest.mark.parametrize("model", [None, "m"])
def test_a_row_that_cannot_be_used_is_left_out_and_the_rest_taken(tmp_path, reason, model):
    store = Store.open(tmp_path, create=True)
    made = store.write(lambda c: project.create_project(c, "greetings"))
    suffix = "csv" if "," in UNUSABLE[reason].split("\n")[0] and "{" not in UNUSABLE[reason] else "jsonl"
    told = intake.take(store, made, UNUSABLE[reason], suffix, intake.Source("file", model), "a test")
    store.close()
    assert told["ledger"]["dropped_by_reason"] == {reason: 1}
    assert told["answers"] == told["ledger"]["kept"] == 1
