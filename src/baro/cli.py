"""The command line: a verb for each stage, and no logic of its own.

Stdout ends with the run directory alone on its last line (``--json``: with one JSON object); progress, tables and
messages go to stderr. Exit codes: 0 done, 2 the user's input, 3 stopped by a guard, 130 Ctrl-C, 143 SIGTERM, 1 the
rest. Everything but typer is imported inside functions, so that ``baro --help`` answers at once.
"""

from __future__ import annotations

import inspect
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
from typer.core import TyperCommand

from baro.data_cli import app as data_app
from baro.errors import BaroError, ConfigError
from baro.feedback.commands_changes import app as feedback_app
from baro.flags import given_once, named_values, print_row, verify

if TYPE_CHECKING:
    from baro.runs import RunDir

app = typer.Typer(
    name="baro",
    help="From human feedback to an aligned language model, with the evidence that it is better.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich takes as long to import as the rest of --help
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")
app.add_typer(feedback_app, name="feedback")

ConfigFile = Annotated[Path | None, typer.Argument(metavar="CONFIG.yaml", help="The stage's settings.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", metavar="CONFIG.yaml", help="Settings in a file.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a key; BLOCK.KEY=VALUE too.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Where to write; runs/<verb>-<hash> otherwise.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the directory.")]
Flags = Callable[..., dict[str, Any]]
"""What a command's own options are to the stage's config."""
Limit = Annotated[int | None, typer.Option(help="Only so many prompts, the first ones.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything drawn.")]


def _allow_any_environment(allowed: bool) -> bool:
    """Through the environment, so that it reaches every stage of a pipeline."""
    from baro.runs import ANY_ENVIRONMENT

    if allowed:
        os.environ[ANY_ENVIRONMENT] = "1"
    return allowed


AnyEnvironment = Annotated[
    bool,
    typer.Option(
        "--allow-environment-change",
        help="Go on under other versions or threads than a run was started with; not bit for bit.",
        callback=_allow_any_environment,
    ),
]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The ``baro`` command. What is raised on purpose becomes one sentence; bugs keep their traceback."""
    try:
        _prepare_process()
        app(args=None if arguments is None else list(arguments), prog_name="baro")
    except BaroError as error:
        sys.stdout.flush()
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    sys.exit(0)


def _prepare_process() -> None:
    """Signals, and settings that libraries read when they are imported."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    threads = os.environ.get("BARO_THREADS")
    if threads is None:
        return
    if not threads.isdecimal() or threads == "0":
        raise ConfigError(f"BARO_THREADS={threads}: this is no number of threads; give 1 or more, or unset it")
    os.environ |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if version:
        from baro import __version__

        typer.echo(f"baro {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is not None:
        _log_to_stderr()


def _log_to_stderr() -> None:
    """What the stages say, each message on a line of its own however narrow the terminal."""
    import logging

    from rich.console import Console
    from rich.text import Text

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            style = "yellow" if record.levelno >= logging.WARNING else ""
            Console(stderr=True).print(Text(record.getMessage(), style), soft_wrap=True)

    log = logging.getLogger("baro")
    log.handlers = [Handler()]
    log.setLevel(logging.INFO)
    log.propagate = False


# ------------------------------------------------------------------------------------------------------------ stages


def _run(
    verb: str, config_file: Path | None, overrides: list[str] | None, out: Path | None, as_json: bool, **values: Any
) -> None:
    """Load the verb's config from file, ``--set`` and flags, run it, and print the result."""
    from baro.config import load_config
    from baro.verbs import VERBS

    started = time.time_ns()
    config_class, run_stage = VERBS[verb].load()
    rows = VERBS[verb].tells_rows and not as_json
    given = {key: value for key, value in values.items() if value not in (None, [], {})}
    tell = {"tell": print_row} if rows else {}
    run = run_stage(load_config(config_class, config_file, overrides or (), given), out, **tell)
    if (run.path / "run.json").stat().st_mtime_ns < started:
        typer.echo(f"{run.path}: finished already, nothing to do", err=True)
    said = json.dumps(_result(run), ensure_ascii=False, allow_nan=False) if as_json else str(run.path)
    typer.echo(said, err=rows)


def _result(run: RunDir) -> dict[str, Any]:
    """What ``--json`` tells about a run."""
    figures = run.path / "figures.json"
    known = json.loads(figures.read_text()) if figures.exists() else []
    return {"run": str(run.path), "verb": run.manifest["verb"], "status": run.manifest["status"], "figures": known}


def _stage(
    verb: str, group: typer.Typer = app, *, config: Any = ConfigOption, name: str | None = None
) -> Callable[[Flags], Flags]:
    """Make a command of a function that tells what its flags mean to the config; what all stages have is added here."""
    shared = {"config": config, "set_": Set, "out": Out, "json_": Json, "any_environment": AnyEnvironment}

    class WithInputs(TyperCommand):
        """Its help ends with what the stage's config names, as the config declares it."""

        def format_epilog(self, ctx: Any, formatter: Any) -> None:
            with formatter.section("Keys that name an input"):
                formatter.write_dl(_inputs_of(verb))

    def add(flags: Flags) -> Flags:
        def command(**given: Any) -> None:
            file, overrides, out, as_json, _ = (given.pop(key) for key in shared)
            _run(verb, file, overrides, out, as_json, **flags(**given))

        unset = {"json_": False, "any_environment": False}
        own = inspect.signature(flags, eval_str=True).parameters.values()
        rest = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=unset.get(key), annotation=kind)
            for key, kind in shared.items()
        ]
        command.__signature__ = inspect.Signature([*own, *rest])  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in (*own, *rest)}
        command.__doc__ = flags.__doc__
        group.command(name or flags.__name__, cls=WithInputs)(command)
        return flags

    return add


