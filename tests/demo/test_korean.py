"""Particles: literal words with and without a final consonant."""

import pytest

from baro.demo.facts import JOBS
from baro.demo.grammar import all_prompts
from baro.demo.korean import Noun, final_consonant, has_hangul


@pytest.mark.parametrize(
    ("word", "pair", "expected"),
    [
        ("수진", "은/는", "수진은"),
        ("민수", "은/는", "민수는"),
        ("서연", "이/가", "서연이"),
        ("은지", "이/가", "은지가"),
        ("물", "을/를", "물을"),
        ("사과", "을/를", "사과를"),
        ("공", "과/와", "공과"),
        ("배", "과/와", "배와"),
        ("서울", "이에요/예요", "서울이에요"),
        ("파리", "이에요/예요", "파리예요"),
        ("학생", "이에요/예요", "학생이에요"),
        ("교사", "이에요/예요", "교사예요"),
        ("하얀색", "이야/야", "하얀색이야"),
        ("도쿄", "이야/야", "도쿄야"),
        ("서울", "으로/로", "서울로"),
        ("집", "으로/로", "집으로"),
        ("학교", "으로/로", "학교로"),
        ("1", "은/는", "1은"),  # 일
        ("2", "은/는", "2는"),  # 이
        ("3", "이에요/예요", "3이에요"),  # 삼
        ("4", "이에요/예요", "4예요"),  # 사
        ("5", "과/와", "5와"),  # 오
        ("6", "이/가", "6이"),  # 육
        ("10", "을/를", "10을"),  # 십
        ("", "은/는", "는"),
        ("?", "은/는", "?는"),
    ],
)
def test_particles_follow_the_final_consonant(word: str, pair: str, expected: str) -> None:
    assert format(Noun(word), pair) == expected


@pytest.mark.parametrize(
    ("word", "reading", "expected"),
    [("apple", "애플", "apple은"), ("water", "워터", "water는"), ("book", "북", "book은"), ("star", "스타", "star는")],
)
def test_foreign_words_go_by_their_reading(word: str, reading: str, expected: str) -> None:
    assert f"{Noun(word, reading):은/는}" == expected


def test_a_noun_without_a_pair_is_the_bare_word() -> None:
    assert f"{Noun('파리')}" == "파리"
    assert Noun("파리") == "파리"


@pytest.mark.parametrize(("word", "final"), [("가", 0), ("각", 1), ("갈", 8), ("힣", 27), ("a", 0), ("", 0), ("ㄱ", 0)])
def test_final_consonant(word: str, final: int) -> None:
    assert final_consonant(word) == final


def test_hangul_is_recognised() -> None:
    assert has_hangul("What is 물?")
    assert not has_hangul("What is water? 水")


def test_every_introduction_in_the_prompts_has_the_right_copula() -> None:
    right = ["학생이에요", "교사예요", "기사예요", "농부예요", "가수예요", "회사원이에요", "간호사예요", "군인이에요"]
    starts = {prompt.split(". ")[0] for prompt in all_prompts() if prompt.startswith("저는 ")}
    assert starts == {f"저는 {phrase}" for phrase in right}
    assert len(right) == len(JOBS["ko"])
