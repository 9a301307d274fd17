"""The report: what it says in words, that no text in it can act, that it is whole, and always the same bytes."""

import base64
import hashlib
import json
import math
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from string import Formatter
from typing import get_args, get_type_hints

import pytest
from pydantic import Field

from baro.config import Config
from baro.errors import ConfigError, DataError, RunError
from baro.evaluate.findings import Evaluation, standing, summary
from baro.evaluate.lineage import Node, lineage_svg
from baro.evaluate.markup import DASH, bytes_words, duration_words, number, numbers, shares, text
from baro.evaluate.plots import Estimate, Line, Point, Row, curve_plot, interval_plot, running_mean, scatter_plot
from baro.evaluate.report import build_report
from baro.evaluate.stages import Figure, Stage, read_stages
from baro.evaluate.words import WORDS
from baro.rewards.gate import Weakness, weaknesses_of_run
from baro.runs import RunDir

SOURCE = Path(__file__).parents[2] / "src" / "baro" / "evaluate"
ENGLISH, KOREAN = WORDS["en"], WORDS["ko"]
EVIL = "</script><script>alert('x')</script> \"><img src=x onerror=alert(1)> & <b>"
RTL = "\u202e\u05e9\u05dc\u05d5\u05dd \u0627\u0644\u0639\u0627\u0635\u0645\u0629"
FAMILY = "\U0001f469\u200d\U0001f52c\U0001f1f0\U0001f1f7"
DECOMPOSED = "e\u0301 \u1112\u1161\u11ab"  # é and 한 in pieces: they stay in pieces
HANGUL = "마루나라의 수도는 한빛시입니다."


class AnyConfig(Config):
    """What a stage would have been asked to do."""

    settings: dict = Field({})
    policies: dict = Field({})
    against: str | None = None
    rewards: dict | list = Field({})
    reward_model: str | None = None