def _inputs_of(verb: str) -> list[tuple[str, str]]:
    """The keys of a verb's config that name something, with what they mean."""
    from baro.declared import declared_keys
    from baro.verbs import VERBS

    return [(key, field.description or "") for key, _, field in declared_keys(VERBS[verb].load()[0])]


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="Seed of the whole demonstration.")] = 0,
    all_: Annotated[bool, typer.Option("--all", help="Three seeds and every control; takes much longer.")] = False,
    human: Annotated[
        bool, typer.Option("--human", help="You judge on the web page, in place of simulated people.")
    ] = False,
    judgments: Annotated[int, typer.Option(min=1, help="Pairs that you judge with --human.")] = 40,
    arithmetic: Annotated[
        bool, typer.Option("--arithmetic", help="Sums that are checked, in place of preferences; trains by GRPO.")
    ] = False,
    safety: Annotated[
        bool, typer.Option("--safety", help="Rewards under a limit on harm, in place of preferences alone.")
    ] = False,
    out: Out = None,
    any_environment: AnyEnvironment = False,
) -> None:
    """The whole pipeline on the embedded task, from nothing to a report."""
    from baro.demo.run import run_demo

    if arithmetic and safety:
        raise ConfigError("--arithmetic and --safety are two tasks; leave one of them out")
    task: Literal["arithmetic", "safety", "preferences"] = (
        "arithmetic" if arithmetic else "safety" if safety else "preferences"
    )
    typer.echo(str(run_demo(seed, all_, out, judgments if human else None, task)))


@app.command()
def run(
    pipeline: Annotated[Path, typer.Argument(metavar="PIPELINE.yaml", help="A file of stages.")],
    set_: Set = None,
    out: Out = None,
    json_: Json = False,
    any_environment: AnyEnvironment = False,
) -> None:
    """A file of stages; safe to kill, and to run again."""
    from baro.pipeline import load_pipeline, run_pipeline

    loaded = load_pipeline(pipeline, out=out, overrides=set_ or ())
    runs = run_pipeline(loaded)
    found = {"out": str(loaded.out), "stages": {name: _result(one) for name, one in runs.items()}} if json_ else {}
    typer.echo(json.dumps(found, ensure_ascii=False, allow_nan=False) if json_ else str(loaded.out))


