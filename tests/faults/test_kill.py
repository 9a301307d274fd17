"""Killed anywhere, and run again by the same command: nothing that it leaves differs from an undisturbed run's.

Every file of a run directory is compared byte for byte, but for its own path and what tells of time: times in
run.json, `perf/...` in metrics and in the report, and the sizes of metrics.jsonl that checkpoints know.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from itertools import count

import pytest
from chat_server import answer, serving
from faults.conftest import PROMPTS, WORDS, write_rows

from baro.data.template import Template
from baro.models.load import Architecture, new_policy, save_policy

TRAINER = "learning_rate: 1e-2, steps: 8, batch_size: 4, checkpoint_every: 2"
CONFIGS = {
    "sft": f"""
policy: base
demonstrations: demonstrations.jsonl
trainer: {{{TRAINER}, held_out_fraction: 0.25, evaluate_every: 2, keep: best}}
""",
    "reward": f"""
model: base
preferences: preferences.jsonl
trainer: {{{TRAINER}, held_out_fraction: 0.25, warmup_steps: 3, schedule: cosine}}
""",
    "cost": f"""
model: base
preferences: safety.jsonl
margin_scale: 0.5
trainer: {{{TRAINER}, held_out_fraction: 0.25, evaluate_every: 2, keep: best}}
""",
    "ensemble": f"""
model: base
preferences: preferences.jsonl
members: 2
bootstrap: true
lora: {{r: 2}}
trainer: {{{TRAINER}, held_out_fraction: 0.25}}
""",
    "dpo": f"""
policy: base
preferences: preferences.jsonl
trainer: {{{TRAINER}}}
""",
    "kto": f"""
policy: base
thumbs: thumbs.jsonl
undesirable_weight: 1.2
trainer: {{{TRAINER}, held_out_fraction: 0.25, evaluate_every: 2, keep: best}}
""",
    # 3 rollouts of 4 updates: checkpoints in the middle of a rollout, and rollouts that begin between two checkpoints
    "ppo": """
policy: base
prompts: prompts.jsonl
rewards: [{by: reference/reward}, {by: "length_reward:short", weight: 0.5}]
kl: {coef: 0.05, target: 0.5, horizon: 20}
rollout: {prompts: 4, completions: 2, epochs: 2, minibatches: 2}
sampling: {max_new_tokens: 6}
trainer: {learning_rate: 1e-2, steps: 12, checkpoint_every: 3}
""",
    # prompts of equal scores are drawn again, so that a rollout takes more prompts than it has
    "grpo": """
policy: base
prompts: prompts.jsonl
rewards: [{by: "length_reward:odd"}]
kl: {coef: 0.05, target: 0.5, horizon: 20, place: reward}
rollout: {prompts: 4, completions: 2, epochs: 2, minibatches: 2, draws: 3}
sampling: {max_new_tokens: 6}
trainer: {learning_rate: 1e-2, steps: 12, checkpoint_every: 3}
""",
    # two critics, and a multiplier that waits, moves and remembers two rollouts
    "safe-ppo": """
policy: base
prompts: prompts.jsonl
rewards: [{by: "length_reward:short"}]
costs: [{by: "length_reward:words"}]
constraint: {limit: 0.5, window: 2, delay: 1}
rollout: {prompts: 4, completions: 2, epochs: 2, minibatches: 2}
sampling: {max_new_tokens: 6}
trainer: {learning_rate: 1e-2, steps: 12, checkpoint_every: 3}
""",
    # policy, reference, value model and reward model on one backbone; values start at the reward's adapter
    "reward_lora": f"""
model: base
preferences: preferences.jsonl
lora: {{r: 2}}
trainer: {{{TRAINER}}}
""",
    "ppo_trunk": """
policy: base
prompts: prompts.jsonl
reward_model: reference/reward_lora
accept_weak_reward_model: true
lora: {r: 2}
kl: {coef: 0.05, target: 0.5, horizon: 20}
value: {learning_rate: 3e-2}
compute: {gradient_checkpointing: true}
rollout: {prompts: 4, completions: 2, epochs: 2, minibatches: 2}
sampling: {max_new_tokens: 6}
trainer: {learning_rate: 1e-2, steps: 12, checkpoint_every: 3}
""",
    # with all that has state of its own: demonstrations beside, a reference that moves, running moments, kept weights
    "ppo_full": """