def make_run(path, verb="sft", *, parents=(), status="finished", figures=None, ledger=None, rows=None, **settings):
    """A run directory as a stage leaves it; ``rows`` maps a JSONL file's stem to its rows."""
    known = {key: settings.pop(key) for key in list(settings) if key in AnyConfig.model_fields}
    config = AnyConfig(settings=settings, **known)
    run = RunDir.open(path, verb=verb, config=config, inputs={"policy": "ab" * 32}, parents=parents)
    run.close()
    manifest = json.loads((path / "run.json").read_text())
    manifest |= {"status": status, "started": "2025-11-20T09:00:00+00:00", "finished": "2025-11-20T09:01:05+00:00"}
    manifest["environment"]["platform"] = "Linux"
    (path / "run.json").write_text(json.dumps(manifest))
    for name, value in (("figures.json", figures), ("ledger.json", ledger)):
        if value is not None:
            (path / name).write_text(json.dumps(value))
    for stem, found in (rows or {}).items():
        (path / f"{stem}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    return run.path


def figure(name, value=None, low=None, high=None, n=None):
    return {"name": name, "value": value, "low": low, "high": high, "n": n}


def win(policy, value, low, high, judge="gold", kind="win_rate_length_controlled"):
    return figure(f"{policy}/{kind}/{judge}", value, low, high, 500)


FIGURES = [
    figure("sft/kl", 0.0, 0.0, 0.0, 500),
    figure("sft/reward/reward_model", 0.1, 0.0, 0.2, 500),
    win("ppo", 0.784, 0.742, 0.822),
    win("ppo", 0.77, 0.73, 0.81, kind="win_rate"),
    figure("ppo/kl", 6.1, 5.8, 6.4, 500),
    figure("ppo/reward/reward_model", 2.1, 2.0, 2.2, 500),
    win("best-of-8", 0.66, 0.62, 0.7),
    figure("best-of-8/kl_bound", 1.204),
    figure("best-of-8/reward/reward_model", 1.3, 1.2, 1.4, 500),
    win("sft-self", 0.503, 0.459, 0.547),
    win("random_reward", 0.61, 0.57, 0.65),
    figure("ppo/distinct_2", math.nan),
    figure("gold/pair_accuracy", 0.77, 0.75, 0.79, 1500),
    figure("reward_model/pair_accuracy", 0.74, 0.72, 0.76, 1500),
    figure("baseline/longer_wins", 0.46, 0.43, 0.49, 1500),
]


def ppo_rows(count=40):
    return [
        {
            "step": s,
            "rollout": s // 4,
            "loss": 1.0 / s,
            "objective/kl": 0.1 * s,
            "objective/scores": 0.05 * s,
            "objective/score/reward_model": 0.05 * s,
            "policy/entropy": None if s == 3 else 0.9 - 0.01 * s,
            "perf/tokens_per_second": 9000.0,
            "perf/peak_memory_bytes": 1.5 * 2**30,
        }
        for s in range(1, count + 1)
    ]


def comparison(prompt, index=0):
    answers = {"sft": f"{EVIL} {index}", "ppo": f"{HANGUL} {RTL}", "sft-self": DECOMPOSED, "best-of-8": FAMILY}
    scores = {"gold": {"ppo": 0.4, "sft-self": 0.9, "best-of-8": 0.3}, "reward_model": {"sft": 0.1, "ppo": 2.0}}
    return {"prompt": prompt, "answers": answers, "scores": scores}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """Stages of a whole pipeline, with texts that try to break the page."""
    root = tmp_path_factory.mktemp("pipeline")
    dropped = {f"demonstrations.jsonl:{i}": f"the prompt is too long {EVIL}" for i in range(30)}
    book = {
        "name": "a/demonstrations.jsonl",
        "rows": 100,
        "kept": 70,
        "dropped": dropped,
        "truncated": {},
        "repeated": {},
    }
    held_out = [{"step": s, "loss": 2.0 / s, **({"eval/loss": 2.1 / s} if s % 4 == 0 else {})} for s in range(1, 21)]
    sft = make_run(root / "sft", "sft", ledger={"demonstrations": book}, rows={"metrics": held_out}, note=EVIL)
    kept = {"preferences": {"name": "pairs.jsonl", "kept": 90, "dropped": {"equal pair": 7, "too long": 3}}}
    accuracy = [figure("reward_model/accuracy", 0.731, 0.708, 0.753, 1524), figure("reward_model/ece", 0.0214)]
    reward = make_run(root / "reward", "reward", parents=[sft], figures=accuracy, ledger=kept)
    sampled = [
        {"rollout": r, "prompt": HANGUL, "completion": f"{EVIL} {r}", "score": None, "finished": r > 0}
        for r in (0, 0, 9)
    ]
    ppo = make_run(root / "ppo", "ppo", parents=[sft, reward], rows={"metrics": ppo_rows(), "samples": sampled})
    turns = [{"role": "system", "content": EVIL}, {"role": "user", "content": RTL}]
    compared = [comparison(HANGUL if i else turns, i) for i in range(15)]
    made_from = [sft, ppo, reward, "runs/elsewhere"]
    where = {"policies": {"sft": str(sft), "ppo": str(ppo)}, "against": str(sft)}
    evaluate = make_run(
        root / "evaluate", "evaluate", parents=made_from, figures=FIGURES, rows={"comparisons": compared}, **where
    )
    return [sft, reward, ppo, evaluate]


@pytest.fixture(scope="module")
def built(pipeline, tmp_path_factory):
    """The report of that pipeline in both languages: page, JSON."""
    out = tmp_path_factory.mktemp("built")
    found = {}
    for language in ("en", "ko"):
        page = build_report(pipeline, out / language, title=f"데모 {EVIL}", names={}, language=language)
        found[language] = page.read_text("utf-8"), json.loads((out / language / "report.json").read_text("utf-8"))
    return found


class Page(HTMLParser):
    """Every element with its attributes, the text between them, and whether all were closed in order."""

    VOID = frozenset({"meta", "br", "img", "link", "input", "wbr", "hr"})

    def __init__(self, source):
        super().__init__()
        self.elements, self.texts, self.open, self.balanced = [], [], [], True
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        self.balanced = self.balanced and bool(self.open) and self.open.pop() == tag

    def handle_data(self, found):
        self.texts.append(found)


# --- the page ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "ko"])
def test_every_section_is_there(built, language):
    page, _ = built[language]
    assert page.startswith(f'<!DOCTYPE html>\n<html lang="{language}">')
    wanted = ["summary", "wins", "frontier", "controls", "reward", "samples", "curves", "rollouts", "ledger", "lineage"]
    wanted += ["figures", "notes"]
    anchors = [found["id"] for tag, found in Page(page).elements if tag == "section" and "id" in found]
    assert anchors == wanted


def test_same_runs_give_the_same_bytes(pipeline, tmp_path):
    first, second = (build_report(pipeline, tmp_path / name, title="Demo") for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()
    assert first.with_name("report.json").read_bytes() == second.with_name("report.json").read_bytes()
    build_report(pipeline, tmp_path / "one", title="Demo")  # once more into the same folder
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in first.parent.iterdir()) == ["report.html", "report.json"]


@pytest.mark.parametrize("language", ["en", "ko"])
def test_nothing_is_loaded_from_outside(built, language):
    page, _ = built[language]
    assert not re.search(r"https?:|//[a-z]", re.sub(r"alert\(1\)", "", page.split("<body>")[0]))
    for tag, attributes in Page(page).elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        assert "src" not in attributes
        for name in ("href", "xlink:href", "clip-path"):
            assert re.match(r"(url\()?#", attributes.get(name, "#")), (tag, attributes)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


@pytest.mark.parametrize("language", ["en", "ko"])
def test_texts_cannot_act(built, language):
    page, _ = built[language]
    found = Page(page)
    assert found.balanced
    assert found.open == []
    assert [tag for tag, _ in found.elements].count("script") == 1
    assert not any(name.startswith("on") for _, attributes in found.elements for name in attributes)
    assert "<b>" not in page
    assert any(EVIL in part for part in found.texts)  # it is there, as text


def test_only_the_own_script_may_run(built):
    page, _ = built["en"]
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]
    policy = next(a["content"] for tag, a in Page(page).elements if a.get("http-equiv") == "Content-Security-Policy")
    expected = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{expected}'" in policy
    assert "default-src 'none'" in policy