def _by_config_alone(verb: str, summary: str) -> None:
    def flags() -> dict[str, Any]:
        return {}

    flags.__doc__ = summary
    _stage(verb, config=ConfigFile, name=verb)(flags)


for _verb, _summary in {
    "base": "A small new model from text: tokenizer, random weights, pre-training.",
    "sft": "Supervised fine-tuning on demonstrations.",
    "reward": "A reward model from pairs or rankings.",
    "cost": "A cost model from safety judgments: which answer is the less safe, and which is unsafe.",
    "dpo": "Direct preference optimisation.",
    "kto": "Kahneman-Tversky optimisation on thumbs up and down.",
    "ppo": "PPO on a reward.",
    "safe-ppo": "PPO on a reward, while answers cost no more than a limit.",
    "grpo": "GRPO and its family: the completions of a prompt are compared with each other.",
    "critique": "Answers criticised and revised by a constitution: demonstrations.",
}.items():
    _by_config_alone(_verb, _summary)


@_stage("generate")
def generate(
    policy: Annotated[str | None, typer.Argument(metavar="POLICY", help="The same as --policy.")] = None,
    policy_flag: Annotated[str | None, typer.Option("--policy", metavar="RUN", help="Who answers.")] = None,
    prompts: Annotated[str | None, typer.Option(metavar="FILE", help="What to answer: a file or a run.")] = None,
    n: Annotated[int | None, typer.Option("-n", "--n", help="Answers to each prompt; 4 unless given.")] = None,
    limit: Limit = None,
    seed: Seed = None,
) -> dict[str, Any]:
    """Answers of a policy to prompts."""
    who = given_once("policy", policy, policy_flag)
    return {"policy": who, "prompts": prompts, "n": n, "limit": limit, "seed": seed}


@app.command()
def chat(
    policy: Annotated[str | None, typer.Argument(metavar="RUN", help="Who answers.")] = None,
    record: Annotated[
        str | None, typer.Option(metavar="FILE.jsonl", help="Keep every turn, for the next round.")
    ] = None,
    consent: Annotated[
        bool | None, typer.Option("--consent", help="Who types agrees to that; asked otherwise.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    seed: Seed = None,
    config: ConfigOption = None,
    set_: Set = None,
) -> None:
    """Talk with a policy; with --record what is said becomes prompts."""
    from baro.config import load_config
    from baro.methods.chat import Config, run

    given = {"policy": policy, "record": record, "consent": consent, "system": system, "seed": seed}
    values = {key: value for key, value in given.items() if value is not None}
    run(load_config(Config, config, set_ or (), values))


@_stage("label")
def label(
    answers: Annotated[str | None, typer.Argument(metavar="ANSWERS", help="The same as --answers.")] = None,
    answers_flag: Annotated[str | None, typer.Option("--answers", metavar="RUN", help="What to judge.")] = None,
    by: Annotated[
        str | None, typer.Option(metavar="X", help="A reward run, module:NAME, or a constitution's YAML file.")
    ] = None,
    constitution: Annotated[str | None, typer.Option(metavar="NAME|FILE.yaml", help="Principles to judge by.")] = None,
    as_: Annotated[
        str | None, typer.Option("--as", metavar="pairs|ranks|thumbs|best", help="The form; pairs first.")
    ] = None,
    pairs_per_prompt: Annotated[int | None, typer.Option(help="Compared pairs of each prompt.")] = None,
    seed: Seed = None,
) -> dict[str, Any]:
    """Judge answers by a reward model, a judge, a function or a constitution."""
    what = given_once("answers", answers, answers_flag)
    judges = {"by": by, "constitution": constitution}
    return {"answers": what, **judges, "as": as_, "pairs_per_prompt": pairs_per_prompt, "seed": seed}


_stage("verify")(verify)


@_stage("feedback collect", feedback_app)
def collect(
    answers: Annotated[str | None, typer.Argument(metavar="ANSWERS", help="The same as --answers.")] = None,
    answers_flag: Annotated[str | None, typer.Option("--answers", metavar="RUN", help="What is judged.")] = None,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="pair, rank, thumb, safety, criteria.")] = None,
    overlap: Annotated[int | None, typer.Option(help="Judgments of each task.")] = None,
    by: Annotated[str | None, typer.Option(metavar="module:NAME", help="Simulated people.")] = None,
    seed: Seed = None,
) -> dict[str, Any]:
    """Answers in, judgments out: serves the page until everything is judged."""
    what = given_once("answers", answers, answers_flag)
    return {"answers": what, "kind": kind, "overlap": overlap, "by": by, "seed": seed}


