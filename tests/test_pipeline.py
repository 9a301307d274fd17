"""Pipelines of stages that only write a word: order, references, skipping, refusals, and what errors say."""

import json
import logging
import sys
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import Field

from baro import config as blocks
from baro import pipeline_reader
from baro.declared import Records, declared_keys
from baro.errors import ConfigError, GuardStop, RunError
from baro.evaluate import report_stage
from baro.files import hash_path
from baro.pipeline import load_pipeline, run_pipeline
from baro.runs import RunDir
from baro.verbs import VERBS, Verb


class MakeConfig(blocks.Config):
    """A stage that writes a word."""

    word: str
    trainer: blocks.TrainerConfig = blocks.TrainerConfig(learning_rate=1e-3)
    seed: int = 0


class JoinConfig(blocks.Config):
    """A stage that joins what others wrote."""

    first: Records
    others: list[Records] = Field([])
    named: dict[str, Records] = Field({})
    style: str = Field("plain", description="no input: a stage's name means nothing here")


class Fakes:
    """Two verbs, and the order in which they ran."""

    def __init__(self):
        self.ran, self.broken = [], set()

    def make(self, config, out):
        return self._stage("make", config, out, {}, lambda: config.word)

    def join(self, config, out):
        paths = [config.first, *config.others, *config.named.values()]
        inputs = {path: hash_path(self.text(path)) for path in paths}
        return self._stage("join", config, out, inputs, lambda: "+".join(self.text(path).read_text() for path in paths))

    @staticmethod
    def text(path):
        return Path(path) / "text" if Path(path).is_dir() else Path(path)

    def _stage(self, verb, config, out, inputs, content):
        run = RunDir.open(out, verb=verb, config=config, inputs=inputs)
        if run.finished:
            return run
        self.ran.append(out.name)
        if out.name in self.broken:
            run.close()
            raise GuardStop("the loss is NaN")
        (out / "text").write_text(content())
        (out / "text2.jsonl").write_text("second")
        run.finish()
        return run


@pytest.fixture
def fakes(monkeypatch, tmp_path):
    found = Fakes()
    verbs = {
        "make": Verb(lambda: (MakeConfig, found.make), "records"),
        "join": Verb(lambda: (JoinConfig, found.join), "records"),
        "cut": Verb(lambda: (MakeConfig, found.make), outputs={"second": "text2.jsonl"}),
        "score": Verb(lambda: (MakeConfig, found.make), "scorer"),
        "report": VERBS["report"],
    }
    monkeypatch.setattr(pipeline_reader, "VERBS", verbs)
    monkeypatch.chdir(tmp_path)
    return found


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, logger="baro")
    return lambda: [record.getMessage() for record in caplog.records]


def write(text, name="mine.yaml"):
    Path(name).write_text(text)
    return Path(name)


CHAIN = """\
stages:
  end: {do: join, first: middle, others: [start]}
  middle: {do: join, first: start}
  start: {do: make, word: hello}
"""


def test_stages_run_after_those_that_they_need(fakes):
    done = run_pipeline(write(CHAIN))
    assert fakes.ran == ["start", "middle", "end"]
    assert list(done) == fakes.ran
    assert done["end"].path == Path("runs/mine/end")
    assert Path("runs/mine/end/text").read_text() == "hello+hello"


def test_names_are_found_in_lists_and_dicts_and_only_in_inputs(fakes):
    done = run_pipeline(
        {
            "out": "here",
            "stages": {
                "one": {"do": "make", "word": "one"},  # a word that is a stage's name stays a word
                "two": {"do": "join", "first": "one", "others": ["one"], "named": {"one": "one"}, "style": "one"},
            },
        }
    )
    assert Path("here/one/text").read_text() == "one"
    config = done["two"].manifest["config"]
    assert config == {"first": "here/one", "others": ["here/one"], "named": {"one": "here/one"}, "style": "one"}


def test_a_stage_with_several_outputs(fakes):
    stages = {"a": {"do": "cut", "word": "x"}, "b": {"do": "join", "first": "a.second"}}
    run_pipeline({"out": "here", "stages": stages})
    assert Path("here/b/text").read_text() == "second"


def test_files_are_relative_to_the_working_directory(fakes):
    Path("given.txt").write_text("given")
    Path("deep").mkdir()
    run_pipeline(write("stages: {a: {do: join, first: given.txt}}", "deep/mine.yaml"))
    assert Path("runs/mine/a/text").read_text() == "given"


def test_out_of_the_call_beats_that_of_the_file(fakes):
    path = write("out: there\nstages: {a: {do: make, word: x}}")
    assert load_pipeline(path).out == Path("there")
    assert load_pipeline(path, out="elsewhere").out == Path("elsewhere")