def test_scripts_of_all_languages_arrive_byte_for_byte(built):
    for page, _ in built.values():
        for words in (HANGUL, RTL, FAMILY, DECOMPOSED):
            assert words in page
        encoded = page.encode("utf-8")
        assert HANGUL.encode("utf-8") in encoded
        assert f'lang="ko">{HANGUL}' in page  # Korean text says so, for fonts and line breaks
    assert 'dir="auto"' in built["en"][0]


def test_ids_are_unique_and_links_lead_somewhere(built):
    elements = Page(built["en"][0]).elements
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {a.get("href", "") for tag, a in elements if tag in ("a", "use")}
    targets |= {a["clip-path"][4:-1] for _, a in elements if "clip-path" in a}
    assert {target[1:] for target in targets} <= set(ids)


def test_drawings_have_words_for_those_who_do_not_see_them(built):
    svgs = [attributes for tag, attributes in Page(built["en"][0]).elements if tag == "svg"]
    assert all(attributes.get("aria-label") or attributes.get("aria-hidden") for attributes in svgs)
    labels = " ".join(attributes.get("aria-label") or "" for attributes in svgs)
    assert "Win rates by gold: PPO 0.78 [0.74, 0.82]" in labels
    assert "loss of sft over steps: training from 2 to" in labels
    assert "evaluate from sft, ppo, reward, elsewhere" in labels


def test_control_characters_and_half_surrogates(tmp_path):
    row = {"prompt": "\x00\x1b[31m\x7f", "answers": {"a": "\ud83d \ud800"}, "scores": {}}
    run = make_run(tmp_path / "run", "evaluate", rows={"comparisons": [row]}, figures=[figure("\udcff/kl", 1.0)])
    page = build_report([run], tmp_path / "out", title="Demo").read_text("utf-8")
    assert "\u2400\u241b[31m\u2421" in page
    assert "\\ud83d \\ud800" in page
    assert json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))["figures"][0]["name"] == "\udcff/kl"


def test_stages_are_called_as_asked(pipeline, tmp_path):
    names = {str(pipeline[0]): "첫 단계", str(pipeline[2]): "정렬"}
    page = build_report(pipeline, tmp_path, title="Demo", names=names).read_text("utf-8")
    assert "정렬 while training" in page
    stages = [row["stage"] for row in json.loads((tmp_path / "report.json").read_text("utf-8"))["lineage"]]
    assert stages == ["첫 단계", "reward", "정렬", "evaluate"]


def test_script_runs_in_a_browser(chromium, built, tmp_path):
    (tmp_path / "report.html").write_text(built["en"][0], "utf-8")
    shown = subprocess.run(
        [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom", f"file://{tmp_path}/report.html"],
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
    button = re.search(r'<button id="theme".*?</button>', shown)[0]
    assert "hidden" not in button
    assert button.endswith((">Dark</button>", ">Light</button>"))
    assert shown.count("<script>") == 1


# --- what it says -----------------------------------------------------------------------------------------------------


def evaluated(tmp_path, figures):
    return read_stages([make_run(tmp_path / "evaluate", "evaluate", figures=figures)], {})


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.78, 0.74, 0.82), "PPO beats SFT: length-controlled win rate 0.78 [0.74, 0.82], n=500, at KL 6.1 nats."),
        ((0.31, 0.27, 0.35), "PPO loses to SFT: length-controlled win rate 0.31 [0.27, 0.35], n=500, at KL 6.1 nats."),
        (
            (0.54, 0.49, 0.59),
            "No evidence that PPO differs from SFT: length-controlled win rate 0.54 [0.49, 0.59], n=500, "
            "at KL 6.1 nats. The interval reaches 0.5.",
        ),
        (
            (0.55, 0.5, 0.6),
            "No evidence that PPO differs from SFT: length-controlled win rate 0.55 [0.50, 0.60], n=500, "
            "at KL 6.1 nats. The interval reaches 0.5.",
        ),
        (
            (0.53, 0.5004, 0.56),
            "PPO beats SFT: length-controlled win rate 0.530 [0.500, 0.560], n=500, at KL 6.1 nats.",
        ),
        (
            (0.9, None, None),
            "PPO against SFT: length-controlled win rate 0.90, n=500, at KL 6.1 nats, "
            "without an interval, so nothing is claimed.",
        ),
    ],
)
def test_headline(tmp_path, interval, expected):
    stages = evaluated(tmp_path, [figure("sft/kl", 0.0), win("ppo", *interval), figure("ppo/kl", 6.1, 5.8, 6.4, 500)])
    assert [finding.sentence for finding in summary(stages, ENGLISH)] == [expected]