policy: base
prompts: prompts.jsonl
rewards: [{by: reference/reward}, {by: "length_reward:short", weight: 0.5}]
kl: {coef: 0.05, reference: ema, ema_decay: 0.5}
ptx: {demonstrations: demonstrations.jsonl, batch_size: 3}
reward_shaping: {normalise: each}
evaluation: {prompts: prompts.jsonl, rewards: [{by: "length_reward:words"}], every: 2, keep: words}
rollout: {prompts: 4, completions: 2, epochs: 2, minibatches: 2}
sampling: {max_new_tokens: 6}
trainer: {learning_rate: 1e-2, steps: 12, checkpoint_every: 3}
""",
}
CONFIGS |= {
    # answers and revisions by a model, critiques by rules that write down each call
    "critique": """
constitution: kind.yaml
policy: wide
prompts: prompts.jsonl
critic: {by: "rules_of_kill:critic"}
rounds: 2
unfinished: keep
sampling: {max_new_tokens: 8}
""",
    "label": """
answers: answered.jsonl
constitution: kind.yaml
labeller: {model: wide}
judging: {reasoning: true, max_new_tokens: 8, clamp: [0, 1]}
""",
}
PRINCIPLES = """
language: en
principles:
  - {name: kind, principle: {en: Be kind.}, critique: {en: "Bad?"}, revision: {en: Fix.}, comparison: {en: "Best?"}}
  - {name: brief, principle: {en: Be brief.}, critique: {en: "Long?"}, revision: {en: Cut.}, comparison: {en: "Least?"}}
"""
RULES = """
from pathlib import Path
from baro.records import Reply

class Critic:
    name, at_once = "critic", 3

    def chat(self, conversations, n, params, keys):
        with open("asked.log", "a") as file:
            file.writelines(f"{key}\\n" for key in keys)
        return [[Reply(f"Yes {key % 7}.")] for key in keys]

critic = Critic()
"""
PIPELINE = """
stages:
  sft: {do: sft, policy: base, demonstrations: demonstrations.jsonl, trainer: {steps: 4, checkpoint_every: 2}}
  answers: {do: generate, policy: sft, prompts: prompts.jsonl, n: 4, sampling: {max_new_tokens: 6}}
  pairs: {do: label, answers: answers, by: "length_reward:short"}
  reward:
    do: reward
    model: sft
    preferences: pairs
    trainer: {steps: 4, checkpoint_every: 2, held_out_fraction: 0.3}
  report: {do: report}
