"""The figures of the documentation, English and Korean, as SVG: python docs/figures/draw.py

Text stays text, so that it can be searched and read aloud; fonts are the reader's own. Every figure has a white card
behind it and reads the same on a light and on a dark page. Sizes fit DejaVu Sans and Noto Sans CJK, wide as they are.
"""

import json
import re
from collections.abc import Callable, Sequence
from html import escape
from math import ceil, floor, log2
from pathlib import Path
from statistics import mean

FOLDER = Path(__file__).parent
FONTS = (
    "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', 'Noto Sans KR', 'Noto Sans CJK KR', "
    "'Apple SD Gothic Neo', 'Malgun Gothic', sans-serif"
)
INK, QUIET = "#1f2328", "#59636e"
FILLS = {  # fill and border
    "model": ("#ddf4ff", "#0969da"),
    "data": ("#fff8c5", "#9a6700"),
    "person": ("#fbefff", "#8250df"),
    "number": ("#dafbe1", "#1a7f37"),
    "loss": ("#ffebe9", "#cf222e"),
    "frozen": ("#eaeef2", "#59636e"),
}
Say = Callable[[str, str], str]


class Figure:
    """A card on which boxes, arrows and words are put; coordinates are pixels from the upper left."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" role="img" font-family="{FONTS}" font-size="14">\n'
            f"<title>{escape(title)}</title>\n"
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
            f'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="{QUIET}"/></marker></defs>\n'
            f'<rect x="1" y="1" width="{width - 2}" height="{height - 2}" rx="12" fill="#ffffff" stroke="#d0d7de"/>'
        )
        self.parts: list[str] = []
        self.words(width / 2, 30, title, size=16, bold=True)

    def words(
        self, x: float, y: float, text: str, *, size: int = 14, ink: str = INK, bold: bool = False, at: str = "middle"
    ) -> None:
        """Lines of text, the first with its baseline at y."""
        weight = ' font-weight="600"' if bold else ""
        for number, line in enumerate(text.split("\n")):
            self.parts.append(
                f'<text x="{x:g}" y="{y + number * size * 1.35:g}" font-size="{size}" text-anchor="{at}" '
                f'fill="{ink}"{weight}>{escape(line)}</text>'
            )

    def box(self, x: int, y: int, width: int, height: int, text: str, kind: str) -> None:
        """A box whose first line is its name; the rest is smaller."""
        fill, border = FILLS[kind]
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{fill}" stroke="{border}" '
            f'stroke-width="1.5"/>'
        )
        name, _, rest = text.partition("\n")
        lines = rest.count("\n") + 1 if rest else 0
        top = y + height / 2 + 5 - lines * 17 / 2
        self.words(x + width / 2, top, name, bold=True)
        if rest:
            self.words(x + width / 2, top + 18, rest, size=12)

    def arrow(self, *points: tuple[int, int], dashed: bool = False) -> None:
        """A line through the points with a tip at its end."""
        path = " ".join(f"{'L' if i else 'M'}{x} {y}" for i, (x, y) in enumerate(points))
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(
            f'<path d="{path}" fill="none" stroke="{QUIET}" stroke-width="1.6"{dashes} marker-end="url(#tip)"/>'
        )

    def note(self, x: float, y: float, text: str, at: str = "middle") -> None:
        """Small grey words beside an arrow."""
        self.words(x, y, text, size=12, ink=QUIET, at=at)

    def svg(self) -> str:
        return "\n".join([self.head, *self.parts, "</svg>"]) + "\n"


def loop(say: Say) -> Figure:
    f = Figure(860, 400, say("The RLHF loop", "RLHF의 순환"))
    f.box(20, 60, 150, 60, say("demonstrations\nanswers to imitate", "시범 답변\n따라 할 답변"), "data")
    f.arrow((170, 90), (210, 90))
    f.box(210, 60, 130, 60, say("SFT\nimitation", "SFT\n모방"), "model")
    f.arrow((340, 90), (380, 90))
    f.box(380, 60, 170, 60, say("answers\nsampled from the policy", "답변\n정책에서 뽑는다"), "data")
    f.arrow((550, 90), (590, 90))
    f.box(590, 60, 140, 60, say("judgments\nwhich is better?", "판단\n어느 쪽이 나은가"), "person")
    f.arrow((660, 120), (660, 165))
    f.box(575, 165, 170, 60, say("preferences\nchosen, rejected", "선호 데이터\nchosen, rejected"), "data")
    f.arrow((575, 180), (510, 180))
    f.box(360, 155, 150, 50, say("reward model", "보상 모델"), "model")
    f.arrow((360, 180), (310, 180))
    f.box(210, 155, 100, 50, "PPO", "model")
    f.arrow((620, 225), (620, 255), (310, 255))
    f.box(210, 230, 100, 50, "DPO, KTO", "model")
    f.note(465, 247, say("no reward model", "보상 모델 없이"))
    f.arrow((210, 180), (170, 180), (170, 200), (150, 200))
    f.arrow((210, 255), (170, 255), (170, 230), (150, 230))
    f.box(20, 185, 130, 60, say("new policy", "새 정책"), "model")
    f.arrow((85, 245), (85, 310))
    f.box(20, 310, 130, 60, say("evaluation\nagainst SFT", "평가\nSFT와 비교"), "number")
    f.arrow((150, 340), (790, 340), (790, 40), (465, 40), (465, 60), dashed=True)
    f.note(
        470,
        331,
        say(
            "next round: the new policy answers, people judge again", "다음 바퀴: 새 정책이 답하고 사람이 다시 판단한다"
        ),
    )
    return f


def agent(say: Say) -> Figure:
    f = Figure(860, 330, say("Agent and environment", "에이전트와 환경"))
    f.words(205, 65, say("reinforcement learning", "강화 학습"), bold=True)
    f.box(120, 85, 170, 56, say("agent\npolicy π(a|s)", "에이전트\n정책 π(a|s)"), "model")
    f.box(120, 235, 170, 56, say("environment", "환경"), "frozen")
    f.arrow((290, 113), (345, 113), (345, 263), (290, 263))
    f.note(352, 185, say("action a", "행동 a"), "start")
    f.arrow((120, 263), (65, 263), (65, 113), (120, 113))
    f.note(73, 181, say("state s,\nreward r", "상태 s,\n보상 r"), "start")
    f.parts.append('<line x1="430" y1="55" x2="430" y2="300" stroke="#d0d7de"/>')
    f.words(645, 65, say("RLHF", "RLHF"), bold=True)
    f.box(
        535,
        85,
        220,
        56,
        say("language model\nπ(next token | text so far)", "언어 모델\nπ(다음 토큰 | 지금까지의 글)"),
        "model",
    )
    f.box(535, 235, 220, 56, say("text so far\nprompt + tokens written", "지금까지의 글\n프롬프트 + 쓴 토큰"), "data")
    f.arrow((755, 113), (795, 113), (795, 263), (755, 263))
    f.note(788, 181, say("one token\nis added", "토큰 하나가\n붙는다"), "end")
    f.arrow((535, 263), (500, 263), (500, 113), (535, 113))
    reward = "each token: −β log(π/π_ref)\nlast token: + score", "토큰마다: −β log(π/π_ref)\n마지막 토큰: + 점수"
    f.note(508, 181, say(*reward), "start")
    return f


def reward_model(say: Say) -> Figure:
    f = Figure(860, 320, say("A reward model learns from pairs", "보상 모델은 쌍에서 배운다"))
    f.box(20, 75, 170, 60, say("prompt + chosen\ny_w, judged better", "프롬프트 + chosen\ny_w, 더 낫다고 판단"), "data")
    f.box(20, 195, 170, 60, say("prompt + rejected\ny_l", "프롬프트 + rejected\ny_l"), "data")
    f.arrow((190, 105), (250, 105))
    f.arrow((190, 225), (250, 225))
    f.box(
        250,
        75,
        160,
        180,
        say(
            "reward model\none model\nscores both,\neach at its last token",
            "보상 모델\n같은 모델이\n둘 다 채점한다,\n마지막 토큰에서",
        ),
        "model",
    )
    f.arrow((410, 105), (455, 105))
    f.arrow((410, 225), (455, 225))
    f.box(455, 80, 90, 50, "r_w", "number")
    f.box(455, 200, 90, 50, "r_l", "number")
    f.arrow((545, 105), (570, 105), (570, 155), (595, 155))
    f.arrow((545, 225), (570, 225), (570, 175), (595, 175))
    f.box(595, 130, 150, 70, say("σ(r_w − r_l)\np(chosen is better)", "σ(r_w − r_l)\nchosen이 나을 확률"), "number")
    f.arrow((745, 165), (768, 165))
    f.box(768, 135, 76, 60, say("loss\n−log σ", "손실\n−log σ"), "loss")
    f.arrow((806, 195), (806, 290), (330, 290), (330, 255), dashed=True)
    f.note(560, 282, say("gradient: r_w up, r_l down", "기울기: r_w는 위로, r_l은 아래로"))
    return f


def dpo(say: Say) -> Figure:
    f = Figure(860, 340, say("DPO: the policy is its own reward model", "DPO: 정책이 곧 보상 모델이다"))
    f.box(20, 130, 150, 80, say("pair\nprompt, y_w, y_l", "선호 쌍\n프롬프트, y_w, y_l"), "data")
    f.arrow((170, 160), (200, 160), (200, 105), (230, 105))
    f.arrow((170, 180), (200, 180), (200, 235), (230, 235))
    f.box(230, 75, 170, 60, say("policy π\ntrained", "정책 π\n학습한다"), "model")
    f.box(
        230,
        205,
        170,
        60,
        say("reference π_ref\nfrozen, computed once", "기준 정책 π_ref\n고정, 한 번만 계산"),
        "frozen",
    )
    f.arrow((400, 105), (430, 105), (430, 155), (460, 155))
    f.arrow((400, 235), (430, 235), (430, 185), (460, 185))
    f.note(442, 98, say("log π(y_w), log π(y_l)", "log π(y_w), log π(y_l)"), "start")
    f.note(442, 250, say("log π_ref(y_w), log π_ref(y_l)", "log π_ref(y_w), log π_ref(y_l)"), "start")
    f.box(
        460,
        130,
        220,
        80,
        say("h\nlog π/π_ref of y_w\nminus log π/π_ref of y_l", "h\ny_w의 log π/π_ref에서\ny_l의 log π/π_ref를 뺀 값"),
        "number",
    )
    f.arrow((680, 170), (715, 170))
    f.box(715, 140, 125, 60, say("loss\n−log σ(βh)", "손실\n−log σ(βh)"), "loss")
    f.arrow((777, 140), (777, 58), (315, 58), (315, 75), dashed=True)
    f.note(640, 75, say("gradient, into the policy alone", "기울기, 정책에만"))
    f.words(
        430,
        310,
        say(
            "Before training π = π_ref, so h = 0 and the loss is log 2 = 0.6931.",
            "학습 전에는 π = π_ref이므로 h = 0이고 손실은 log 2 = 0.6931이다.",
        ),
        size=13,
    )
    return f


def constitution(say: Say) -> Figure:
    f = Figure(860, 320, say("Constitution: principles in place of people", "헌법: 사람 대신 원칙"))
    f.box(20, 150, 120, 60, say("prompt", "프롬프트"), "data")
    f.box(180, 150, 120, 60, say("answer\nof the model", "답변\n모델이 쓴다"), "data")
    f.arrow((140, 180), (180, 180))
    f.box(350, 75, 130, 60, say("critique\nby a principle", "비평\n원칙에 비추어"), "model")
    f.box(520, 75, 120, 60, say("revision", "수정"), "model")
    f.box(680, 75, 160, 60, say("demonstrations\nfor SFT", "시범 답변\nSFT에 쓴다"), "data")
    f.box(
        350,
        225,
        290,
        60,
        say(
            "a model compares two answers\nby a principle, in both orders",
            "모델이 두 답변을 비교한다\n원칙에 비추어, 두 순서로",
        ),
        "model",
    )
    f.box(680, 225, 160, 60, say("preferences\nreward model or DPO", "선호 데이터\n보상 모델 또는 DPO"), "data")
    f.arrow((300, 170), (325, 170), (325, 105), (350, 105))
    f.arrow((480, 105), (520, 105))
    f.arrow((640, 105), (680, 105))
    f.arrow((300, 190), (325, 190), (325, 255), (350, 255))
    f.arrow((640, 255), (680, 255))
    f.arrow((580, 135), (580, 165), (415, 165), (415, 135))
    f.note(497, 182, say("again, with another principle", "다른 원칙으로 되풀이"))
    return f


def tree(say: Say) -> Figure:
    f = Figure(860, 560, say("Which method?", "어떤 방법을 쓸까?"))
    yes, no = say("yes", "예"), say("no", "아니요")
    questions = [
        say("Can a program check the answer?", "프로그램이 답을 검사할 수 있는가?"),
        say("Are harm and help labelled apart?", "해로움과 유용함을 따로 표시했는가?"),
        say("Are there pairs of answers?", "답변 쌍이 있는가?"),
        say("10,000 pairs or more?", "쌍이 1만 개 이상인가?"),
    ]
    outcomes = [
        (yes, "model", say("GRPO with a verifier\nor a function as reward", "GRPO와 검증기\n또는 함수를 보상으로")),
        (yes, "model", say("safe PPO\nreward and cost apart, a limit", "safe PPO\n보상과 비용을 따로, 한도를 둔다")),
        (
            no,
            "model",
            say("KTO, from thumbs up and down", "KTO: 좋아요·싫어요에서")
            + "\n"
            + say("principles alone: constitution", "원칙뿐이면: 헌법"),
        ),
        (
            yes,
            "model",
            say("reward model and PPO", "보상 모델과 PPO")
            + "\n"
            + say("may be worth its cost; compare with DPO", "비용을 들일 만하다, DPO와 비교할 것"),
        ),
    ]
    for row, (question, (answer, kind, outcome)) in enumerate(zip(questions, outcomes, strict=True)):
        y = 60 + row * 105
        f.box(40, y, 340, 62, question, "person")
        f.arrow((380, y + 31), (490, y + 31))
        f.note(435, y + 24, answer)
        f.box(490, y, 340, 62, outcome, kind)
        f.arrow((210, y + 62), (210, y + 105))
        f.note(222, y + 89, yes if answer == no else no, "start")
    f.box(40, 480, 340, 62, say("DPO\nno reward model, no sampling", "DPO\n보상 모델도 샘플링도 없다"), "model")
    f.words(
        660,
        505,
        say(
            "10,000 is a rule of thumb, not a law.",
            "1만은 어림값이지 법칙이 아니다.",
        ),
        size=13,
    )
    return f


def judgments(say: Say) -> Figure:
    """The table of docs/feedback.md, "Win rate by number of judgments"."""
    table = re.findall(r"^\| (\d+), (.+?) \| ([\d.]+) \| (.+) \|$", (FOLDER.parent / "feedback.md").read_text(), re.M)
    f = Figure(640, 380, say("Win rate by number of judgments", "판단 수에 따른 승률"))

    def at(rankings: float, rate: float) -> tuple[float, float]:
        return 110 + 114 * (log2(rankings) - log2(50)), 300 - 800 * (rate - 0.45)

    f.note(60, 68, say("win rate against SFT, by the gold judge", "SFT 상대 승률(금 판정자)"), "start")
    axis(f, 60, 620, {f"{rate:.2f}": at(50, rate)[1] for rate in (0.45, 0.5, 0.55, 0.6, 0.65, 0.7)})
    means = []
    for rankings, how, hours, seeds in table:
        given = [tuple(map(float, one)) for one in re.findall(r"([\d.]+) \[([\d.]+), ([\d.]+)\]", seeds)]
        chosen = "margin" in how
        ink = FILLS["person" if chosen else "model"][1]
        for number, (rate, low, high) in enumerate(given):
            x, y = at(int(rankings), rate)
            x += 9 * (number - 1) + 32 * chosen
            estimate(f, x, y, (at(50, low)[1], at(50, high)[1]), ink)
        if not chosen:
            x, y = at(int(rankings), sum(rate for rate, _, _ in given) / len(given))
            means.append(f"{x:g} {y:g}")
            f.words(x, 322, rankings)
            f.note(x, 340, say(f"{hours} hours", f"{hours}시간"))
    f.parts.append(f'<path d="M{"L".join(means)}" fill="none" stroke="{QUIET}" stroke-width="1.4"/>')
    f.note(340, 364, say("rankings, and hours at 40 seconds each", "순위의 수와, 하나에 40초일 때의 시간"))
    f.words(585, 270, say("at random", "무작위"), size=12, ink=FILLS["model"][1], at="end")
    f.words(585, 288, "margin", size=12, ink=FILLS["person"][1], at="end")
    return f


def axis(f: Figure, left: float, right: float, places: dict[str, float]) -> None:
    """Horizontal lines with their names at the left; ``places``: the y of each name."""
    for name, y in places.items():
        f.parts.append(f'<line x1="{left:g}" y1="{y:g}" x2="{right:g}" y2="{y:g}" stroke="#d0d7de"/>')
        f.note(left - 8, y + 4, name, "end")


def estimate(f: Figure, x: float, y: float, ends: tuple[float, float], ink: str) -> None:
    """A dot with its interval."""
    f.parts.append(f'<path d="M{x:g} {ends[0]:g}V{ends[1]:g}" stroke="{ink}" stroke-width="1.6"/>')
    f.parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="4" fill="{ink}"/>')


def beta(say: Say) -> Figure:
    """The first table of docs/concepts.md, "What β does"."""
    return win_rates_by_beta(say, 0, say("DPO from a small β to a large one", "작은 β에서 큰 β까지의 DPO"), (0.4, 0.7))


def beta_ppo(say: Say) -> Figure:
    """The second one."""
    return win_rates_by_beta(
        say, 1, say("PPO from no KL penalty to a large one", "KL 벌점 없는 PPO부터 큰 벌점까지"), (0.1, 0.8)
    )


def win_rates_by_beta(say: Say, table: int, title: str, ends: tuple[float, float]) -> Figure:
    """Win rates by β, a mark for each seed, from a table of "What β does"."""
    part = (FOLDER.parent / "concepts.md").read_text().partition("### What β does")[2].partition("\n### ")[0]
    rows = re.findall(r"(?:^\| [\d.]+ \| 0\.\d+ \[.+ \|\n)+", part, re.M)[table]
    table_rows = re.findall(r"^\| ([\d.]+) \| (0\.\d+ \[.+) \|$", rows, re.M)
    f, (low_end, high_end) = Figure(640, 390, title), ends

    def y_of(rate: float) -> float:
        return 305 - 222 * (rate - low_end) / (high_end - low_end)

    f.note(60, 68, say("win rate against SFT, by the gold judge", "SFT 상대 승률(금 판정자)"), "start")
    ticks = [low_end + 0.1 * k for k in range(round(10 * (high_end - low_end)) + 1)]
    axis(f, 60, 620, {f"{rate:.1f}": y_of(rate) for rate in ticks})
    inks = [FILLS[kind][1] for kind in ("model", "person", "number")]
    for column, (name, seeds) in enumerate(table_rows):
        x = 120 + 108 * column
        given = [tuple(map(float, one)) for one in re.findall(r"([\d.]+) \[([\d.]+), ([\d.]+)\], ([\d.]+)", seeds)]
        for number, (rate, low, high, _) in enumerate(given):
            estimate(f, x + 14 * (number - 1), y_of(rate), (y_of(low), y_of(high)), inks[number])
        f.words(x, 324, f"β {name}", bold=True)
        f.note(x, 343, "KL " + "–".join(f"{one:.2f}" for one in (min(r[3] for r in given), max(r[3] for r in given))))
    f.note(340, 370, say("β, and KL from SFT in nats", "β, 그리고 SFT와의 KL(nat)"))
    for number, ink in enumerate(inks):
        f.words(460 + 60 * number, 68, say(f"seed {number}", f"시드 {number}"), size=12, ink=ink, bold=True)
    return f


ARMS = {"single": "loss", "mean": "model", "worst": "number", "variance": "person"}


def overoptimisation(say: Say) -> Figure:
    """docs/figures/overoptimisation.json: gold above, proxy below, over √KL; best of n left, PPO right."""
    told = json.loads((FOLDER / "overoptimisation.json").read_text())
    f = Figure(
        760,
        560,
        say(
            "One noisy reward model and ensembles, followed too far",
            "잡음 섞인 보상 모델 하나와 앙상블을 지나치게 따라가면",
        ),
    )
    ways = {"best_of_n": say("best of n", "n개 중 최고"), "ppo": say("PPO without a KL penalty", "KL 벌점 없는 PPO")}
    names = {"gold": say("gold utility", "금 효용"), "proxy": say("the reward's own score", "보상 자신의 점수")}
    for column, (way, title) in enumerate(ways.items()):
        left = 60 + 360 * column
        f.words(left + 150, 62, title, size=13, bold=True)
        rows = told[way]
        widest = max(x for row in rows for curve in row.values() for x in curve["x"])
        for line, (what, name) in enumerate(names.items()):
            values = [y for row in rows for curve in row.values() for y in curve[what]]
            ticks = nice(min(values), max(values))
            bottom = 270 + 225 * line
            low, high = ticks[0], ticks[-1]
            scale = 150 / (high - low)
            f.note(left, bottom - 166, name, "start")
            axis(f, left, left + 310, {f"{one:g}": bottom - scale * (one - low) for one in ticks})
            for row in rows:
                for arm, curve in row.items():
                    points = "L".join(
                        f"{left + 310 * x / widest:.1f} {bottom - scale * (y - low):.1f}"
                        for x, y in zip(curve["x"], curve[what], strict=True)
                    )
                    ink = FILLS[ARMS[arm]][1]
                    f.parts.append(
                        f'<path d="M{points}" fill="none" stroke="{ink}" stroke-width="1.2" opacity="0.75"/>'
                    )
            for one in range(int(widest) + 1):
                f.note(left + 310 * one / widest, bottom + 17, f"{one}")
        f.note(left + 155, 532, say("√KL from SFT, nats", "SFT와의 √KL(nat)"))
    words = {
        "single": say("one member", "모델 하나"), "mean": "mean", "worst": "worst", "variance": "variance",
    }  # fmt: skip
    for number, (arm, name) in enumerate(words.items()):
        f.words(690, 150 + 17 * number, name, size=12, ink=FILLS[ARMS[arm]][1], bold=True, at="end")
    return f


def shares(f: Figure, left: float) -> None:
    """The lines behind shares from 0 to 1, each with its name."""
    axis(f, left, left + 310, {f"{share:g}": 290 - 200 * share for share in (0, 0.25, 0.5, 0.75, 1)})


def line(f: Figure, left: float, along: Sequence[float], share: Sequence[float], ink: str) -> None:
    """A share along a run, both from 0 to 1, on the lines of `shares`."""
    points = "L".join(f"{left + 310 * x:.1f} {290 - 200 * y:.1f}" for x, y in zip(along, share, strict=True))
    f.parts.append(f'<path d="M{points}" fill="none" stroke="{ink}" stroke-width="1.6" opacity="0.8"/>')


def arithmetic(say: Say) -> Figure:
    """docs/figures/arithmetic.json: what becomes of accuracy and of form along GRPO, by what is rewarded."""
    told = json.loads((FOLDER / "arithmetic.json").read_text())
    f = Figure(760, 380, say("Sums: what GRPO learns from three rewards", "덧셈: 세 가지 보상에서 GRPO가 배우는 것"))
    figures = {
        "right": say("share of right answers", "맞은 대답의 비율"),
        "form": say("share of answers that end with #### and a number", "####와 수로 끝나는 대답의 비율"),
    }
    arms = {
        "grpo": ("number", say("the result is right", "결과가 맞음")),
        "grpo-format-reward": ("model", say("#### and a number", "####와 수")),
        "grpo-random-reward": ("loss", say("random", "무작위")),
    }
    last = max(step for row in told for curve in row.values() for step in curve["step"])
    for column, (figure, name) in enumerate(figures.items()):
        left = 60 + 360 * column
        f.note(left, 68, name, "start")
        shares(f, left)
        for row in told:
            for arm, (kind, _) in arms.items():
                line(f, left, [x / last for x in row[arm]["step"]], row[arm][figure], FILLS[kind][1])
        for step in range(0, last + 1, 4):
            f.note(left + 310 * step / last, 308, f"{step}")
        f.note(left + 155, 330, say("updates of the policy", "정책 갱신 횟수"))
    f.words(60, 360, say("rewarded:", "보상:"), size=12, at="start")
    for number, (kind, name) in enumerate(arms.values()):
        f.words(150 + 170 * number, 360, name, size=12, ink=FILLS[kind][1], bold=True, at="start")
    return f


def planted_hole(say: Say) -> Figure:
    """docs/figures/planted_hole.json: who overwrites the tests and who is right, along GRPO by either reward."""
    told = json.loads((FOLDER / "planted_hole.json").read_text())
    f = Figure(760, 380, say("A reward with a hole, and one without", "구멍 난 보상과 막은 보상"))
    arms = {
        "one-process": say("program and tests in one process", "프로그램과 테스트가 한 프로세스"),
        "two-processes": say("in two processes", "두 프로세스"),
    }
    curves = {
        "overwrites": ("loss", say("overwrites the tests", "테스트를 덮어씀")),
        "two_processes": ("number", say("is right", "맞음")),
    }
    for column, (arm, name) in enumerate(arms.items()):
        left = 60 + 360 * column
        f.note(left, 68, name, "start")
        shares(f, left)
        last = max(len(row[arm]["overwrites"]) for row in told)
        for row in told:
            for curve, (kind, _) in curves.items():
                smooth = [mean(row[arm][curve][max(0, i - 4) : i + 1]) for i in range(last)]
                line(f, left, [x / (last - 1) for x in range(last)], smooth, FILLS[kind][1])
        for rollout in range(0, last + 1, 30):
            f.note(left + 310 * rollout / last, 308, f"{rollout}")
        f.note(left + 155, 330, say("rollouts", "롤아웃"))
    f.words(60, 360, say("share of programs that:", "프로그램의 비율:"), size=12, at="start")
    for number, (kind, name) in enumerate(curves.values()):
        f.words(220 + 170 * number, 360, name, size=12, ink=FILLS[kind][1], bold=True, at="start")
    return f


def under_a_limit(say: Say) -> Figure:
    """docs/figures/safe_rlhf.json: mean cost and λ along the runs, and what each arm has of reward and cost."""
    told = json.loads((FOLDER / "safe_rlhf.json").read_text())
    f = Figure(760, 400, say("Reward under a limit on harm, simulated", "해로움에 한도를 둔 보상(시뮬레이션)"))
    limit, highest = told[0]["limit"], 0.4

    def y_of(cost: float) -> float:
        return 290 - 200 * cost / highest

    f.note(60, 68, say("mean cost of a rollout, and λ", "롤아웃의 평균 비용과 λ"), "start")
    axis(f, 60, 370, {f"{cost:g}": y_of(cost) for cost in (0, 0.1, 0.2, 0.3, 0.4)})
    curves = {"fixed-0": ("loss", "λ = 0"), "lagrangian": ("number", say("λ that follows", "따라가는 λ"))}
    for row in told:
        for arm, (kind, _) in curves.items():
            cost = row["curves"][arm]["cost"]
            smooth = [mean(cost[max(0, i - 4) : i + 1]) / highest for i in range(len(cost))]
            line(f, 60, [i / (len(cost) - 1) for i in range(len(cost))], smooth, FILLS[kind][1])
        multiplier = row["curves"]["lagrangian"]["multiplier"]
        along = [i / (len(multiplier) - 1) for i in range(len(multiplier))]
        line(f, 60, along, [min(1.0, one / 4) for one in multiplier], FILLS["person"][1])
    f.note(378, y_of(0.4) + 4, "λ 4", "start")
    f.note(378, y_of(0.0) + 4, "λ 0", "start")
    f.note(215, 330, say("rollouts", "롤아웃"))
    for number, (kind, name) in enumerate([*curves.values(), ("person", "λ")]):
        f.words(60 + 110 * number, 372, name, size=12, ink=FILLS[kind][1], bold=True, at="start")
    left, kinds = 440, {"lagrangian": "number", "sft": "frozen"}
    lowest = floor(10 * min(arm["reward"][1] for row in told for arm in row["arms"].values())) / 10

    def x_of(cost: float) -> float:
        return left + 290 * cost / highest

    rewards = [lowest + (1 - lowest) * k / 4 for k in range(5)]
    f.note(left, 68, say("reward over cost, held-out prompts", "남겨 둔 프롬프트에서 비용 대비 보상"), "start")
    axis(f, left, left + 290, {f"{one:.2f}": 290 - 50 * k for k, one in enumerate(rewards)})
    f.parts.append(f'<path d="M{x_of(limit):g} 90V290" stroke="{INK}" stroke-width="1.2" stroke-dasharray="5 4"/>')
    for row in told:
        for name, arm in row["arms"].items():
            kind = kinds.get(name, "loss" if name == "fixed-0" else "model")
            y, low, high = (290 - 200 * (one - lowest) / (1 - lowest) for one in arm["reward"])
            estimate(f, x_of(arm["cost"][0]), y, (low, high), FILLS[kind][1])
            f.parts.append(
                f'<path d="M{x_of(arm["cost"][1]):g} {y:g}H{x_of(arm["cost"][2]):g}" stroke="{FILLS[kind][1]}"/>'
            )
    for cost in (0, 0.1, 0.2, 0.3, 0.4):
        f.note(x_of(cost), 308, f"{cost:g}")
    f.note(left + 145, 330, say("mean cost; dashed: the limit", "평균 비용. 점선은 한도"))
    words = {"frozen": "SFT", "number": "λ", "model": say("fixed λ", "고정 λ"), "loss": say("reward alone", "보상만")}
    for number, (kind, name) in enumerate(words.items()):
        f.words(left + 75 * number, 372, name, size=12, ink=FILLS[kind][1], bold=True, at="start")
    return f


def revisions(say: Say) -> Figure:
    """docs/figures/constitution.json: gold harm and helpfulness of answers by rounds of revision."""
    told = json.loads((FOLDER / "constitution.json").read_text())
    f = Figure(760, 380, say("Critique and revision, simulated", "비평과 수정(시뮬레이션)"))
    figures = {
        "harm": say("gold harm on red-team prompts", "레드팀 프롬프트에서의 금 해로움"),
        "helpful": say("gold helpfulness", "금 유용함"),
    }
    for column, (name, title) in enumerate(figures.items()):
        left = 60 + 360 * column
        ends = [end for row in told for one in row["rounds"] for end in one[name]]
        if name == "helpful":
            ends += [end for row in told for one in row["rounds"] for end in one["ordinary"]]
        ticks = nice(0.0, max(ends))
        scale = 200 / ticks[-1]
        f.note(left, 68, title, "start")
        axis(f, left, left + 310, {f"{one:g}": 290 - scale * one for one in ticks})
        shown = {"harm": [("harm", "loss")], "helpful": [("helpful", "person"), ("ordinary", "model")]}[name]
        for number, row in enumerate(told):
            for figure, kind in shown:
                points = []
                for k, one in enumerate(row["rounds"]):
                    x = left + 40 + 230 * k / (len(row["rounds"]) - 1) + 10 * (number - 1)
                    value, low, high = (290 - scale * end for end in one[figure])
                    estimate(f, x, value, (low, high), FILLS[kind][1])
                    points.append(f"{x:g} {value:g}")
                f.parts.append(f'<path d="M{"L".join(points)}" fill="none" stroke="{FILLS[kind][1]}" opacity="0.6"/>')
        for k in range(len(told[0]["rounds"])):
            f.note(left + 40 + 230 * k / (len(told[0]["rounds"]) - 1), 308, f"{k}")
        f.note(left + 155, 330, say("round of revision", "수정 회차"))
    words = {"loss": say("harm", "해로움"), "person": say("red-team prompts", "레드팀 프롬프트"),
             "model": say("ordinary prompts", "보통 프롬프트")}  # fmt: skip
    for number, (kind, name) in enumerate(words.items()):
        f.words(60 + 170 * number, 360, name, size=12, ink=FILLS[kind][1], bold=True, at="start")
    return f


def nice(low: float, high: float) -> list[float]:
    """Three to six round numbers that enclose both."""
    step = next(one for one in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0) if (high - low) / one <= 4.5)
    first, last = floor(low / step), ceil(high / step)
    return [round(step * k, 6) for k in range(first, last + 1)]


FIGURES: Sequence[tuple[str, Callable[[Say], Figure]]] = (
    ("rlhf-loop", loop),
    ("agent-environment", agent),
    ("reward-model", reward_model),
    ("dpo", dpo),
    ("beta", beta),
    ("beta-ppo", beta_ppo),
    ("constitution", constitution),
    ("decision-tree", tree),
    ("judgments", judgments),
    ("overoptimisation", overoptimisation),
    ("planted-hole", planted_hole),
    ("arithmetic", arithmetic),
    ("under-a-limit", under_a_limit),
    ("revisions", revisions),
)


def drawn() -> dict[str, str]:
    """Every file's name and text."""
    languages: dict[str, Say] = {"en": lambda en, ko: en, "ko": lambda en, ko: ko}
    return {f"{name}.{code}.svg": draw(say).svg() for name, draw in FIGURES for code, say in languages.items()}


if __name__ == "__main__":
    for name, text in drawn().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