def test_the_seed_is_that_of_every_stage_without_its_own(fakes):
    text = "seed: 7\nstages:\n  a: {do: make, word: x}\n  b: {do: make, word: x, trainer: {seed: 1}, seed: 2}\n"
    a, b = (stage.config for stage in load_pipeline(write(text)).stages)
    assert (a.trainer.seed, a.trainer.learning_rate, b.trainer.seed, b.seed) == (7, 1e-3, 1, 2)


def test_overrides_reach_a_stages_keys(fakes):
    found = load_pipeline(write(CHAIN), overrides=["stages.start.trainer.steps=3", "out=x"])
    assert found.stages[0].config.trainer.steps == 3
    assert found.out == Path("x")


# --- running again


def test_what_is_finished_is_skipped_and_said(fakes, said):
    run_pipeline(write(CHAIN))
    fakes.ran.clear()
    run_pipeline(write(CHAIN))
    assert fakes.ran == []
    assert "start: finished, skipped" in said()
    assert said()[-1] == "all 3 stages are finished; there was nothing to do"


def test_stopped_in_a_stage_and_run_again_only_the_rest_runs(fakes, said):
    fakes.broken = {"middle"}
    with pytest.raises(GuardStop, match="middle: the loss is NaN"):
        run_pipeline(write(CHAIN))
    fakes.broken = set()
    fakes.ran.clear()
    run_pipeline(write(CHAIN))
    assert fakes.ran == ["middle", "end"]
    assert not any("nothing to do" in message for message in said())


def test_another_config_is_refused_with_the_difference_and_nothing_is_deleted(fakes):
    run_pipeline(write(CHAIN))
    with pytest.raises(RunError, match=r'start: runs/mine/start: .*word "hello" \(now "hi"\); go back .*--out'):
        run_pipeline(write(CHAIN.replace("hello", "hi")))
    assert Path("runs/mine/start/text").read_text() == "hello"


def test_another_input_is_refused(fakes):
    Path("given.txt").write_text("given")
    path = write("stages: {a: {do: join, first: given.txt}}")
    run_pipeline(path)
    Path("given.txt").write_text("changed")
    with pytest.raises(RunError, match=r"a: .*given\.txt .*\(now "):
        run_pipeline(path)


def test_a_new_stage_runs_beside_the_finished_ones(fakes):
    run_pipeline(write(CHAIN))
    fakes.ran.clear()
    run_pipeline(write(CHAIN + "  late: {do: join, first: end}\n"))
    assert fakes.ran == ["late"]


def test_the_report_needs_every_other_stage_and_its_path_is_said(fakes, said, monkeypatch):
    seen = {}

    def build_report(runs, out, *, title, names, language):
        seen.update(runs=[str(run) for run in runs], title=title, names=set(names.values()), language=language)
        (out / "report.html").write_text("<html>")

    monkeypatch.setattr(report_stage, "build_report", build_report)
    run_pipeline(write("stages:\n  page: {do: report, title: Mine, language: ko}\n" + CHAIN.partition("\n")[2]))
    assert seen["runs"] == ["runs/mine/start", "runs/mine/middle", "runs/mine/end"]  # as they ran
    assert (seen["title"], seen["names"], seen["language"]) == ("Mine", {"start", "middle", "end"}, "ko")
    assert said()[-1] == "report: runs/mine/page/report.html"


# --- errors


TYPO_INSIDE = "stages:\n  a:\n    do: make\n    word: x\n    trainer:\n      stesp: 3\n"
NO_MAIN_OUTPUT = "stages:\n  a: {do: cut, word: x}\n  b: {do: join, first: a}\n"
OF_ANOTHER_KIND = "stages:\n  a: {do: score, word: x}\n  b: {do: join, first: a}\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (CHAIN.replace("t: start", "t: strat"), ":3: 'strat' is no stage, file or folder; did you mean 'start'?"),
        (CHAIN.replace("[start]", "[end.x]"), ":2: stage 'end' has no output 'x'; write end"),
        (CHAIN.replace("do: make", "do: mkae"), ":4: no verb 'mkae'; did you mean 'make'?"),
        (CHAIN.replace("do: make, ", ""), ":4: stage 'start' does not say what to do; add do: VERB"),
        (CHAIN.replace("word: hello", "wrod: hello"), ":4: unknown key 'wrod'; did you mean 'word'?"),
        (CHAIN.replace("word: hello", "word: 3"), ":4: 'word' must be text"),
        (TYPO_INSIDE, ":6: unknown key 'trainer.stesp'; did you mean 'trainer.steps'?"),
        ("stages: {}\n", ":1: 'stages' is empty"),
        ("stage: {}\n", ":1: unknown key 'stage'; did you mean 'stages'?"),
        ("stages:\n  a b: {do: make, word: x}\n", ":2: 'a b' is no name for a stage"),
        (
            NO_MAIN_OUTPUT,
            ":3: stage 'a' makes nothing that other stages take, and 'first' needs records; write a.second",
        ),
        (OF_ANOTHER_KIND, ":3: stage 'a' makes a reward or value model, and 'first' needs records; write another"),
    ],
)
def test_errors_name_the_line_and_the_way_out(fakes, text, sentence):
    with pytest.raises(ConfigError) as error:
        load_pipeline(write(text))
    assert f"mine.yaml{sentence}" in str(error.value)
    assert not Path("runs").exists()