"""

# Before-fsync and after-rename are first reached for run.json, then for ledger.json; then dpo writes two files of
# reference log-probs, and ppo each rollout before its first update. Between-files is reached for each file of a
# checkpoint but the last, while-deleting for each file of the third newest.
KILLS = {
    "sft": {
        "before-fsync:4": 2,
        "between-files:3": None,
        "after-rename:5": 6,
        "while-deleting:2": 6,
        "after-rename:6": 8,  # the last checkpoint, and an old one that nothing but a resume removes
        "before-fsync:7": 8,  # the model is being saved
        "after-rename:7": 8,  # the model is saved, and run.json does not know
    },
    "reward": {
        "before-fsync:3": None,
        "between-files:5": 2,
        "after-rename:4": 4,
        "while-deleting:1": 6,
        "before-fsync:8": 8,
        "after-rename:8": 8,
    },
    "cost": {
        "before-fsync:3": None,
        "between-files:6": 2,
        "after-rename:4": 4,
        "while-deleting:1": 6,
        "before-fsync:8": 8,
        "after-rename:8": 8,
    },
    "ensemble": {
        "before-fsync:4": None,
        "before-fsync:7": 4,
        "between-files:4": 2,
        "before-fsync:12": None,  # member 0 is finished, and member 1 begins
        "before-fsync:15": 4,
        "while-deleting:4": 6,
        "before-fsync:18": 8,
        "after-rename:19": 8,
        "before-fsync:21": 8,  # both are finished
        "before-fsync:22": 8,
    },
    "dpo": {
        "before-fsync:3": None,  # the first file of reference log-probs
        "before-fsync:6": 2,
        "between-files:8": 4,
        "after-rename:5": 2,
        "while-deleting:4": 6,
    },
    "kto": {
        "before-fsync:4": None,  # the reference log-probs of the held-out rows
        "before-fsync:7": 2,
        "between-files:8": 2,
        "after-rename:6": 2,
        "while-deleting:4": 6,
    },
    "ppo": {
        "after-sampling:1": None,
        "after-sampling:3": 6,
        "before-fsync:5": 3,  # the second rollout
        "after-rename:5": 3,  # the same, stored; the checkpoint is in the middle of the first
        "before-fsync:6": 3,
        "between-files:6": 3,
        "after-rename:8": 9,
        "while-deleting:3": 9,
        "after-rename:10": 12,  # the value model is saved, the policy is not
    },
    "grpo": {
        "after-sampling:1": None,
        "after-sampling:2": None,  # the first rollout, drawn again
        "between-files:6": 3,
        "while-deleting:3": 9,
    },
    "safe-ppo": {
        "after-sampling:1": None,
        "after-sampling:3": 6,
        "after-rename:5": 3,  # the second rollout, stored; the checkpoint is in the middle of the first
        "between-files:6": 3,
        "while-deleting:3": 9,
        "after-rename:10": 12,  # the first value model is saved
        "after-rename:11": 12,  # and the second; the policy is not
    },
    "ppo_trunk": {
        "after-sampling:1": None,
        "after-sampling:3": 6,
        "before-fsync:5": 3,  # the second rollout
        "after-rename:5": 3,
        "between-files:6": 3,
        "after-rename:8": 9,
        "while-deleting:3": 9,
        "after-rename:10": 12,  # the value model is saved, the policy is not
        "after-rename:11": 12,  # and its adapter
    },
    "ppo_full": {
        "after-sampling:2": 3,
        "after-sampling:3": 6,
        "after-rename:7": 3,  # the second rollout is stored, its reference moved
        "between-files:6": 3,
    },
    # three calls of the critic for eight prompts, of every other one
    "critique": dict.fromkeys(
        (*(f"after-calls:{k}" for k in (1, 2, 3, 4, 6, 8, 9)), "before-fsync:3", "after-rename:3", "after-rename:4"),
        None,
    ),
    "label": dict.fromkeys(
        ("after-calls:1", "after-calls:2", "after-calls:3", "before-fsync:2", "after-rename:4"), None
    ),
}
"""What kills each method where, and the newest checkpoint that this leaves."""
TRAINED = [method for method in KILLS if method not in ("critique", "label")]
QUICK = {
    "sft": "after-rename:5",
    "reward": "between-files:5",
    "cost": "after-rename:4",
    "ensemble": "before-fsync:15",
    "dpo": "before-fsync:3",
    "kto": "after-rename:6",
    "ppo": "after-rename:5",
    "grpo": "after-sampling:2",
    "safe-ppo": "after-sampling:3",
    "ppo_trunk": "after-rename:5",
    "ppo_full": "after-sampling:3",
    "critique": "after-calls:6",
    "label": "after-calls:2",
}
"""The one of them that every run of the suite tries: in a checkpoint, after it, in the cache, after a rollout."""


def quick_if(quick, *values):
    """A case of every run, or of the slow ones."""
    return pytest.param(*values, marks=[] if quick else pytest.mark.slow)


AT_ROW = """
import os, signal
from baro.rows import JsonLines
append = JsonLines.append
def append_and_die(self, row):
    append(self, row)
    if self.path.name == "metrics.jsonl" and len(self.read()) == {row}:
        os.kill(os.getpid(), signal.{signal})
JsonLines.append = append_and_die
"""


@pytest.fixture(scope="module")
def command(project):
    """The arguments of a method's run, the same but for where it goes."""
    (project / "kind.yaml").write_text(PRINCIPLES)
    (project / "rules_of_kill.py").write_text(RULES)
    rows = [
        {"prompt": prompt, "responses": [f"It is {word}.", word]} for prompt, word in zip(PROMPTS, WORDS, strict=True)
    ]
    write_rows(project / "answered.jsonl", rows)
    template = Template.load(project / "base")
    shape = Architecture(hidden_size=16, layers=2, heads=2, max_positions=768, intermediate_size=24)
    save_policy(new_policy(shape, vocabulary=template.vocabulary, special=template.special, seed=0), project / "wide")
    template.save(project / "wide")
    for verb, text in (*CONFIGS.items(), ("pipeline", PIPELINE)):
        (project / f"{verb}.yaml").write_text(text)
    verbs = {"pipeline": "run", "ensemble": "reward", "reward_lora": "reward", "ppo_full": "ppo", "ppo_trunk": "ppo"}
    config = {"label": ["--config"]}  # whose first argument is what it labels
    return lambda method, out: [verbs.get(method, method), *config.get(method, []), f"{method}.yaml", "--out", out]