@_stage("evaluate")
def evaluate(
    policies: Annotated[list[str] | None, typer.Argument(metavar="[NAME=]RUN...", help="As --policies.")] = None,
    policies_flag: Annotated[list[str] | None, typer.Option("--policies", metavar="[NAME=]RUN")] = None,
    against: Annotated[str | None, typer.Option(metavar="RUN", help="Whose answers are compared with.")] = None,
    prompts: Annotated[str | None, typer.Option(metavar="FILE", help="What all of them answer.")] = None,
    pairs: Annotated[str | None, typer.Option(metavar="FILE", help="Pairs to measure accuracy on.")] = None,
    baseline_pairs: Annotated[str | None, typer.Option(metavar="FILE", help="Pairs for the unigram baseline.")] = None,
    judge: Annotated[list[str] | None, typer.Option(metavar="[NAME=]module:X", help="Who compares.")] = None,
    reward_: Annotated[list[str] | None, typer.Option("--reward", metavar="[NAME=]RUN", help="Who scores.")] = None,
    ref_policy: Annotated[str | None, typer.Option(metavar="RUN", help="What KL is measured to.")] = None,
    limit: Limit = None,
    seed: Seed = None,
) -> dict[str, Any]:
    """Compare policies on prompts, and scorers on pairs; with intervals."""
    who = given_once("policies", policies, policies_flag) or []
    with_names = any("=" in each for each in who)
    return {
        "policies": named_values("--policies", who) if with_names else who,
        "against": against,
        "prompts": prompts,
        "pairs": pairs,
        "baseline_pairs": baseline_pairs,
        "judges": named_values("--judge", judge),
        "rewards": named_values("--reward", reward_),
        "ref_policy": ref_policy,
        "limit": limit,
        "seed": seed,
    }


@_stage("report")
def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="What to report on.")],
    title: Annotated[str | None, typer.Option(help="The heading.")] = None,
    language: Annotated[str | None, typer.Option(metavar="en|ko", help="Of the report's own words.")] = None,
) -> dict[str, Any]:
    """One self-contained HTML page about runs."""
    return {"runs": runs, "title": title, "language": language}


# -------------------------------------------------------------------------------------------------------------- data


@_stage("data split", data_app, name="split")
def split_command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file or a run.")],
    hold_out: Annotated[float | None, typer.Option(metavar="300|0.1", help="How many rows, or what share.")] = None,
    encoding: Annotated[str | None, typer.Option(metavar="NAME", help="Of a file that is not UTF-8: cp949.")] = None,
    by: Annotated[str | None, typer.Option(metavar="prompt|row", help="What stays on one side.")] = None,
    seed: Seed = None,
) -> dict[str, Any]:
    """Cut a file in two: train.jsonl and held_out.jsonl in a run directory."""
    return {"file": file, "hold_out": hold_out, "by": by, "encoding": encoding, "seed": seed}
