"""What an export says of itself: a dataset card in English or Korean, and the JSON schema of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from baro.feedback.undefined import sentence

_TEXT: dict[str, Any] = {"type": "string"}
_NUMBER, _WHOLE, _FLAG = {"type": "number"}, {"type": "integer"}, {"type": "boolean"}
_MESSAGES = {
    "type": "array",
    "items": {"type": "object", "properties": {"role": _TEXT, "content": _TEXT}, "required": ["role", "content"]},
}
_DIALOGUE = {"anyOf": [_TEXT, _MESSAGES]}
_LIST, _OBJECT = {"type": "array"}, {"type": "object"}

COLUMNS: dict[str, tuple[dict[str, Any], str, str]] = {
    "prompt": (_DIALOGUE, "what was asked", "질문"),
    "chosen": (_DIALOGUE, "the likelier better answer", "더 나을 확률이 높은 응답"),
    "rejected": (_DIALOGUE, "the other answer", "다른 응답"),
    "completion": (_DIALOGUE, "the answer", "응답"),
    "response": (_DIALOGUE, "the answer", "응답"),
    "responses": (_LIST, "the answers", "응답들"),
    "ranks": (
        _LIST,
        "a rank for each answer; 1 is the best, equal ranks tie",
        "응답마다의 순위(1이 가장 좋고, 같으면 동점)",
    ),
    "utilities": (_LIST, "how good each answer is, in log-odds", "응답마다의 효용(로그 오즈)"),
    "label": (_FLAG, "a thumb up or down", "좋아요 또는 싫어요"),
    "p_chosen": (_NUMBER, "probability that chosen is the better one", "chosen이 더 나을 확률"),
    "p_good": (_NUMBER, "probability of a thumb up", "좋아요일 확률"),
    "margin": (_NUMBER, "how much better, for a reward model; 0 says nothing", "보상 모델을 위한 차이(0은 정보 없음)"),
    "n_votes": (_WHOLE, "judgments behind the label", "라벨에 쓰인 판단 수"),
    "prompt_id": (_TEXT, "the prompt's id; split by it", "질문의 식별자"),
    "group_id": (_TEXT, "the task; its rows belong together", "과제의 식별자(같은 과제의 행)"),
    "adjudicated": (_FLAG, "an adjudicator decided", "조정자가 결정했는지"),
    "dimension": (_TEXT, "which question was asked: overall, helpful, safer or edit", "무엇을 물었는지"),
    "author": (_TEXT, "human: a person wrote it", "human: 사람이 씀"),
    "critique": (_TEXT, "what the editor said", "편집자의 비평"),
    "policy": (
        _TEXT,
        "how the task was selected; only random ones stand for all answers",
        "작업을 고른 방식(random만 전체를 대표함)",
    ),
    "propensity": (_NUMBER, "probability with which it was drawn", "뽑힐 확률"),
    "better_response_id": (_WHOLE, "the more helpful response: 0 or 1", "더 유용한 응답"),
    "safer_response_id": (_WHOLE, "the safer response: 0 or 1", "더 안전한 응답"),
}
"""JSON schema and meaning of the columns; the others follow from their names."""
_ENDINGS: list[tuple[str, dict[str, Any]]] = [
    ("_safe", {"type": ["boolean", "null"]}),
    ("_severity_level", _WHOLE),
    ("_harm_category", _OBJECT),
    ("_source", _TEXT),
    ("_model", _TEXT),
    ("_ids", _LIST),
    ("_id", _TEXT),
    ("response_0", _TEXT),
    ("response_1", _TEXT),
    ("edited_from", _TEXT),
]

REASONS = {
    "no_vote": ("nobody could decide", "판단한 사람이 없음"),
    "undecided": ("both answers are equally likely", "두 응답이 동률"),
    "tie": ("equal ranks", "같은 순위"),
    "votes_of_unreliable_raters": ("votes of raters below min_reliability", "min_reliability보다 낮은 평가자의 표"),
    "older_guideline": (
        "judgments under an older guideline: asked again since, or left out by guidelines=newest",
        "이전 지침에 따른 판단(다시 물었거나 guidelines=newest로 제외)",
    ),
    "withdrawn": (
        "judgments of tasks that were withdrawn, or whose texts were removed",
        "철회했거나 글이 지워진 과제의 판단",
    ),
    "critique_only": ("a critique without an edit", "편집 없이 비평만 있음"),
    "overridden_edit": ("edits in whose place an adjudicator's stands", "조정자의 편집으로 대신한 편집"),
    "rated_already": (
        "answers of a pair called both bad that have a thumb already",
        "둘 다 나쁘다고 했지만 좋아요·싫어요가 이미 있는 응답",
    ),
    "never_compared": ("two answers that no ranking connects", "어떤 순위로도 이어지지 않는 두 응답"),
    "same_text": ("both texts are equal", "두 글이 같음"),
    "system_message": ("a transcript has no place for a system message", "대화록에 시스템 메시지를 쓸 수 없음"),
    "turn_marks_in_text": ("the text holds the marks of a transcript's turns", "글에 대화록의 차례 표시가 들어 있음"),
    "safety_undecided": ("safety marks are divided", "안전 표시가 갈림"),
    "safety_conflict": ("the safer one is not the one marked safe", "더 안전한 응답과 안전 표시가 어긋남"),
    "known_answer": ("tasks with a known answer", "정답이 정해진 과제"),
}
"""In English and Korean, why something was left out."""

WORDS = {
    "en": {
        "title": "Human feedback: {project}, layout {layout}",
        "made": "Made by `baro feedback export` from the judgments up to event {watermark} ({at}).",
        "rows": "Rows", "judgments": "Judgments", "raters": "Raters", "prompts": "Prompts", "labels": "Labels",
        "labels_by": "Made by the label function `{name}` with these settings:",
        "agreement": "Agreement", "question": "question", "raw": "raw agreement", "alpha": "Krippendorff's alpha",
        "items": "items", "dropped": "Left out", "nothing": "nothing", "guidelines": "Guidelines",
        "version": "version", "columns": "Columns", "column": "column", "type": "type", "meaning": "meaning",
        "balance": "Thumbs up {up}, down {down}; to weigh both alike, give thumbs down the weight {weight:.3g}.",
        "csv": "In the CSV, cells that begin with = + - @ (or full-width), a tab or a line's end have an apostrophe.",
        "left_out": "- Raters below min_reliability, whose votes do not count: {n}",
        "interval": "In brackets: 95 % intervals over prompts; of fewer than ten prompts they are too short.",
        "beyond": "Left out here: {n} votes that were asked for because earlier ones disagreed, or came on top.",
        "chosen": "Some tasks were chosen by a reward model ({policies}); only those drawn at random stand for all:",
    },
    "ko": {
        "title": "사람의 피드백: {project}, 형식 {layout}",
        "made": "`baro feedback export`가 이벤트 {watermark}({at})까지의 판단으로 만들었습니다.",
        "rows": "행", "judgments": "판단", "raters": "평가자", "prompts": "질문", "labels": "라벨",
        "labels_by": "라벨 함수 `{name}`, 설정:",
        "agreement": "일치도", "question": "질문", "raw": "단순 일치율", "alpha": "크리펜도르프 알파",
        "items": "항목", "dropped": "제외된 것", "nothing": "없음", "guidelines": "지침",
        "version": "버전", "columns": "열", "column": "열", "type": "형식", "meaning": "뜻",
        "balance": "좋아요 {up}, 싫어요 {down}. 같은 무게로 보려면 싫어요에 {weight:.3g}의 가중치를 주십시오.",
        "csv": "CSV에서 = + - @(전각 문자도), 탭, 줄바꿈으로 시작하는 칸에는 앞에 작은따옴표가 붙습니다.",
        "left_out": "- min_reliability보다 낮아 표가 빠진 평가자: {n}",
        "interval": "괄호 안은 질문 단위의 95 % 신뢰구간입니다. 질문이 열 개보다 적으면 실제보다 짧습니다.",
        "beyond": "앞선 판단이 갈려서 더 물었거나 정한 수를 넘은 표 {n}개는 여기서 뺐습니다.",
        "chosen": "일부 작업은 보상 모델로 골랐습니다({policies}). 무작위로 뽑은 것만 전체를 대표합니다.",
    },
}  # fmt: skip


def row_schema(row: Mapping[str, Any], layout: str) -> dict[str, Any]:
    """The JSON schema of the rows that look like this one."""
    properties = {name: _property(name, value, layout) for name, value in row.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "required": list(row),
        "additionalProperties": False,
    }


def _property(name: str, value: Any, layout: str) -> dict[str, Any]:
    if layout == "facts":
        kinds = {list: "array", dict: "object", bool: "boolean", int: "integer", str: "string"}
        return {"type": [kinds.get(type(value), "string"), "null"]} if not isinstance(value, list) else dict(_LIST)
    if name in COLUMNS:
        return {**COLUMNS[name][0], "description": COLUMNS[name][1]}
    known = next((shape for ending, shape in _ENDINGS if name.endswith(ending)), None)
    return dict(known or ({"type": ["number", "null"]} if layout == "criteria" else _LIST))


def card(about: Mapping[str, Any], lang: str) -> str:
    """The README of an export; ``about`` is what stands in its export.json."""
    say = WORDS[lang]
    front = [
        {"split": side, "path": f"{side if 'train' in about['rows'] else 'data'}.parquet"} for side in about["rows"]
    ]
    lines = ["---", "configs:", "- config_name: default", "  data_files:"]
    lines += [line for one in front for line in (f"  - split: {_split(one['split'])}", f"    path: {one['path']}")]
    lines += ["---", "", "# " + say["title"].format_map(about), "", say["made"].format_map(about), ""]
    lines += [f"- {say['rows']}: " + ", ".join(f"{side} {n}" for side, n in about["rows"].items())]
    counts = ", ".join(f"{role} {n}" for role, n in about["judgments"].items())
    lines += [f"- {say['judgments']}: {counts}", f"- {say['raters']}: {about['raters']}"]
    lines += [f"- {say['prompts']}: {about['prompts']}"]
    lines += [say["left_out"].format(n=len(about["raters_left_out"]))] if about["raters_left_out"] else []
    lines += [say["balance"].format_map(_balance(about["thumbs"]))] if about.get("thumbs") else []
    lines += [say["csv"]] if about["settings"]["csv"] else []
    lines += ["", f"## {say['labels']}", "", say["labels_by"].format(name=about["label_function"]), ""]
    lines += [f"- `{name}`: {value}" for name, value in about["settings"]["labels"].items()]
    lines += ["", f"## {say['agreement']}", "", say["interval"], "", *_agreement(about["agreement"], say, lang)]
    lines += _of_which(about, say, lang)
    lines += ["", f"## {say['dropped']}", "", *_dropped(about["dropped"], say, lang)]
    lines += ["", f"## {say['guidelines']}", "", *_guidelines(about["guidelines"], say)]
    lines += ["", f"## {say['columns']}", "", *_columns(about["schema"], say, lang)]
    return "\n".join(lines) + "\n"


def _of_which(about: Mapping[str, Any], say: Mapping[str, str], lang: str) -> list[str]:
    """What agreement leaves out, and what it is on the tasks that were drawn at random."""
    lines = ["", say["beyond"].format(n=about["votes_beyond"])] if about["votes_beyond"] else []
    if "agreement_random" not in about:
        return lines
    policies = ", ".join(f"{name} {n}" for name, n in about["policies"].items())
    return [*lines, "", say["chosen"].format(policies=policies), "", *_agreement(about["agreement_random"], say, lang)]


def _split(side: str) -> str:
    return {"data": "train", "held_out": "test"}.get(side, side)


def _balance(thumbs: Mapping[str, int]) -> dict[str, Any]:
    return {**thumbs, "weight": thumbs["up"] / thumbs["down"] if thumbs["down"] else 1.0}


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines]


def _figure(found: Mapping[str, Any], lang: str) -> str:
    if "undefined" in found:
        return f"– ({sentence(found['undefined'], lang)})"
    return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}] (n = {found['n']})"


def _agreement(scales: Sequence[Mapping[str, Any]], say: Mapping[str, str], lang: str) -> list[str]:
    rows = [(one["scale"], one["items"], _figure(one["raw"], lang), _figure(one["alpha"], lang)) for one in scales]
    return _table([say["question"], say["items"], say["raw"], say["alpha"]], rows) if rows else [say["nothing"]]


def _dropped(dropped: Mapping[str, int], say: Mapping[str, str], lang: str) -> list[str]:
    lines = []
    for reason, n in dropped.items():
        part, _, rest = reason.partition("_")
        inner, prefix = (rest, f"{part}: ") if part in ("helpful", "safer") else (reason, "")
        words = REASONS.get(inner, (inner, inner))
        lines.append(f"- {n}: {prefix}{words[lang == 'ko']}")
    return lines or [say["nothing"]]


def _guidelines(guidelines: Sequence[Mapping[str, Any]], say: Mapping[str, str]) -> list[str]:
    return [
        f"- {say['version']} {one['version']} ({one['lang']}), sha256 {one['sha256'][:16]}: {one['judgments']}"
        for one in guidelines
    ] or [say["nothing"]]


def _columns(schema: Mapping[str, Any], say: Mapping[str, str], lang: str) -> list[str]:
    rows = []
    for name, shape in schema["properties"].items():
        kind = shape.get("type", "string / array")
        meaning = COLUMNS[name][2 if lang == "ko" else 1] if name in COLUMNS else ""
        rows.append((f"`{name}`", " / ".join(kind) if isinstance(kind, list) else kind, meaning))
    return _table([say["column"], say["type"], say["meaning"]], rows)


def iso(at_ms: int) -> str:
    """A time of the store's clock as text."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")