def test_headline_in_korean(tmp_path):
    stages = evaluated(tmp_path, [figure("sft/kl", 0.0), win("ppo", 0.54, 0.49, 0.59)])
    expected = "PPO의 답변과 SFT의 답변이 다르다는 근거가 없습니다: 길이 보정 승률 0.54 [0.49, 0.59], n=500. "
    expected += "구간에 0.5가 들어갑니다."
    assert [finding.sentence for finding in summary(stages, KOREAN)] == [expected]


def test_headline_prefers_the_length_controlled_rate_and_says_where_it_has_none(tmp_path):
    plain = win("dpo", 0.7, 0.66, 0.74, kind="win_rate")
    stages = evaluated(tmp_path, [win("ppo", 0.9, 0.8, 0.95, kind="win_rate"), win("ppo", 0.52, 0.48, 0.56), plain])
    first, second = (finding.sentence for finding in summary(stages, ENGLISH))
    assert first.startswith("No evidence that PPO differs")
    assert second == "DPO beats the baseline: win rate 0.70 [0.66, 0.74], n=500, not controlled for length."


def test_headline_names_the_judge_where_there_are_two(tmp_path):
    stages = evaluated(tmp_path, [win("ppo", 0.9, 0.8, 0.95), win("ppo", 0.3, 0.2, 0.4, judge="other")])
    assert [finding.sentence for finding in summary(stages, ENGLISH)] == [
        "PPO beats the baseline: length-controlled win rate 0.90 [0.80, 0.95], n=500, judged by gold."
    ]


def test_biased_comparison_is_a_warning(tmp_path):
    stages = evaluated(tmp_path, [figure("sft/kl", 0.0), win("sft-self", 0.6, 0.55, 0.65)])
    (finding,) = summary(stages, ENGLISH)
    assert finding.standing == "warning"
    assert "SFT against itself wins 0.60 [0.55, 0.65], n=500, away from 0.5" in finding.sentence


def test_no_comparison_is_said(tmp_path):
    stages = read_stages([make_run(tmp_path / "sft")], {})
    assert [finding.sentence for finding in summary(stages, ENGLISH)] == [ENGLISH["no_comparison"]]


@pytest.mark.parametrize(
    ("low", "baseline", "expected"),
    [
        (0.72, 0.6, ", above every baseline."),
        (0.72, 0.73, ", not clearly above every baseline."),
        (0.72, None, "n=1,500."),
    ],
)
def test_reward_model_sentence(tmp_path, low, baseline, expected):
    rates = [figure("reward_model/accuracy", 0.74, low, 0.76, 1500)]
    rates += [figure("baseline/longer_wins", baseline - 0.02, baseline - 0.04, baseline, 1500)] if baseline else []
    *_, finding = summary(evaluated(tmp_path, rates), ENGLISH)
    assert finding.sentence.startswith("Reward model accuracy on held-out pairs: 0.74 [0.72, 0.76], n=1,500")
    assert finding.sentence.endswith(expected)


def test_standing_needs_the_whole_interval():
    assert standing(Figure("f", 0.6, 0.51, 0.7)) == "better"
    assert standing(Figure("f", 0.4, 0.3, 0.49)) == "worse"
    assert [standing(Figure("f", 0.5, *ends)) for ends in ((0.5, 0.6), (0.4, 0.5), (0.4, 0.6))] == ["same"] * 3
    assert standing(Figure("f", 0.9)) == "unknown"


def test_controls_by_name_and_their_outcome(built):
    stage = Stage("evaluate", Path("none"), {"config": {"against": "runs/sft", "policies": {"sft": "runs/sft"}}})
    stage.__dict__["figures"] = [Figure(f"{name}/win_rate/j", 0.5) for name in ("ppo", "sft-self", "sft")]
    evaluation = Evaluation(stage)
    names = {"ppo": None, "sft": "self", "sft-self": "self", "best-of-8": "best_of", "best_of_16": "best_of"}
    names |= {"random_reward": "random", "length-only": "length", "ppo_kl_off": "kl_off", "full_length": "length"}
    assert {name: evaluation.control(name) for name in names} == names
    section = re.search(r'<section id="controls".*?</section>', built["en"][0], re.DOTALL)[0]
    outcomes = dict(re.findall(r"<bdi>([^<]*)</bdi>.*?<td>((?:not )?as expected)</td>", section))
    assert outcomes == {
        "best of 8": "as expected",
        "SFT against itself": "as expected",
        "random reward": "not as expected",
    }
    assert "≤ 1.20" in section