class References:
    """Undisturbed runs, each made when it is first asked for; ``seconds`` is how long the training of each took."""

    def __init__(self, baro, project, command):
        self.baro, self.project, self.command, self.seconds = baro, project, command, {}

    def __call__(self, method):
        path = self.project / "reference" / method
        if method.startswith("ppo"):
            self("reward_lora" if method == "ppo_trunk" else "reward")
        if not path.exists():
            running = self.baro.start(*self.command(method, f"reference/{method}"), env=cache(f"reference/{method}"))
            first_row(path)
            started = time.monotonic()
            said = running.wait()
            assert said.code == 0, said.err
            self.seconds[method] = time.monotonic() - started
        return path


@pytest.fixture(scope="module")
def reference(baro, project, command):
    return References(baro, project, command)


@pytest.fixture
def finished_like(baro, project, command, reference):
    """Run the same command again, and compare all that is there with the undisturbed run."""

    def check(method, out):
        said = baro(*command(method, out), env=cache(out))
        assert said.code == 0, said.err
        assert said.out == f"{out}\n"
        assert_same(project / out, reference(method))

    return check


def cache(out):
    """A cache of its own for each run, so that none finds what another has computed."""
    return {"BARO_CACHE": f"{out}-cache"}


def first_row(run, seconds=600.0):
    """Wait until training has begun, or until the first calls were answered."""
    deadline = time.monotonic() + seconds
    begun = [f"{inner}metrics.jsonl" for inner in ("", "*/", "*/*/")] + ["calls.jsonl"]
    while not any(list(run.glob(one)) for one in begun):
        assert time.monotonic() < deadline, f"{run}: no metrics after {seconds} s"
        time.sleep(0.001)


def assert_same(run, other):
    found, expected = content(run), content(other)
    assert sorted(found) == sorted(expected)
    for name, value in found.items():
        assert value == expected[name], name


def content(run):
    """What a run directory holds, by file, without what differs from one run to the next by intent."""
    own_path = f"{run.parent.name}/{run.name}".encode()
    return {
        str(file.relative_to(run)): timeless(file.name, file.read_bytes().replace(own_path, b"OUT"))
        for file in sorted(run.rglob("*"))
        if file.is_file() and file.name != "run.lock"
    }


def timeless(name, value):
    if name == "metrics.jsonl":
        rows = [json.loads(line) for line in value.splitlines()]
        return [{key: figure for key, figure in row.items() if not key.startswith("perf/")} for row in rows]
    if name == "run.json":
        known = json.loads(value)
        about_times = ("started", "finished", *(["inputs"] if known["verb"] == "report" else []))
        return {key: part for key, part in known.items() if key not in about_times}
    if name == "report.json":
        return [figure for figure in json.loads(value)["figures"] if not figure["name"].startswith("perf/")]
    if name == "state.json":
        return {key: part for key, part in json.loads(value).items() if key != "offsets"}
    return "" if name in ("checkpoint.json", "report.html") else value


def newest(run):
    """The step of the newest checkpoint, of an ensemble of the member in hand."""
    members = sorted(run.glob("members/*")) or [run]
    steps = sorted(int(folder.name.removeprefix("step-")) for folder in members[-1].glob("checkpoints/step-*"))
    return steps[-1] if steps else None


def metrics_of(run):
    """The rows so far, of an ensemble of its first member."""
    path = run / "members/0/metrics.jsonl" if (run / "members").exists() else run / "metrics.jsonl"
    return path.read_text().splitlines()


# ---------------------------------------------------------------------------------------------------- SIGKILL


@pytest.mark.parametrize(
    ("method", "fault"),
    [quick_if(fault == QUICK[method], method, fault) for method in KILLS for fault in KILLS[method]],
)
def test_killed_at_a_fault_point(baro, project, command, reference, finished_like, method, fault):
    reference(method)
    out = f"killed/{method}-{fault}"
    said = baro(*command(method, out), env={"BARO_FAULT": fault, **cache(out)})
    assert said.code == -signal.SIGKILL
    assert newest(project / out) == KILLS[method][fault]
    finished_like(method, out)


