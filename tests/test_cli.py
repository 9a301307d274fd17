"""What a user types: words, exit codes, what goes to stdout and what to stderr."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import typer

import baro
from baro import cli, pipeline_reader, verbs
from baro.config import Config, TrainerConfig
from baro.declared import declared_keys
from baro.errors import BackendError, GuardStop
from baro.runs import RunDir
from baro.verbs import Verb

BARO = [sys.executable, "-c", "from baro.cli import main; main()"]


class ToyConfig(Config):
    """A stage with the keys of the ones that the tests call."""

    policy: str = "none"
    prompts: str | None = None
    answers: str | None = None
    by: str | None = None
    n: int = 4
    seed: int = 0
    limit: int | None = None
    trainer: TrainerConfig = TrainerConfig(learning_rate=1e-3)


class Toy:
    """A stage that does what it is told to, and keeps the config that it was given."""

    def __init__(self):
        self.config = self.error = None

    def run(self, config, out=None):
        self.config = config
        run = RunDir.open(Path(out or "runs/toy-1"), verb="toy", config=config, inputs={})
        if self.error is not None:
            run.close()
            raise self.error
        if not run.finished:
            (run.path / "figures.json").write_text(
                '[{"name": "x", "value": 1.0, "low": null, "high": null, "n": null}]'
            )
            run.finish()
        return run


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """Every stage of the command line is the toy."""
    found = Toy()
    verb = Verb(lambda: (ToyConfig, found.run), "policy")
    toys = dict.fromkeys(["sft", "ppo", "generate", "data split"], verb)
    monkeypatch.setattr(verbs, "VERBS", toys)
    monkeypatch.setattr(pipeline_reader, "VERBS", toys)
    monkeypatch.chdir(tmp_path)
    return found


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """main changes signals, the environment and the logger of this process; afterwards all are as they were."""
    handler = signal.getsignal(signal.SIGTERM)
    environment = dict(os.environ)
    log = cli_logger()
    handlers, level, propagate = log.handlers, log.level, log.propagate
    yield
    signal.signal(signal.SIGTERM, handler)
    os.environ.clear()
    os.environ.update(environment)
    log.handlers, log.level, log.propagate = handlers, level, propagate


def cli_logger():
    import logging

    return logging.getLogger("baro")


@pytest.fixture
def baro_says(capsys):
    """Run the command line in this process: exit code, stdout, stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            cli.main([str(argument) for argument in arguments])
        return stop.value.code or 0, *capsys.readouterr()

    return run


# --- help