def test_best_answer_is_marked_in_words(tmp_path):
    rows = [{"prompt": "q", "answers": {"sft": "1", "ppo": "2"}, "scores": {"r": {"sft": 1.0, "ppo": 3.0}}}]
    rows.append({"prompt": "tied", "answers": {"sft": "1", "ppo": "2"}, "scores": {"r": {"sft": 1.0, "ppo": 1.0}}})
    run = make_run(tmp_path / "run", "evaluate", rows={"comparisons": rows})
    page = build_report([run], tmp_path / "out", title="Demo").read_text("utf-8")
    assert page.count('<strong class="best">best</strong>') == 1
    assert re.search(r'<span class="value">3</span><strong class="best">best</strong>', page)


def test_a_judges_baseline_counts_one_half(built):
    """Under gold, ppo has 0.4 and best-of-8 0.3 of winning: the answer that they were compared with is the best."""
    samples = re.search(r'<section id="samples".*?</section>\s*<section id="curves"', built["en"][0], re.DOTALL)[0]
    first = samples.split("<article")[1]
    marked = r'<dt><bdi>(\w+)(?:<wbr>\w+)?</bdi></dt><dd><span class="value">[^<]*</span><strong'
    cards = re.findall(r"<h5><bdi>([^<]*)</bdi></h5>(.*?)</section>", first, re.DOTALL)
    best = {name: re.findall(marked, card) for name, card in cards}
    assert best == {"SFT": ["gold"], "PPO": ["reward_"], "best of 8": [], "SFT against itself": []}
    assert samples.count("<article") == 15
    assert samples.split("3 more prompts")[0].count("<article") == 12


# --- report.json ------------------------------------------------------------------------------------------------------


def test_every_figure_is_in_report_json(built, pipeline):
    for _, told in built.values():
        got = {(f["stage"], f["name"]): f for f in told["figures"]}
        for path in pipeline:
            if not (path / "figures.json").exists():
                continue
            for wanted in json.loads((path / "figures.json").read_text()):
                found = got[path.name, wanted["name"]]
                assert set(found) == {"stage", "name", "value", "low", "high", "n"}
                expected = None if wanted["value"] is None or math.isnan(wanted["value"]) else wanted["value"]
                assert found["value"] == expected
                assert (found["low"], found["high"], found["n"]) == (wanted["low"], wanted["high"], wanted["n"])


def test_report_json_holds_cost_and_lineage(built):
    told = built["en"][1]
    cost = {f["name"]: f["value"] for f in told["figures"] if f["stage"] == "ppo"}
    assert cost == {
        "perf/seconds": 65.0,
        "perf/steps": 40,
        "perf/peak_memory_bytes": 1.5 * 2**30,
        "perf/tokens_per_second": 9000.0,
    }
    last = told["lineage"][-1]
    assert last["parents"] == ["sft", "ppo", "reward", "runs/elsewhere"]
    assert (last["verb"], last["status"], last["inputs"]) == ("evaluate", "finished", {"policy": "ab" * 32})
    assert not Path(last["path"]).is_absolute()
    assert told["summary"][0]["standing"] == "better"


# --- missing, empty, broken -------------------------------------------------------------------------------------------


def test_a_run_with_nothing_but_its_manifest(tmp_path):
    run = make_run(tmp_path / "run", status="running")
    page = build_report([run], tmp_path / "out", title="Demo").read_text("utf-8")
    assert [a["id"] for tag, a in Page(page).elements if tag == "section" and "id" in a] == [
        "summary",
        "lineage",
        "notes",
    ]


def test_no_runs_at_all(tmp_path):
    page = build_report([], tmp_path, title="Demo").read_text("utf-8")
    assert ENGLISH["no_comparison"] in page
    assert json.loads((tmp_path / "report.json").read_text())["figures"] == []


def test_null_and_nan_are_dashes(tmp_path):
    bad = [math.nan, None, math.inf, "text", True]
    figures = [figure(f"p{i}/win_rate_length_controlled/gold", value, math.nan, None, 5) for i, value in enumerate(bad)]
    figures += [figure(f"p{i}/{kind}", value) for i, value in enumerate(bad) for kind in ("kl", "reward/r", "tokens")]
    figures += [figure("reward_model/accuracy", math.nan, None, None, None)]
    rows = [
        {"step": s, "loss": math.nan if s % 2 else None, "objective/kl": 1.0, "objective/scores": math.nan}
        for s in (1, 2, 3)
    ]
    scores = {"gold": {"p0": math.nan, "p1": None}, "broken": 3}
    compared = [{"prompt": None, "answers": {"p0": None, "p1": 3}, "scores": scores}, {"prompt": "x"}, {"answers": "y"}]
    run = make_run(tmp_path / "run", "evaluate", figures=figures, rows={"metrics": rows, "comparisons": compared})
    page = build_report([run], tmp_path / "out", title="Demo").read_text("utf-8")
    assert DASH in page
    assert not re.search(r"\bnan\b|\binf\b|>None<", page)
    told = json.loads((tmp_path / "out" / "report.json").read_text(), parse_constant=pytest.fail)
    assert {f["value"] for f in told["figures"] if f["name"].endswith("/kl")} == {None}