def asked(project):
    """How often the critic was asked since this was asked before."""
    log = project / "asked.log"
    count = len(log.read_text().splitlines()) if log.exists() else 0
    log.unlink(missing_ok=True)
    return count


@pytest.mark.parametrize("fault", ["after-calls:3", quick_if(False, "after-calls:7")])
def test_a_killed_critique_repeats_at_most_the_calls_in_flight(baro, project, command, reference, finished_like, fault):
    reference("critique")
    asked(project)
    out = f"killed/critique-count-{fault}"
    assert baro(*command("critique", out), env={"BARO_FAULT": fault, **cache(out)}).code == -signal.SIGKILL
    before = asked(project)
    finished_like("critique", out)
    assert 0 < before + asked(project) - len(PROMPTS) * 2 <= 3


ON_A_SERVER = """
constitution: kind.yaml
answers: answered.jsonl
critic: {server: {base_url: "URL", model: there, concurrency: 2}}
reviser: {server: {base_url: "URL", model: there, concurrency: 2}}
rounds: 2
"""


@pytest.mark.parametrize("after", [5, quick_if(False, 23), quick_if(False, 50)])
def test_a_critique_on_a_server_repeats_at_most_the_calls_in_flight(baro, project, command, after):
    """Sixteen answers, two rounds: 64 calls, two at a time."""

    def respond(body, number):
        time.sleep(0.03)
        return answer(f"{len(body['messages'])} {len(body['messages'][-1]['content'])} {body['seed'] % 97}.")

    with serving(respond) as server:
        (project / "server.yaml").write_text(ON_A_SERVER.replace("URL", server.url))
        first, second = (["critique", "server.yaml", "--out", f"killed/server-{after}-{i}"] for i in range(2))
        assert baro(*first).code == 0
        assert len(server.bodies) == 64
        running = baro.start(*second)
        while len(server.bodies) < 64 + after:
            time.sleep(0.005)
        os.kill(running.pid, signal.SIGKILL)
        assert running.wait().code == -signal.SIGKILL
        said = baro(*second)
        assert said.code == 0, said.err
    assert len(server.bodies) - 128 <= 2
    for name in ("records.jsonl", "steps.jsonl", "calls.jsonl", "figures.json"):
        one, other = (project / f"killed/server-{after}-{i}" / name for i in range(2))
        assert one.read_bytes() == other.read_bytes(), name


MOMENTS = [
    quick_if(i == 0 and method in ("sft", "ppo"), method, round(random.Random(f"{method} {i}").random(), 3))
    for method in KILLS
    for i in range(10)
]


@pytest.mark.parametrize(("method", "moment"), MOMENTS)
def test_killed_at_a_random_moment_of_training(baro, project, command, reference, finished_like, method, moment):
    reference(method)
    for attempt in count():
        out = f"killed/{method}-{moment}-{attempt}"
        running = baro.start(*command(method, out), env=cache(out))
        first_row(project / out)
        time.sleep(moment * reference.seconds[method] / 2**attempt)  # earlier, if it was done before
        os.kill(running.pid, signal.SIGKILL)
        killed = running.wait().code == -signal.SIGKILL
        if killed:
            break
    assert killed
    finished_like(method, out)


@pytest.mark.parametrize("method", [quick_if(method in ("sft", "ppo"), method) for method in TRAINED])
def test_killed_between_a_row_and_its_checkpoint(baro, project, command, reference, finished_like, method):
    reference(method)
    out = f"killed/{method}-row"
    said = baro(*command(method, out), first=AT_ROW.format(row=7, signal="SIGKILL"), env=cache(out))
    assert said.code == -signal.SIGKILL
    assert len(metrics_of(project / out)) == 7
    finished_like(method, out)


@pytest.mark.parametrize("method", ["sft", pytest.param("ppo", marks=pytest.mark.slow)])
def test_killed_again_and_again(baro, project, command, finished_like, method):
    out = f"killed/{method}-again"
    for fault in ("before-fsync:4", "between-files:2", "before-fsync:1", "after-rename:3"):
        assert baro(*command(method, out), env={"BARO_FAULT": fault, **cache(out)}).code == -signal.SIGKILL
    finished_like(method, out)