def test_stages_that_wait_for_each_other(fakes):
    text = CHAIN.replace("first: start", "first: end")
    with pytest.raises(
        ConfigError, match=r"mine\.yaml:2: stages wait for each other: end needs middle needs end; break"
    ):
        load_pipeline(write(text))
    with pytest.raises(ConfigError, match="a needs a"):
        load_pipeline(write("stages: {a: {do: join, first: a}}"))


def test_a_mistake_in_the_last_stage_is_found_before_the_first_one_runs(fakes):
    with pytest.raises(ConfigError):
        run_pipeline(write(CHAIN + "  late: {do: join, first: nowhere}\n"))
    assert fakes.ran == []


def test_a_file_that_is_not_there():
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read"):
        load_pipeline("nowhere.yaml")


# --- the stages made here


def test_split_is_a_stage(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"p{i}", "completion": "c"}) + "\n" for i in range(10)))
    stages = {"parts": {"do": "data split", "file": str(path), "hold_out": 3}}
    done = run_pipeline({"out": str(tmp_path / "out"), "stages": stages})["parts"]
    assert done.finished
    assert len((done.path / "train.jsonl").read_text().splitlines()) == 7
    assert len((done.path / "held_out.jsonl").read_text().splitlines()) == 3
    figures = {row["name"]: row["value"] for row in json.loads((done.path / "figures.json").read_text())}
    assert (figures["train"], figures["held_out"]) == (7, 3)


def test_a_wrong_key_of_a_pipeline_without_a_file():
    stages = {"judged": {"do": "label", "answers": "owner/rows", "by": "module:judge", "seeds": 1}}
    with pytest.raises(ConfigError, match=r"^unknown key 'seeds'; did you mean 'seed'\? in stage 'judged'$"):
        load_pipeline({"stages": stages})


ONLINE = "ptx.demonstrations evaluation.prompts evaluation.rewards evaluation.judge"


@pytest.mark.parametrize(
    ("verb", "inputs"),
    [
        ("base", "text trainer.held_out"),
        ("sft", "policy demonstrations trainer.held_out"),
        ("reward", "model trainer.held_out preferences"),
        ("dpo", "policy preferences ref_policy trainer.held_out"),
        ("kto", "policy thumbs ref_policy trainer.held_out"),
        ("ppo", "policy prompts reward_model rewards ref_policy " + ONLINE + " value_model"),
        ("generate", "policy prompts"),
        (
            "label",
            "by rubric.model rubric.by scaled_on answers judge.model judge.by constitution labeller.model labeller.by",
        ),
        ("feedback collect", "answers by choose.rewards"),
        ("data split", "file"),
        (
            "evaluate",
            "policies against prompts pairs baseline_pairs loss_on judges rewards ref_policy best_of",
        ),
        ("report", "runs"),
    ],
)
def test_the_inputs_of_a_verb_are_what_its_config_declares(verb, inputs):
    config_class, run = VERBS[verb].load()
    assert callable(run)
    assert " ".join(key for key, _, _ in declared_keys(config_class)) == inputs


def test_a_method_from_outside_is_a_stage(tmp_path, monkeypatch, fakes):
    module = ModuleType("own_method")
    module.Config, module.run = JoinConfig, fakes.join
    monkeypatch.setitem(sys.modules, "own_method", module)
    stages = {
        "first": {"do": "make", "word": "x"},
        "second": {"do": "own_method:run", "first": "first", "style": "first"},
        "third": {"do": "join", "first": "second"},
    }
    loaded = load_pipeline({"stages": stages}, out=tmp_path / "out")
    config = loaded.stages[1].config
    assert (config.first, config.style) == (str(tmp_path / "out" / "first"), "first")  # what it declares, no more
    assert [one.needs for one in loaded.stages] == [(), ("first",), ("second",)]
    assert set(run_pipeline(loaded)) == {"first", "second", "third"}


@pytest.mark.parametrize("do", ["own_method:missing", "no_such_module:run", "json:dumps"])
def test_what_is_no_method_is_named_with_its_line(tmp_path, fakes, monkeypatch, do):
    monkeypatch.setitem(sys.modules, "own_method", ModuleType("own_method"))
    (tmp_path / "p.yaml").write_text(f"stages:\n  first:\n    do: {do}\n")
    with pytest.raises(ConfigError, match=rf"p\.yaml:3: {do}: "):
        load_pipeline(tmp_path / "p.yaml")