def test_ledger_counts_rows_and_reasons(built):
    section = re.search(r'<section id="ledger".*?</section>', built["en"][0], re.DOTALL)[0]
    rows = [re.sub(r"<[^>]+>", "|", row) for row in re.findall(r"<tr>(.*?)</tr>", section)[1:]]
    cells = [[cell for cell in row.split("|") if cell] for row in rows]
    assert cells == [
        ["sft", "demonstrations: demonstrations.jsonl", "100", "70", "30", "0", "0"],
        ["reward", "preferences: pairs.jsonl", "100", "90", "10", "0", "0"],
    ]
    assert "and 10 more, in ledger.json" in section
    assert "<code>equal pair</code>: 7" in section


def frontier(page):
    return re.search(r'<section id="frontier".*?</section>', page, re.DOTALL)[0]


@pytest.mark.parametrize(
    ("trained_on", "drawings"),
    [
        ({"reward_model": "runs/reward"}, 1),
        ({"rewards": [{"by": "runs/reward", "weight": 1.0}]}, 1),
        ({"rewards": [{"by": "runs/reward", "weight": 0.5}]}, 2),  # scaled: not the evaluation's axis
        ({"rewards": [{"by": "runs/reward"}, {"by": "module:length"}]}, 2),
        ({"reward_model": "runs/another"}, 2),
    ],
)
def test_training_path_shares_the_axes_only_with_its_own_reward(tmp_path, trained_on, drawings):
    ppo = make_run(tmp_path / "ppo", "ppo", rows={"metrics": ppo_rows()}, **trained_on)
    figures = [figure("ppo/kl", 4.0), figure("ppo/reward/proxy", 2.0)]
    evaluate = make_run(tmp_path / "evaluate", "evaluate", figures=figures, rewards={"proxy": "runs/reward"})
    page = build_report([ppo, evaluate], tmp_path / "out", title="Demo").read_text("utf-8")
    assert frontier(page).count('<svg class="plot"') == drawings
    assert frontier(page).count("ppo while training") == 1


def test_reward_model_of_an_evaluation_goes_by_the_evaluations_name_for_it(tmp_path):
    own = make_run(tmp_path / "reward", "reward", figures=[figure("reward_model/accuracy", 0.7, 0.6, 0.8, 100)])
    rates = [figure("ppo/pair_accuracy", 0.9, 0.8, 0.95, 300), figure("proxy/pair_accuracy", 0.75, 0.7, 0.8, 300)]
    evaluate = make_run(tmp_path / "evaluate", "evaluate", figures=rates, rewards={"proxy": "runs/reward"})
    *_, finding = summary(read_stages([own, evaluate], {}), ENGLISH)
    assert finding.sentence == "Reward model accuracy on held-out pairs: 0.75 [0.70, 0.80], n=300."
    *_, finding = summary(read_stages([own], {}), ENGLISH)
    assert finding.sentence == "Reward model accuracy on held-out pairs: 0.70 [0.60, 0.80], n=100."


def test_a_figure_whose_number_of_units_is_not_known_judges_no_calibration(tmp_path):
    known = [figure("reward_model/accuracy", 0.7, 0.4, 0.75), figure("reward_model/ece", 0.3)]
    own = make_run(tmp_path / "reward", "reward", figures=known)
    assert [one.kind for one in weaknesses_of_run(own)] == ["accuracy"]
    *_, warning = summary(read_stages([own], {}), ENGLISH)
    reason = ENGLISH["weak_accuracy"].format(value="0.400", limit=0.5)
    assert warning.sentence == ENGLISH["weak_reward"].format(stage="reward", reasons=reason)


@pytest.mark.parametrize("words", [ENGLISH, KOREAN], ids=["en", "ko"])
@pytest.mark.parametrize("kind", get_args(get_type_hints(Weakness)["kind"]))
def test_every_weakness_has_its_words(kind, words):
    assert "{value}" in words[f"weak_{kind}"]


def test_a_weak_cost_model_is_told_as_one(tmp_path):
    known = [figure("cost_model/accuracy", 0.6, 0.45, 0.7), figure("cost_model/balanced_accuracy", 0.5, 0.4, 0.6)]
    *_, warning = summary(read_stages([make_run(tmp_path / "cost", "cost", figures=known)], {}), ENGLISH)
    assert warning.sentence.startswith("The cost model of cost is weak: it may order held-out pairs right in 0.450")
    assert "the balanced accuracy of its sign may be as low as 0.400" in warning.sentence