def test_help_is_quick_and_imports_no_torch():
    def seconds():
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*BARO, "--help"], check=True, capture_output=True)
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        return now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime

    assert min(seconds() for _ in range(3)) < 0.3  # of a processor: the wall clock depends on who else is at work
    check = "import sys\nfrom baro.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    heavy = "print([m for m in ('torch', 'transformers', 'numpy', 'pydantic', 'rich') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", check + heavy], check=True, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "[]"


VERBS = [
    "demo",
    "run",
    "base",
    "sft",
    "reward",
    "cost",
    "dpo",
    "kto",
    "ppo",
    "safe-ppo",
    "grpo",
    "critique",
    "generate",
    "chat",
    "label",
    "verify",
    "evaluate",
    "report",
    "data",
    "feedback",
]


def test_help_lists_what_works_and_nothing_else(baro_says):
    code, out, _ = baro_says("--help")
    listed = [line.split()[0] for line in out.partition("Commands:\n")[2].splitlines() if line.startswith("  ")]
    assert code == 0
    assert listed == VERBS


@pytest.mark.parametrize(
    "words", [[verb] for verb in VERBS] + [["data", verb] for verb in ("check", "convert", "split")]
)
def test_every_verb_has_help(baro_says, words):
    code, out, _ = baro_says(*words, "--help")
    assert code == 0
    assert out.startswith(f"Usage: baro {' '.join(words)}")


@pytest.mark.parametrize("verb", verbs.VERBS)
def test_help_names_every_input_that_the_config_declares(baro_says, verb):
    code, out, _ = baro_says(*verb.split(), "--help")
    listed = [line.split()[0] for line in out.partition("Keys that name an input:\n")[2].splitlines() if line[2] != " "]
    assert code == 0
    assert listed == [key for key, _, _ in declared_keys(verbs.VERBS[verb].load()[0])]


STAGES_HAVE = {"config", "set_", "out", "json_", "any_environment", "help"}
CALLED = {"judge": "judges", "reward_": "rewards", "as_": "as_"}


@pytest.mark.parametrize("verb", verbs.VERBS)
def test_every_flag_of_a_stage_is_a_key_of_its_config(verb):
    command = typer.main.get_command(cli.app)
    for word in verb.split():
        command = command.commands[word]
    names = {one.name for one in command.params}
    assert STAGES_HAVE - {"help"} <= names
    keys = {CALLED.get(name, name.removesuffix("_flag")) for name in names - STAGES_HAVE}
    assert keys <= verbs.VERBS[verb].load()[0].model_fields.keys()


def test_version(baro_says):
    assert baro_says("--version")[:2] == (0, f"baro {baro.__version__}\n")


# --- output


def test_stdout_is_the_run_directory_alone(toy, baro_says):
    assert baro_says("sft", "--out", "here") == (0, "here\n", "")


def test_a_finished_run_says_so_on_stderr(toy, baro_says):
    baro_says("sft", "--out", "here")
    time.sleep(0.02)  # files' times are coarse
    assert baro_says("sft", "--out", "here") == (0, "here\n", "here: finished already, nothing to do\n")


def test_json(toy, baro_says):
    code, out, _ = baro_says("sft", "--out", "here", "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["run"], found["status"], found["figures"][0]["name"]) == ("here", "finished", "x")


def test_file_then_set_then_flags(toy, baro_says, tmp_path):
    (tmp_path / "c.yaml").write_text("policy: from-file\nn: 2\ntrainer: {steps: 5}\n")
    baro_says("generate", "--config", "c.yaml", "--set", "trainer.batch_size=3", "--set", "n=7", "-n", "9")
    assert (toy.config.policy, toy.config.n) == ("from-file", 9)
    assert (toy.config.trainer.steps, toy.config.trainer.batch_size) == (5, 3)


def test_a_config_file_is_a_training_verbs_argument(toy, baro_says, tmp_path):
    (tmp_path / "c.yaml").write_text("policy: from-file\n")
    baro_says("ppo", "c.yaml", "--set", "seed=3")
    assert (toy.config.policy, toy.config.seed) == ("from-file", 3)


@pytest.mark.parametrize("words", [["some/run"], ["--policy", "some/run"]])
def test_the_first_input_is_an_argument_or_a_flag(toy, baro_says, words):
    assert baro_says("generate", *words, "--prompts", "p.jsonl", "--limit", "5", "--seed", "2")[0] == 0
    assert (toy.config.policy, toy.config.prompts, toy.config.limit, toy.config.seed) == ("some/run", "p.jsonl", 5, 2)


def test_label_and_evaluate_pass_every_flag_on(monkeypatch, baro_says):
    seen = {}
    monkeypatch.setattr(cli, "_run", lambda verb, *_, **values: seen.update({verb: values}))
    baro_says("label", "answers", "--by", "m:judge", "--as", "ranks", "--pairs-per-prompt", "3", "--seed", "1",
              "--constitution", "general")  # fmt: skip
    assert seen["label"] == {
        "answers": "answers", "by": "m:judge", "constitution": "general", "as": "ranks", "pairs_per_prompt": 3,
        "seed": 1,
    }  # fmt: skip
    baro_says("evaluate", "a=runs/x", "runs/y", "--against", "runs/z", "--prompts", "p", "--pairs", "q",
              "--baseline-pairs", "b", "--judge", "gold=m:J", "--judge", "m:K", "--reward", "runs/rm",
              "--ref-policy", "r", "--limit", "9", "--seed", "2")  # fmt: skip
    assert seen["evaluate"] == {
        "policies": {"a": "runs/x", "y": "runs/y"}, "against": "runs/z", "prompts": "p", "pairs": "q",
        "baseline_pairs": "b", "judges": {"gold": "m:J", "K": "m:K"}, "rewards": {"rm": "runs/rm"},
        "ref_policy": "r", "limit": 9, "seed": 2,
    }  # fmt: skip
    baro_says("evaluate", "runs/x", "runs/y", "--prompts", "p")
    assert seen["evaluate"]["policies"] == ["runs/x", "runs/y"]


def test_run_prints_where_the_stages_are(toy, baro_says, tmp_path):
    (tmp_path / "mine.yaml").write_text("stages: {a: {do: sft}}\n")
    assert baro_says("run", "mine.yaml")[:2] == (0, "runs/mine\n")
    _, out, err = baro_says("run", "mine.yaml", "--json")
    assert json.loads(out)["stages"]["a"]["run"] == "runs/mine/a"
    assert err.splitlines() == ["a: finished, skipped", "all 1 stages are finished; there was nothing to do"]


def test_demo_calls_the_demo(monkeypatch, baro_says):
    module = ModuleType("baro.demo.run")
    module.run_demo = lambda seed, all_, out, human, task: Path(f"{out}/{seed}/{all_}/{human}/{task}")
    monkeypatch.setitem(sys.modules, "baro.demo.run", module)
    assert baro_says("demo", "--seed", "3", "--all", "--out", "x")[:2] == (0, "x/3/True/None/preferences\n")
    assert baro_says("demo", "--human", "--out", "x")[:2] == (0, "x/0/False/40/preferences\n")
    assert baro_says("demo", "--arithmetic", "--all", "--out", "x")[:2] == (0, "x/0/True/None/arithmetic\n")
    assert baro_says("demo", "--human", "--judgments", "12", "--out", "x")[:2] == (0, "x/0/False/12/preferences\n")
    assert baro_says("demo", "--safety", "--out", "x")[:2] == (0, "x/0/False/None/safety\n")


def test_messages_are_whole_lines_on_stderr(toy, baro_says, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    long = "a message that is longer than the terminal is wide, with [brackets]"
    toy.run, run = lambda config, out: (cli_logger().info(long), run(config, out))[1], toy.run
    monkeypatch.setitem(verbs.VERBS, "sft", Verb(lambda: (ToyConfig, toy.run)))
    assert baro_says("sft")[2] == long + "\n"


# --- errors


@pytest.mark.parametrize(("error", "code"), [(GuardStop("NaN"), 3), (BackendError("disk"), 1)])
def test_errors_raised_on_purpose_are_one_sentence(toy, baro_says, error, code):
    toy.error = error
    assert baro_says("sft") == (code, "", f"error: {error}\n")


def test_a_bug_keeps_its_traceback(toy):
    toy.error = ZeroDivisionError("ours")
    with pytest.raises(ZeroDivisionError):
        cli.main(["sft"])


def test_a_bug_exits_with_1_and_a_traceback():
    code = "import baro.cli, baro.verbs\nbaro.verbs.VERBS = {}\nbaro.cli.main(['sft'])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "KeyError" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["sft", "no.yaml"],
            "error: no.yaml: cannot be read (No such file or directory); check the path of the config",
        ),
        (["sft", "--set", "polcy=x"], "error: --set polcy=x: unknown key 'polcy'; did you mean 'policy'?"),
        (["sft", "--set", "n"], "error: --set n: this is no assignment; write --set KEY=VALUE"),
        (["generate", "a", "--policy", "b"], "error: policy is given twice"),
        (["evaluate", "x=a", "x=b"], "error: --policies: two of them are called x"),
        (["run", "no.yaml"], "error: no.yaml: cannot be read"),
        (["sft", "--frobnicate"], "No such option"),
        (["frobnicate"], "No such command"),
        (["generate", "-n", "many"], "Invalid value for '-n'"),
    ],
)
def test_mistakes_of_the_user_exit_with_2(toy, baro_says, arguments, sentence):
    code, out, err = baro_says(*arguments)
    assert (code, out) == (2, "")
    assert sentence in err
    assert "Traceback" not in err


def test_another_config_for_the_same_directory_is_refused(toy, baro_says):
    baro_says("sft", "--out", "here")
    code, _, err = baro_says("sft", "--out", "here", "--set", "n=5")
    assert code == 2
    assert "n 4 (now 5)" in err


def test_threads(toy, baro_says, monkeypatch):
    monkeypatch.setenv("BARO_THREADS", "2")
    baro_says("sft")
    assert (os.environ["OMP_NUM_THREADS"], os.environ["HF_HUB_DISABLE_TELEMETRY"]) == ("2", "1")
    monkeypatch.setenv("BARO_THREADS", "two")
    assert baro_says("sft")[::2] == (
        2,
        "error: BARO_THREADS=two: this is no number of threads; give 1 or more, or unset it\n",
    )


SLEEPER = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
import baro.verbs, baro.cli
from baro.config import Config
def stage(config, out):
    print("ready", file=sys.stderr, flush=True)
    time.sleep(60)
baro.verbs.VERBS = {"sft": baro.verbs.Verb(lambda: (Config, stage))}
baro.cli.main(["sft"])
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals(number, code):
    process = subprocess.Popen([sys.executable, "-c", SLEEPER], stderr=subprocess.PIPE, text=True)
    assert process.stderr.readline() == "ready\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in err


# --- data


@pytest.fixture
def rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps({"prompt": f"p{i}", "completion": "c"}) for i in range(10)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path / "rows.jsonl"


def test_data_check(rows, baro_says):
    code, out, _ = baro_says("data", "check", rows)
    assert code == 0
    assert "rows.jsonl: demonstrations" in out
    assert json.loads(baro_says("data", "check", rows, "--json")[1])["ledger"]["kept"] == 10


def test_data_check_fails_on_a_bad_file(rows, baro_says):
    rows.write_text(rows.read_text() + "{broken\n")
    code, _, err = baro_says("data", "check", rows)
    assert code == 2
    assert err.startswith("error: rows.jsonl:11: broken JSON")


def test_data_split(rows, baro_says):
    code, out, _ = baro_says("data", "split", rows, "--hold-out", "0.3", "--by", "row", "--out", "parts")
    assert (code, out) == (0, "parts\n")
    assert len(Path("parts/held_out.jsonl").read_text().splitlines()) == 3


# --- the package


def test_public_names_are_sorted_and_all_there():
    assert baro.__all__ == sorted(baro.__all__)
    for name in baro.__all__:
        assert getattr(baro, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = baro.nothing


def test_importing_the_package_imports_no_torch():
    code = "import sys, baro; from baro import run_pipeline, ConfigError; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
