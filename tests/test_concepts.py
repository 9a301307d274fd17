"""docs/concepts.md and its Korean twin: modules exist; equations, numbers, quoted output and figures are real."""

import importlib
import inspect
import math
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import torch

from baro.functional.preference import bradley_terry_loss, dpo_loss, ranking_pairs

ROOT = Path(__file__).parents[1]
PAGES = {"en": ROOT / "docs" / "concepts.md", "ko": ROOT / "docs" / "ko" / "concepts.md"}
SCRIPT = ROOT / "examples" / "concepts" / "capital.py"
FIGURES = ROOT / "docs" / "figures"
EQUATION = re.compile(r"^```text\n(.*?)^```\n`(baro\.[\w.:]+)`", re.MULTILINE | re.DOTALL)
each_page = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def skeleton(page: Path) -> list[str]:
    """What must be the same in both languages: levels of headings, cells of rows, links, papers."""
    text, found = page.read_text(), []
    for line in text.splitlines():
        if line.startswith("#"):
            found.append(line.split()[0])
        elif line.startswith("|"):
            found.append(f"{line.count('|')} cells")
        links = [
            name.split("/")[-1].replace(".ko.", ".").replace(".en.", ".") for name in re.findall(r"\]\((.*?)\)", line)
        ]
        found += [name for name in links if "://" not in name]
        found += re.findall(r"arXiv:\d+\.\d+", line)
    return found


def test_both_languages_have_the_same_parts():
    assert skeleton(PAGES["en"]) == skeleton(PAGES["ko"])
    for language in ("text", "bash"):
        assert blocks(PAGES["en"], language) == blocks(PAGES["ko"], language)
    words = [sorted(re.findall(r"`([^`\n]+)`", page.read_text())) for page in PAGES.values()]
    assert words[0] == words[1]


@each_page
def test_every_module_named_exists(page):
    paths = re.findall(r"`((?:src|tests|examples)/[\w/.]+)`", page.read_text())
    assert len(paths) > 15
    for path in paths:
        assert (ROOT / path).exists(), path


@each_page
def test_equations_are_those_of_the_docstrings(page):
    equations = EQUATION.findall(page.read_text())
    assert len(equations) == 17
    for lines, name in equations:
        module, _, attribute = name.partition(":")
        found = importlib.import_module(module)
        docstring = re.sub(r"\s+", " ", inspect.getdoc(getattr(found, attribute) if attribute else found))
        for line in lines.splitlines():
            assert re.sub(r"\s+", " ", line) in docstring, f"not in the docstring of {name}: {line}"


@each_page
def test_the_worked_example(page):
    better, worse, weight = ranking_pairs(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0, 0, 0]))
    text = page.read_text()
    for scores, mean in (((0.4, 0.5, 0.6), "**0.7623**"), ((0.8, 0.5, 0.1), "**0.4902**")):
        scores = torch.tensor(scores, dtype=torch.float64)
        losses = bradley_terry_loss(scores[better], scores[worse])
        assert mean == f"**{(weight * losses).sum():.4f}**"
        for number in (mean, *(f"| {loss:.4f} |" for loss in losses)):
            assert number in text
    scores = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    assert f"{(weight * bradley_terry_loss(scores[better], scores[worse])).sum():.4f}" == "0.4205"
    assert "0.4205" in text
    assert f"{dpo_loss(torch.zeros(1), torch.zeros(1), beta=0.1).item():.4f}" == f"{math.log(2):.4f}" == "0.6931"
    assert "log 2 = 0.6931" in text


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    environment = os.environ | {"BARO_CACHE": str(tmp_path_factory.mktemp("cache")), "PYTHONIOENCODING": "utf-8"}
    folder = tmp_path_factory.mktemp("elsewhere")
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert not list(folder.iterdir()), "the script leaves nothing behind"
    return done.stdout


@each_page
def test_the_quoted_output_is_the_real_one(page, printed):
    (quoted,) = [block for block in blocks(page, "text") if block.startswith("1. ")]
    assert quoted == printed


@each_page
def test_the_figures_are_what_the_script_draws(page):
    specification = importlib.util.spec_from_file_location("draw", FIGURES / "draw.py")
    draw = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(draw)
    drawn = draw.drawn()
    assert {path.name for path in FIGURES.glob("*.svg")} == drawn.keys()
    code = page.parent.name if page.parent.name == "ko" else "en"
    pages = [page, page.with_name("feedback.md"), page.with_name("demo.md"), page.with_name("rewards.md")]
    shown = [one for at in pages for one in re.findall(r"!\[[^\]]+\]\((?:\.\./)?figures/([^)]+svg)\)", at.read_text())]
    assert sorted(shown) == sorted(name for name in drawn if name.endswith(f".{code}.svg"))
    for name in shown:
        assert (FIGURES / name).read_text(encoding="utf-8") == drawn[name], f"{name}: run docs/figures/draw.py"
        assert ElementTree.fromstring(drawn[name]).tag.endswith("svg")