def test_a_row_that_is_just_being_written(tmp_path):
    run = make_run(tmp_path / "run", rows={"metrics": ppo_rows(5)})
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 6, "lo')
    assert len(read_stages([run], {})[0].metrics) == 5


def test_errors_say_what_to_do(tmp_path):
    with pytest.raises(RunError, match="is not a run directory"):
        build_report([tmp_path], tmp_path / "out", title="Demo")
    run = make_run(tmp_path / "run")
    (run / "figures.json").write_text("{broken")
    with pytest.raises(DataError, match=r"figures\.json: not JSON .*run the stage again"):
        build_report([run], tmp_path / "out", title="Demo")
    (run / "figures.json").write_text('{"ppo/kl": 3}')
    with pytest.raises(DataError, match="not a list of figures"):
        build_report([run], tmp_path / "out", title="Demo")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be a folder for the report"):
        build_report([], tmp_path / "file" / "out", title="Demo")


# --- words and style --------------------------------------------------------------------------------------------------


def test_both_languages_say_the_same_things():
    assert ENGLISH.keys() == KOREAN.keys()
    assert list(ENGLISH) == list(KOREAN)
    for key in ENGLISH:
        fields = [{name for _, name, _, _ in Formatter().parse(words[key]) if name} for words in (ENGLISH, KOREAN)]
        assert fields[0] == fields[1], key
    same = {key for key in ENGLISH if ENGLISH[key] == KOREAN[key]}
    assert same == {"distinct_2"} | {key for key in same if not re.search("[a-z]{3}", ENGLISH[key])}


def test_korean_particles_never_follow_a_name():
    """이/가, 을/를, 은/는, 와/과, 으로 depend on the sound before them, which a placeholder does not tell."""
    for key, words in KOREAN.items():
        assert not re.search(
            r"\{(policy|against|stage|judge|name|child)\}(이|가|을|를|은|는|와|과|로|으로)\b", words
        ), key


def test_no_word_is_dead():
    source = "".join(path.read_text() for path in SOURCE.glob("*.py") if not path.name.startswith("words"))
    built_up = ("tag_", "status_", "expect_", "note_", "control_", "weak_", "reward_model/", "baseline/", "ensemble/")
    quoted = set(re.findall(r"""["']([\w/]+)["']""", source))
    unused = [key for key in ENGLISH if not {key, key.removesuffix("_lead")} & quoted and not key.startswith(built_up)]
    assert unused == []


def colours(css, dark):
    return {
        name: pair[dark] for name, *pair in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", css)
    }  # fmt: skip


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_contrast_is_aa(dark):
    """WCAG 2.2: 4.5 for text, 3 for the lines and marks of drawings."""
    found = colours((SOURCE / "report.css").read_text(), dark)
    for ground in ("paper", "surface"):
        for name in ("ink", "muted", "accent", "better", "worse"):
            assert contrast(found[name], found[ground]) >= 4.5, (name, ground)
    for k in range(6):
        assert contrast(found[f"series-{k}"], found["paper"]) >= 3, k
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_numbers_have_about_three_digits():
    shown = {0: "0", 500: "500", 1524: "1,524", 0.0214: "0.021", 6.1: "6.10", 31.24: "31.2", 21163.4: "21,163"}
    shown |= {-0.083: "−0.083", 3e-5: "3.0e−05", None: "–", math.nan: "–", "x": "–", -0.0001e-9: "−1.0e−13"}
    assert {value: number(value) for value in shown} == shown
    assert numbers(2.1, 2.0, 2.2) == ["2.10", "2.00", "2.20"]
    assert numbers(9.8, 9.5, 10.1) == ["9.8", "9.5", "10.1"]
    assert numbers(-0.0004, -0.2, 0.2) == ["0.000", "−0.200", "0.200"]


def test_shares_never_round_a_bound_onto_one_half():
    assert shares(0.784, 0.742, 0.822) == ["0.78", "0.74", "0.82"]
    assert shares(0.503, 0.459, 0.547) == ["0.50", "0.46", "0.55"]
    assert shares(0.54, 0.502, 0.58) == ["0.540", "0.502", "0.580"]
    assert shares(0.55, 0.5, 0.6) == ["0.55", "0.50", "0.60"]


def test_times_and_sizes():
    assert [duration_words(s, ENGLISH) for s in (5.2, 366, 7322, None)] == ["5 s", "6 min 6 s", "2 h 2 min", "–"]
    assert [duration_words(s, KOREAN) for s in (5.2, 366, 7322)] == ["5초", "6분 6초", "2시간 2분"]
    assert [bytes_words(b) for b in (1.5 * 2**30, 700 * 2**20, math.nan)] == ["1.5 GiB", "700 MiB", "–"]


# --- drawings ---------------------------------------------------------------------------------------------------------


