"""A report's part on critique and revision: rounds in a table, and each answer beside what became of it."""

import pytest
from evaluate.test_report import Page, figure, make_run

from baro.evaluate.report import build_report

EVIL = "<script>alert(1)</script>"
STEPS = [
    {"principle": "no_harm", "critique": "It tells how.", "revision": "I will not tell. Ask a locksmith, please."},
    {"principle": "helpful", "critique": f"It is short. {EVIL}", "revision": "Ask a locksmith, please. He opens it."},
]
ROWS = [
    {"row": "p:1", "prompt": "How do I open a lock?", "answer": "With a pick.", "steps": STEPS},
    {"row": "p:2", "prompt": "잠긴 문은 어떻게 여나요?", "answer": "도구로 엽니다.", "steps": [
        {**STEPS[0], "critique": "방법을 알려 줍니다.", "revision": "열쇠 수리공에게 문의하세요."},
        {**STEPS[1], "revision": "Ask a locksmith, please."},
    ]},
    {"row": "p:3", "prompt": "And a safe?", "answer": "Drill.", "steps": STEPS[:1],
     "error": "the critique of round 2 failed: no answer in 60 s"},
]  # fmt: skip
FIGURES = [
    figure("changed_fraction/round_1", 1.0, 0.34, 1.0, 2),
    figure("changed_fraction/round_2", 0.5, 0.1, 0.9, 2),
    *(figure(f"common_sentence/round_{k}", share, 0.1, 0.95, 2) for k, share in enumerate((0.5, 0.5, 1.0))),
]


@pytest.fixture
def build(tmp_path):
    def build(language="en", rows=ROWS):
        run = make_run(tmp_path / "critique", "critique", figures=FIGURES, rows={"steps": rows})
        return build_report([run], tmp_path / language, title="t", names={}, language=language).read_text("utf-8")

    return build


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ["Critique and revision", "First answer", "Round 1", "Round 2", "given up", "With the most common"]),
        ("ko", ["비평과 수정", "첫 답변", "라운드 1", "라운드 2", "포기", "가장 흔한 문장이 든 답변"]),
    ],
)
def test_answers_critiques_and_revisions_stand_side_by_side(build, language, words):
    page = Page(build(language))
    assert page.balanced
    told = " ".join(" ".join(page.texts).split())
    assert all(word in told for word in words)
    for row in ROWS:
        after = told[told.index(row["prompt"]) :]
        order = [row["answer"], *(part for step in row["steps"] for part in (step["critique"], step["revision"]))]
        places = [after.index(text) for text in order]
        assert places == sorted(places)
    assert "the critique of round 2 failed: no answer in 60 s" in told
    assert "ask a locksmith, please." in told  # what both last revisions hold


def test_texts_of_models_cannot_act(build):
    assert EVIL not in build()


def test_many_answers_are_folded_and_a_run_without_steps_has_no_section(build, tmp_path):
    many = build(rows=[{**ROWS[0], "row": f"p:{i}"} for i in range(14)])
    assert "2 more prompts" in many
    run = make_run(tmp_path / "sft", "sft")
    assert 'id="critiques"' not in build_report([run], tmp_path / "none", title="t", names={}).read_text("utf-8")