@pytest.mark.slow
def test_killed_and_gone_on_in_new_interpreters(baro, project, command, finished_like):
    """The forks of the other tests are no special case."""
    out = "killed/interpreters"
    program = [sys.executable, "-c", "from baro.cli import main; main()", *command("ppo", out)]
    environment = {**os.environ, **cache(out), "OMP_NUM_THREADS": "1", "BARO_FAULT": "after-rename:7"}
    killed = subprocess.run(program, cwd=project, env=environment, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    environment["BARO_FAULT"] = "after-sampling:2"
    assert subprocess.run(program, cwd=project, env=environment, capture_output=True, check=False).returncode == 0
    finished_like("ppo", out)


def test_a_pipeline_killed_in_every_stage(baro, project, command, reference, finished_like):
    reference("pipeline")
    stages, out = ["sft", "answers", "pairs", "reward", "report"], "killed/pipeline"
    for stage, fault in zip(stages, (4, 8, 7, 8, 9), strict=True):
        said = baro(*command("pipeline", out), env={"BARO_FAULT": f"before-fsync:{fault}", **cache(out)})
        assert said.code == -signal.SIGKILL, said.err
        statuses = {name: status(project / out / name) for name in stages}
        before, after = stages[: stages.index(stage)], stages[stages.index(stage) + 1 :]
        assert statuses == {**dict.fromkeys(before, "finished"), stage: "running", **dict.fromkeys(after)}
    finished_like("pipeline", out)
    said = baro(*command("pipeline", out), env=cache(out))
    assert (said.code, said.out) == (0, f"{out}\n")
    assert "all 5 stages are finished; there was nothing to do\n" in said.err


def status(run):
    return json.loads((run / "run.json").read_text())["status"] if (run / "run.json").exists() else None


# ---------------------------------------------------------------------------------------------------- SIGTERM


@pytest.mark.parametrize("method", [quick_if(method in ("sft", "ppo"), method) for method in TRAINED])
def test_sigterm_saves_the_step_in_hand_and_exits_with_143(baro, project, command, reference, finished_like, method):
    reference(method)
    out = f"killed/{method}-term"
    said = baro(*command(method, out), first=AT_ROW.format(row=5, signal="SIGTERM"), env=cache(out))
    assert said.code == 143
    assert "Traceback" not in said.err
    last = json.loads(metrics_of(project / out)[-1])
    assert newest(project / out) == last["step"]
    finished_like(method, out)


SLOW = """
import os, signal, time
from {module} import {owner}
work, calls = {owner}.{name}, []
def slow(self, *arguments, **options):
    calls.append(1)
    if len(calls) == {call}:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(600)
    return work(self, *arguments, **options)
{owner}.{name} = slow
"""


@pytest.mark.parametrize(
    ("method", "slow", "call", "left"),
    [
        ("ppo", ("baro.rollout.engine", "Engine", "generate"), 1, None),
        ("ppo", ("baro.rollout.engine", "Engine", "generate"), 2, 4),  # between the checkpoints of steps 3 and 6
        ("ppo", ("baro.rewards.function", "FunctionReward", "start_scoring"), 3, 8),
        ("ppo", ("baro.methods.shaping", "KlControl", "steer"), 2, 4),  # its coefficient is about to move
        ("ppo", ("baro.runs", "RunDir", "sync"), 1, 3),  # while saving: the step is whole, and it is saved once
        # between two evaluations: the calls before are of steps 1 to 3, and of the held-out rows at steps 0 and 2
        ("kto", ("baro.methods.kto", "Prepare", "__call__"), 6, 3),
        # before step 1; the first call is the check's
        ("dpo", ("baro.methods.reference", "ReferenceLogprobs", "_compute"), 2, None),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else None,
)
def test_sigterm_while_the_source_is_asked_is_honoured_at_once(
    baro, project, command, reference, finished_like, method, slow, call, left
):
    reference(method)
    out = f"killed/{method}-{slow[-1]}-{call}-term"
    module, owner, name = slow
    first = SLOW.format(module=module, owner=owner, name=name, call=call)
    started = time.monotonic()
    said = baro(*command(method, out), first=first.replace("600", "3" if name == "sync" else "600"), env=cache(out))
    assert said.code == 143, said.err
    assert "Traceback" not in said.err
    assert time.monotonic() - started < 500
    assert newest(project / out) == left
    finished_like(method, out)


# ---------------------------------------------------------------------------------------------------- other ends

FULL_DISK = {
    "checkpoints/step-000004": """
import errno, baro.checkpoints as module
name, error, allowed = "write_tensors", OSError(errno.ENOSPC, "No space left on device"), 3
""",
    "model": """
import safetensors, transformers.modeling_utils as module
name, allowed = "safe_save_file", 0
error = safetensors.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
""",
}
REFUSE = """
write, written = getattr(module, name), []
def refuse(*arguments, **options):
    written.append(1)
    if len(written) > allowed:
        raise error
    return write(*arguments, **options)
setattr(module, name, refuse)
"""


@pytest.mark.parametrize(("where", "left"), [("checkpoints/step-000004", 2), ("model", 8)])
def test_a_full_disk_leaves_the_last_checkpoint(baro, project, command, finished_like, where, left):
    out = f"killed/full-{left}"
    said = baro(*command("sft", out), first=FULL_DISK[where] + REFUSE, env=cache(out))
    assert said.code == 1
    assert said.errors == (
        f"{out}/{where}: cannot be saved because the disk is full; the last checkpoint is intact: free some space and"
        " run the same command again"
    )
    assert newest(project / out) == left
    assert not list((project / out).rglob("*.partial"))
    finished_like("sft", out)


def test_a_finished_run_is_printed_and_not_touched(baro, project, command, reference):
    path = reference("sft")
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in path.rglob("*") if file.is_file()}
    said = baro(*command("sft", "reference/sft"))
    assert (said.code, said.out) == (0, "reference/sft\n")
    assert said.err == "reference/sft: finished already, nothing to do\n"
    after = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in path.rglob("*") if file.is_file()}
    changed = [file.name for file in before.keys() | after.keys() if before.get(file) != after.get(file)]
    assert changed in ([], ["run.lock"])