def test_plots_follow_the_page():
    svg = interval_plot([Row("PPO", [Estimate(0.7, 0.6, 0.8), Estimate(0.6)])], label="wins", reference=0.5)
    assert svg == interval_plot([Row("PPO", [Estimate(0.7, 0.6, 0.8), Estimate(0.6)])], label="wins", reference=0.5)
    assert svg.startswith('<svg class="plot"')
    assert svg.endswith("</svg>")
    assert {"var(--series-0)", "var(--muted)", "var(--ink)"} <= set(re.findall(r"var\(--[\w-]+\)", svg))
    assert not re.search(r": #[0-9a-f]{6}", svg)
    assert not re.search("font-family|<style|metadata|<!--|http", svg)


def test_plot_texts_are_texts_of_any_script():
    names = [HANGUL, "$x^2$ & <b>", FAMILY, RTL, "q000nnn", "\\frac{1}{2}"]
    svg = interval_plot([Row(name, [Estimate(0.5)]) for name in names], label='a "label"')
    for name in names:
        assert f">{text(name)}</text>" in svg
    assert 'aria-label="a &quot;label&quot;"' in svg
    points = [Point(name, Estimate(float(i)), Estimate(float(i))) for i, name in enumerate(names)]
    scatter = scatter_plot(points, label="l", x_label="KL(nats)", y_label="보상", x_ticks={1.0: "쉰", 4.0: "$"})
    for name in [*names, "보상", "KL(nats)", "쉰", "$"]:
        assert f">{text(name)}</text>" in scatter


def test_tick_labels_keep_their_digits():
    svg = curve_plot([Line(range(9), [0.925 + 0.01 * i for i in range(9)])], label="l", x_label="step")
    ticks = [float(found) for found in re.findall(r">(\d+\.\d+)</text>", svg)]
    assert {0.925, 0.95, 0.975} <= set(ticks)
    assert len(ticks) == len(set(ticks))


def test_plots_take_missing_values():
    nothing = [math.nan, None, math.inf]
    assert curve_plot([Line([1, 2, 3], nothing)], label="l", x_label="step").endswith("</svg>")
    row = Row("a", [Estimate(None), Estimate(math.nan, 0.1, 0.2), None])
    assert interval_plot([row], label="l").endswith("</svg>")
    assert interval_plot([], label="l").endswith("</svg>")
    point = Point("a", Estimate(1.0), Estimate(math.nan))
    assert scatter_plot([point], label="l", x_label="x", y_label="y", path=[(1.0, math.nan), (1.0, 2.0)]).endswith(
        "</svg>"
    )


def test_an_interval_that_leaves_its_value_out_does_not_reach_backwards():
    assert Estimate(0.5, 0.6, 0.7).errors == (0.0, pytest.approx(0.2))
    assert Estimate(0.5, None, 0.7).errors == (0.0, 0.0)


def test_running_mean():
    assert running_mean([]) == []
    assert running_mean([4.0, 8.0]) == [4.0, 8.0]
    # 40 values: one neighbour on each side
    values = [0.0] * 19 + [3.0] + [0.0] * 19 + [6.0]
    smooth = running_mean(values)
    assert smooth[18:21] == [1.0, 1.0, 1.0]
    assert smooth[38:] == [2.0, 3.0]
    assert sum(smooth[:18]) == 0


def test_long_curves_stay_small():
    steps = list(range(100_000))
    svg = curve_plot([Line(steps, [math.sin(s / 500) for s in steps])], label="l", x_label="step")
    assert len(svg) < 40_000


def test_lineage_survives_a_loop():
    nodes = [Node("a", "a", "sft", ("c", "a")), Node("b", "b", "dpo", ("a",)), Node("c", "c", "ppo", ("b",))]
    assert lineage_svg(nodes, label="l", anchors={}).count('class="edge"') == 2


def test_lineage_of_skipped_layers_and_unknown_parents():
    nodes = [
        Node("base", "base", "base"),
        Node("sft", "sft", "sft", ("base", "nowhere")),
        Node("ppo", "아주 아주 긴 이름을 가진 단계", "ppo", ("sft", "sft")),
        Node("evaluate", EVIL, "evaluate", ("ppo", "base", "evaluate")),
    ]
    svg = lineage_svg(nodes, label="l", anchors={"sft": "stage-1"})
    assert svg == lineage_svg(nodes, label="l", anchors={"sft": "stage-1"})
    assert svg.count('class="edge"') == 4  # base-sft, sft-ppo, ppo-evaluate, base-evaluate
    assert '<a href="#stage-1">' in svg
    assert "<title>아주 아주 긴 이름을 가진 단계 (ppo)</title>" in svg
    assert ">아주 아주 긴…</text>" in svg
    assert "<script" not in svg
    heights = [float(y) for y in re.findall(r'<rect x="[^"]*" y="([\d.]+)"', svg)]
    assert heights == sorted(heights)
    assert len(set(heights)) == 4
