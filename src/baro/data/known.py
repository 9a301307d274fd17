"""The table of layouts, the first that fits is taken: each with the function of ``builders`` that makes its records."""

from __future__ import annotations

import re

from baro.data import builders, safety
from baro.data.builders import NUMBERED, STRENGTH
from baro.data.layouts import NAMES, Layout
from baro.data.oasst import replies
from baro.records import Answers, Demonstration, Preference, Prompt, Ranking, Rated, Safety, Thumb

BEFORE = ("system", "history", "input")
LAYOUTS = [  # the first that fits is taken
    Layout(
        ("prompt", "chosen", "rejected"),
        Preference,
        builders.pair,
        "prompt, {chosen} and {rejected} as named",
        (*BEFORE, *STRENGTH),
        keeps=STRENGTH[2:],
    ),
    *(
        Layout(
            (column, "chosen", "rejected"),
            Preference,
            builders.behind(column),
            f"{{chosen}} and {{rejected}} answer the conversation in {{{column}}}",
            ("system", *STRENGTH),
            keeps=STRENGTH[2:],
        )
        for column in ("messages", "conversations")
    ),
    Layout(
        ("chosen", "rejected"),
        Preference,
        builders.transcripts,
        "{chosen} and {rejected} are whole conversations up to their last answers, the prompt is what both begin with",
        ("system", *STRENGTH),
        keeps=STRENGTH[2:],
    ),
    Layout(
        ("prompt", "response_0", "response_1", "better_response_id"),
        Preference,
        builders.safe_rlhf,
        "the chosen response is the one that {better_response_id} names",
        BEFORE,
        keeps=("better_response_id",),
    ),
    Layout(
        ("prompt", "response_0", "response_1", "is_response_0_safe", "is_response_1_safe"),
        Safety,
        safety.pku,
        "{is_response_0_safe} and {is_response_1_safe} say which response is safe, and {safer_response_id}, where it "
        "is given, which is the safer one",
        (*BEFORE, *safety.PKU_FURTHER),
        blank=("is_response_0_safe", "is_response_1_safe"),
    ),
    Layout(
        ("prompt", "responses", "unsafe"),
        Safety,
        safety.several,
        "{unsafe} are the probabilities that {responses} are unsafe",
        (*BEFORE, "safety_ranks", "p_safer", "severity", "categories"),
        blank=("unsafe",),
    ),
    Layout(
        ("prompt", "completion", "unsafe"),
        Safety,
        safety.single,
        "{unsafe} is the probability that {completion} is unsafe",
        (*BEFORE, "severity", "category"),
        judged=("unsafe",),
    ),
    Layout(
        ("prompt", "completion", "is_safe"),
        Safety,
        safety.is_safe,
        "{is_safe} says whether {completion} is safe",
        (*BEFORE, "category"),
        judged=("is_safe",),
        common=False,
    ),
    Layout(
        ("prompt", "completion", "acceptable?"),
        Safety,
        safety.square,
        "{completion} is unsafe as far as raters do not find it acceptable",
        ("raw_annotations", "question_category"),
        judged=("acceptable?",),
        common=False,
    ),
    Layout(
        ("prompt", "completion", "type", "annotation_1", "annotation_2"),
        Safety,
        safety.xstest,
        "{completion} is unsafe as far as annotators say that it complies fully with an unsafe prompt, one whose "
        "{type} begins with 'contrast_'",
        ("final_label",),
        when=safety.is_xstest,
        blank=("annotation_1", "annotation_2"),
        common=False,
    ),
    Layout(
        ("context", "response1", "response2", "overall_preference"),
        Preference,
        builders.helpsteer3,
        "{overall_preference} says which response to {context} is chosen, below 0 the first",
        keeps=("overall_preference",),
        judged=("overall_preference",),
        common=False,
    ),
    Layout(
        ("history", "human_ref_A", "human_ref_B", "labels"),
        Preference,
        builders.shp,
        "{labels} says which answer to {history} is chosen, 1 is {human_ref_A}",
        judged=("labels",),
        common=False,
    ),
    Layout(
        ("prompt", "responses", "ranks"),
        Ranking,
        builders.ranked,
        "prompt, {responses} and {ranks} (1 is best) as named",
        BEFORE,
        judged=("ranks",),
    ),
    Layout(
        ("message_id", "parent_id", "text", "role", "message_tree_id"),
        Ranking,
        builders.numbered,
        "{text} is a turn behind the one that {parent_id} names; the replies to one question are a ranking, those of "
        "prompters are prompts",
        together="message_tree_id",
        assemble=replies,
        common=False,
    ),
    Layout(
        ("prompt", "ranking"),
        Ranking,
        builders.numbered,
        "{ranking} has a rank for each numbered response, the lowest is the best",
        BEFORE,
        numbered=NUMBERED,
        when=lambda looked, reading: any(re.fullmatch(NUMBERED, name) for name in looked.names),
        judged=("ranking",),
    ),
    Layout(
        ("prompt", "answers"),
        Ranking,
        builders.nectar,
        "{answers} hold the answers with their ranks (1 is best)",
        BEFORE,
        when=builders.each(["answers"], "answer", "rank"),
        common=False,
    ),
    Layout(
        ("prompt", "responses", "scores"),
        Rated,
        builders.rated("scores"),
        "{scores} are those of {responses}",
        BEFORE,
        judged=("scores",),
    ),
    Layout(
        ("prompt", "responses", "ratings"),
        Rated,
        builders.rated("ratings"),
        "{ratings} are those of {responses}",
        BEFORE,
        judged=("ratings",),
    ),
    Layout(
        ("prompt", "responses"),
        Rated,
        builders.ultrafeedback,
        "{responses} hold the answers with a rating for each aspect",
        BEFORE,
        when=builders.each(NAMES["responses"], "response", "annotations"),
        common=False,
    ),
    Layout(
        ("prompt", "completion", "label"),
        Thumb,
        builders.thumb,
        "the answer is {completion}, {label} its thumb (true or 1 is up)",
        BEFORE,
        when=builders.has_label,
        judged=("label",),
    ),
    Layout(
        ("prompt", "completion"),
        Rated,
        builders.score_columns,
        "the answer is {completion}, beside it stand its scores; neighbouring rows of one prompt belong together",
        BEFORE,
        scored=True,
        when=builders.has_scores,
        merges=True,
    ),
    Layout(
        ("prompt", "completion"), Demonstration, builders.answer_in("completion"), "the answer is {completion}", BEFORE
    ),
    *(
        Layout(
            (column,),
            Demonstration,
            builders.conversation_in(column),
            f"of {{{column}}}, the prompt is what stands before the first answer, and the completion is the rest up to "
            "the last answer",
            ("system",),
        )
        for column in ("messages", "conversations")
    ),
    Layout(
        ("prompt", "responses"),
        Answers,
        builders.answers,
        "{responses} are answers without a judgment",
        (*BEFORE, "finished"),
    ),
    Layout(("prompt", "answer"), Prompt, builders.prompt, "{answer} is kept for verifiers", BEFORE, keeps=("answer",)),
    *(
        Layout(
            ("prompt", column),
            Prompt,
            builders.prompt,
            f"{{{column}}} is kept for verifiers",
            BEFORE,
            keeps=(column,),
            common=False,
        )
        for column in ("ground_truth", "solution")
    ),
    Layout(
        ("prompt", "solution"),
        Demonstration,
        builders.answer_in("solution"),
        "the answer is {solution}",
        BEFORE,
        common=False,
    ),
    Layout(("prompt", "answer"), Demonstration, builders.answer_in("answer"), "the answer is {answer}", BEFORE),
    Layout(("prompt", "tests"), Prompt, builders.prompt, "{tests} is kept for verifiers", BEFORE, keeps=("tests",)),
    Layout(
        ("text", "tests"),
        Prompt,
        builders.prompt_in("text"),
        "the prompt is {text}; {tests} is kept for verifiers",
        keeps=("tests",),
        common=False,
    ),
    Layout(("text",), Demonstration, builders.text, "{text} is raw text", when=builders.not_a_turn),
    Layout(("prompt",), Prompt, builders.prompt, "{prompt} is the prompt", BEFORE),
]