def test_config_or_data_changed_before_a_resume(baro, project, command):
    shutil.copy(project / "demonstrations.jsonl", project / "changing.jsonl")
    out, file = "killed/changed", ["--set", "demonstrations=changing.jsonl"]
    assert baro(*command("sft", out), *file, env={"BARO_FAULT": "after-rename:4"}).code == -signal.SIGKILL
    start, way_out = f"{out}: this run was started with", "go back to that, or choose another --out"

    said = baro(*command("sft", out), *file, "--set", "trainer.learning_rate=0.5")
    assert (said.code, said.errors) == (2, f"{start} trainer.learning_rate 0.01 (now 0.5); {way_out}")

    before = (project / "changing.jsonl").read_bytes()
    after = before.replace(b"pink", b"rose")
    (project / "changing.jsonl").write_bytes(after)
    said = baro(*command("sft", out), *file)
    was, now = (hashlib.sha256(content).hexdigest()[:16] for content in (before, after))
    assert (said.code, said.errors) == (2, f'{start} input demonstrations "{was}" (now "{now}"); {way_out}')

    (project / "changing.jsonl").write_bytes(before)
    assert baro(*command("sft", out), *file).code == 0


OTHER_TORCH = """
import baro.runs
version = baro.runs.version
baro.runs.version = lambda package: "2.0.0" if package == "torch" else version(package)
"""


@pytest.mark.parametrize("method", ["sft", "pipeline"])
def test_another_environment_is_refused_unless_allowed(baro, project, command, method):
    out = f"killed/{method}-environment"
    assert baro(*command(method, out), env={"BARO_FAULT": "after-rename:4"}).code == -signal.SIGKILL
    said = baro(*command(method, out), first=OTHER_TORCH)
    start = {"sft": out, "pipeline": f"sft: {out}/sft"}[method]
    assert (said.code, said.errors) == (
        2,
        f'{start}: this run was started with torch "{version("torch")}" (now "2.0.0"), so it would not go on bit for'
        " bit; go back to that, or pass --allow-environment-change",
    )
    said = baro(*command(method, out), "--allow-environment-change", first=OTHER_TORCH)
    assert said.code == 0, said.err
    known = json.loads((project / out / ("" if method == "sft" else "sft") / "run.json").read_text())
    assert known["environment"]["torch"] == "2.0.0"
    assert known["earlier_environments"][0]["torch"] == version("torch")
