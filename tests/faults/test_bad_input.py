"""Input that is wrong: one sentence that says which file and line, what, and what to do; exit code 2; no traceback."""

import json
import re
import shutil
from itertools import count

import pytest

from baro.data.template import Template

number = count()


@pytest.fixture
def refused(baro):
    """Run a command, and return the sentence with which it is refused."""

    def run(*arguments):
        said = baro(*arguments, "--out", f"bad/{next(number)}")
        assert (said.code, said.out) == (2, ""), said.err
        assert "Traceback" not in said.err
        return said.errors

    return run


def given(**settings):
    """Settings as flags; a double underscore stands for the dot."""
    return [word for key, value in settings.items() for word in ("--set", f"{key.replace('__', '.')}={value}")]


def sft(**changes):
    settings = {"policy": "base", "demonstrations": "demonstrations.jsonl", "trainer__steps": 1}
    return ["sft", *given(**settings | changes)]


def cost(preferences, **changes):
    return ["cost", *given(model="base", preferences=preferences, trainer__steps=1, **changes)]


def dpo(preferences, **changes):
    return ["dpo", *given(policy="base", preferences=preferences, trainer__steps=1, **changes)]


def kto(thumbs, **changes):
    return ["kto", *given(policy="base", thumbs=thumbs, trainer__steps=1, **changes)]


def ppo(**changes):
    settings = {"policy": "base", "prompts": "prompts.jsonl", "trainer__steps": 1, "sampling__max_new_tokens": 4}
    rollout = {"rollout__prompts": 2, "rollout__epochs": 1, "rollout__minibatches": 1}
    return ["ppo", *given(**settings | rollout | changes)]


def grpo(**changes):
    settings = {"policy": "base", "prompts": "prompts.jsonl", "trainer__steps": 1, "sampling__max_new_tokens": 4}
    return ["grpo", *given(**settings | {"rollout__prompts": 2, "rollout__completions": 2} | changes)]


def write(project, name, text):
    (project / name).write_bytes(text if isinstance(text, bytes) else text.encode())


def rows(items):
    return "".join(json.dumps(item) + "\n" for item in items)


# ---------------------------------------------------------------------------------------------------- files

ROWS = [{"prompt": f"Say {i}.", "completion": f"{i}"} for i in range(1, 501)]
LINES = rows(ROWS).splitlines(keepends=True)
FILES = {
    "broken.jsonl": (
        "".join([*LINES[:411], '{"prompt": "Say 412.", "completion": 412"}\n', *LINES[412:]]),
        "broken.jsonl:412: broken JSON at column 41 (Expecting ',' delimiter); fix or remove this line",
    ),
    "half.jsonl": (
        "".join(LINES)[:-4],
        "half.jsonl:500: broken JSON at column 38 (Unterminated string starting at); fix or remove this line",
    ),
    "column.jsonl": (
        rows([*ROWS[:2], {"prompt": "Say 3.", "completoin": "3"}]),
        "column.jsonl:3: column 'completion' is missing, which the first rows have; did you mean 'completoin'?",
    ),
    "layout.jsonl": (
        rows([{"topic": "Say 1.", "completion": "1"}]),
        "layout.jsonl:1: no known layout has the columns 'topic', 'completion'; give one of prompt/chosen/rejected, "
        "messages/chosen/rejected, conversations/chosen/rejected, chosen/rejected, "
        "prompt/response_0/response_1/better_response_id, prompt/responses/ranks, prompt/ranking, "
        "prompt/responses/scores, prompt/responses/ratings, prompt/completion/label, prompt/completion, messages, "
        "conversations, prompt/answer, text",
    ),
    "kind.jsonl": (
        rows([*ROWS[:2], {"prompt": "Say 3.", "completion": 3}]),
        "kind.jsonl:3: column 'completion' is a number; text or a list of messages is needed",
    ),
    "list.jsonl": (rows(["Say 1."]), "list.jsonl:1: is text; a row is an object with named columns"),
    "empty.jsonl": ("", "empty.jsonl:1: is empty; give a file with one JSON object in each line"),
    "blank.jsonl": ("\n\n", "blank.jsonl:1: is empty; give a file with one JSON object in each line"),
    "picture.jsonl": (
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        "picture.jsonl:1: is a binary file; give JSON Lines",
    ),
    "latin.jsonl": (
        '{"prompt": "Say café.", "completion": "café"}\n'.encode("latin-1"),
        "latin.jsonl:1: byte 20 of the line (0xe9) is not UTF-8; it looks like cp1252 (Western Excel): save it as "
        "UTF-8 (Excel: CSV UTF-8), or give --encoding cp1252 (`data.encoding: cp1252` in a config)",
    ),
    "cut.jsonl.gz": (
        b"\x1f\x8b\x08\0\0\0\0\0",
        "cut.jsonl.gz: cannot be read (Compressed file ended before the end-of-stream marker was reached); copy it"
        " again",
    ),
    "table.csv": (
        "prompt,completion\n",
        "table.csv:1: is empty; give a file with a line of column names and rows below it",
    ),
    "table.xlsx": (
        "prompt,completion\n",
        "table.xlsx: its type is unknown; give one of .jsonl, .json, .csv, .tsv, .parquet, .arrow, or one with .gz",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_unreadable_files(project, refused, name):
    text, sentence = FILES[name]
    write(project, name, text)
    assert refused(*sft(demonstrations=name)) == sentence


def test_every_verb_says_it(project, refused):
    write(project, "every.jsonl", '{"prompt": "Say')
    sentence = "every.jsonl:1: broken JSON at column 12 (Unterminated string starting at); fix or remove this line"
    write(project, "judge.py", "def score(prompts, completions, **columns):\n    return [0.0 for _ in completions]\n")
    for arguments in (
        ["base", *given(text="every.jsonl")],
        ["reward", *given(model="base", preferences="every.jsonl")],
        cost("every.jsonl"),
        dpo("every.jsonl"),
        kto("every.jsonl"),
        ppo(prompts="every.jsonl", rewards="[{by: judge:score}]"),
        grpo(prompts="every.jsonl", rewards="[{by: judge:score}]"),
        ["generate", "base", "--prompts", "every.jsonl"],
        ["label", "every.jsonl", "--by", "judge:score"],
        ["verify", "every.jsonl", "--verifier", "gsm8k"],
        ["data", "split", "every.jsonl", "--hold-out", 1],
    ):
        assert refused(*arguments) == sentence


JUDGED = {"prompt": "Say 1.", "response_0": "1", "response_1": "2", "is_response_0_safe": True}
JUDGED |= {"is_response_1_safe": False, "safer_response_id": 0}
SAFETY = {
    "nobody.jsonl": (
        [JUDGED | {"is_response_0_safe": None, "is_response_1_safe": None}],
        "nobody.jsonl: no answer is labelled safe or unsafe, and costs would have no zero; add labels, or train `baro "
        "reward` on these comparisons",
    ),
    "against.jsonl": (
        [JUDGED | {"safer_response_id": 1}],
        "against.jsonl: 1 of 1 rows cannot be used (1 contradiction), none is left; fix them, or raise data.max_length "
        "or data.max_dropped_fraction. The first:\n  against.jsonl:1: the response that is called safer is labelled "
        "unsafe, and the other one safe",
    ),
    "third.jsonl": (
        [JUDGED, JUDGED | {"safer_response_id": 2}],
        "third.jsonl:2: 'safer_response_id' is 2; 0 or 1 is needed",
    ),
    "weighed.jsonl": (
        [JUDGED | {"weight": 3}],
        "weighed.jsonl:1: column 'weight' judges the row (3), and nothing obeys it here; name it in data.ignore to "
        "leave it aside, or in data.criteria if it is a score of which more is better",
    ),
    "pairs_of_cost.jsonl": (
        [{"prompt": "Say 1.", "chosen": "1", "rejected": "2"}],
        "pairs_of_cost.jsonl:1: columns 'prompt', 'chosen', 'rejected' are preferences, and safety judgments are "
        "needed: prompt/response_0/response_1/is_response_0_safe/is_response_1_safe, prompt/responses/unsafe, "
        "prompt/completion/unsafe",
    ),
}


@pytest.mark.parametrize("name", SAFETY)
def test_what_a_cost_model_cannot_be_made_of(project, refused, name):
    judged, sentence = SAFETY[name]
    write(project, name, rows(judged))
    assert refused(*cost(name)) == sentence


SUMS = [{"question": f"{i} + 1?", "answer": f"#### {i + 1}"} for i in range(1, 9)]
VERIFIED = {
    "[{verifier: gsm}]": (
        "--set rewards=[{verifier: gsm}]: 'rewards.0.verifier': the text 'gsm' names no verifier; did you mean 'gsm8k'?"
    ),
    "[{verifier: {name: format, pattern: (a}}]": (
        "--set rewards=[{verifier: {name: format, pattern: (a}}]: 'rewards.0.verifier.pattern': the text '(a' is no "
        "regular expression (missing ) at position 2); mend it"
    ),
    "[{verifier: gsm8k, by: judge:score}]": (
        "--set rewards=[{verifier: gsm8k, by: judge:score}]: 'rewards.0': give either by (a reward run or a function) "
        "or verifier (the name of one), or rubric (a chat model that scores), or judge (one who compares answers)"
    ),
    "[{verifier: {name: gsm8k, answer: gold}}]": (
        "sums.jsonl:1: gsm8k: the row has no column 'gold' that says what is right (its columns: answer), and so 8 of "
        "8 rows; name the right column with answer: NAME, or mend these rows"
    ),
    "[{verifier: choice}]": (
        "sums.jsonl:1: choice: the row's answer is '#### 2', which names none of 5 choices, and so 8 of 8 rows; name "
        "the right column with answer: NAME, or mend these rows"
    ),
}


@pytest.mark.parametrize("rewards", VERIFIED)
@pytest.mark.parametrize("verb", ["ppo", "grpo"])
def test_verifiers_that_are_none_or_do_not_fit_their_rows(project, refused, verb, rewards):
    write(project, "sums.jsonl", rows(SUMS))
    arguments = ppo(prompts="sums.jsonl", rewards=rewards, rollout__completions=2)
    assert refused(verb, *arguments[1:]) == VERIFIED[rewards]


PAIRS = [{"prompt": f"Say {i}.", "chosen": "yes", "rejected": "yes" if i > 8 else "no"} for i in range(1, 11)]
SAID = [{"prompt": f"Say {i}.", "completion": f"{i}", "label": i % 2 == 0} for i in range(1, 13)]
THUMBS = {
    "up": (
        [row | {"label": True} for row in SAID],
        "up.jsonl: all 12 thumbs are up; kto learns from how the two kinds differ, so add some of the other",
    ),
    "uneven": (
        [row | {"label": row["prompt"] == "Say 5."} for row in SAID],
        "uneven.jsonl: 1 thumbs up and 11 down are more than 10 to one; leave out rows of the commoner kind, or add"
        " some of the rarer",
    ),
    "alone": (
        [row | {"prompt": "Say it."} for row in SAID],
        "alone.jsonl:1: no other row has another prompt and another completion that fits behind this prompt into 96"
        " tokens; KTO's z needs one: add rows, or take loss apo_zero_unpaired",
    ),
    "word": (
        [*SAID[:3], SAID[3] | {"label": "maybe"}],
        "word.jsonl:4: column 'label' is 'maybe'; a thumb is true or 1 (up), false or 0 (down)",
    ),
    "rated": (
        [{"prompt": row["prompt"], "completion": row["completion"]} for row in SAID],
        "rated.jsonl:1: columns 'prompt', 'completion' are demonstrations, and thumbs or preferences or rankings are"
        " needed",
    ),
}


@pytest.mark.parametrize("name", THUMBS)
def test_thumbs_that_kto_cannot_learn_from(project, refused, name):
    given_rows, sentence = THUMBS[name]
    write(project, f"{name}.jsonl", rows(given_rows))
    said = refused(*kto(f"{name}.jsonl"))
    assert said.startswith(sentence), said
    assert "\n" not in said


LONG = [{"prompt": "Say it. " * (40 if i == 3 else 1) + str(i)} for i in range(1, 6)]


def test_more_unusable_rows_than_allowed(project, refused, baro):
    write(project, "equal.jsonl", rows(PAIRS))
    write(project, "long.jsonl", rows(LONG))
    reward = ["reward", *given(model="base", preferences="equal.jsonl", trainer__steps=1)]
    for command in (dpo("equal.jsonl"), reward):
        assert refused(*command) == (
            "equal.jsonl: 2 of 10 rows cannot be used (2 equal pair), more than max_dropped_fraction 0.01 allows; fix"
            " them, or raise data.max_length or data.max_dropped_fraction. The first:\n"
            "  equal.jsonl:9: 'chosen' equals 'rejected'; a pair needs two different completions\n"
            "  equal.jsonl:10: 'chosen' equals 'rejected'; a pair needs two different completions"
        )
    short = given(data__max_length=40, sampling__max_new_tokens=4)
    online = [one(prompts="long.jsonl", reward_model="base") for one in (ppo, grpo)]
    for command in (["generate", "base", "--prompts", "long.jsonl"], *online):
        assert refused(*command, *short) == (
            "long.jsonl: 1 of 5 rows cannot be used (1 prompt too long), more than max_dropped_fraction 0.01 allows;"
            " fix them, or raise data.max_length or data.max_dropped_fraction. The first:\n"
            "  long.jsonl:3: the prompt has 331 tokens, and max_length is 36"
        )
    said = baro(*dpo("equal.jsonl"), "--out", "bad/allowed", *given(data__max_dropped_fraction=0.2))
    assert (said.code, said.out) == (0, "bad/allowed\n"), said.err


def test_a_mended_file_goes_on_in_the_same_directory(project, baro):
    write(project, "mended.jsonl", rows([*ROWS[:8], {"prompt": "Say 9."}]))
    command = [*sft(demonstrations="mended.jsonl"), "--out", "bad/mended"]
    assert baro(*command).errors == (
        "mended.jsonl:9: column 'completion' is missing, which the first rows have; it has 'prompt'"
    )
    write(project, "mended.jsonl", rows(ROWS[:9]))
    said = baro(*command)
    assert (said.code, said.out) == (0, "bad/mended\n"), said.err


# ---------------------------------------------------------------------------------------------------- principles

ONE = "language: en\nprinciples:\n  - name: kind\n    principle: {en: Be kind.}\n"
PRINCIPLES = {
    "light": (f"{ONE}    weight: 0\n", "light.yaml:5: 'principles.0.weight' must be greater than 0, not 0"),
    "typed": (
        f"{ONE}    wieght: 2\n",
        "typed.yaml:5: unknown key 'principles.0.wieght'; did you mean 'principles.0.weight'?",
    ),
    "korean": (
        ONE.replace("language: en", "language: ko"),
        "korean.yaml: principles.0.principle has no text in ko, and language is ko; add ko, or set language to what all"
        " texts have",
    ),
    "broken": (
        "principles: [",
        "broken.yaml:1: this is not valid YAML (while parsing a flow node, expected the node content, but found"
        " '<stream end>'); check indentation, colons and quotes",
    ),
    "missing": (
        None,
        "missing.yaml: no constitution; give the path of a YAML file, or one that comes with Baro: general, medical",
    ),
}


@pytest.mark.parametrize("name", PRINCIPLES)
def test_constitutions_that_are_none(project, refused, name):
    text, sentence = PRINCIPLES[name]
    if text is not None:
        write(project, f"{name}.yaml", text)
    by = given(constitution=f"{name}.yaml")
    assert refused("critique", *by, *given(policy="base", prompts="prompts.jsonl")) == sentence
    labelled = ["label", "preferences.jsonl", "--by", f"{name}.yaml", *given(labeller="{model: base}")]
    assert refused(*labelled) == sentence
    if name == "light":
        steps = {"c": {"do": "critique", "constitution": "light.yaml", "policy": "base", "prompts": "prompts.jsonl"}}
        write(project, "principles.yaml", json.dumps({"stages": steps}))
        assert refused("run", "principles.yaml").endswith(sentence)


def test_answers_that_cannot_be_revised_or_compared(project, refused):
    write(project, "texts.jsonl", rows([{"text": "It is."}]))
    write(project, "turns.jsonl", rows([{"prompt": "a", "chosen": talk("b", "c"), "rejected": talk("d", "e")}]))
    by = given(constitution="general", policy="base")
    assert refused("critique", *by, *given(answers="texts.jsonl")) == (
        "texts.jsonl: 1 of 1 rows cannot be used (1 no prompt), none is left; fix them, or raise data.max_length or "
        "data.max_dropped_fraction. The first:\n"
        "  texts.jsonl:1: has no prompt, and an answer is revised as the answer to something"
    )
    said = refused("label", "turns.jsonl", *given(constitution="general", labeller="{model: base}"))
    assert "turns.jsonl:1: its answers follow different turns, and are answers to different things" in said


def talk(first, second):
    return [
        {"role": "assistant", "content": first},
        {"role": "user", "content": "Go on."},
        {"role": "assistant", "content": second},
    ]


# ---------------------------------------------------------------------------------------------------- configs

CONFIGS = {
    "policy: base\ndemonstrations: demonstrations.jsonl\ntrainer: {learning_rat: 1e-3}\n": (
        "mine.yaml:3: unknown key 'trainer.learning_rat'; did you mean 'trainer.learning_rate'?"
    ),
    "policy: base\ndemonstration: demonstrations.jsonl\n": (
        "mine.yaml:2: unknown key 'demonstration'; did you mean 'demonstrations'?\n"
        "mine.yaml: the key 'demonstrations' is missing (prompts with answers to imitate: a run or a file); add it, or"
        " pass --set demonstrations=VALUE"
    ),
    "policy: base\ndemonstrations: demonstrations.jsonl\ntrainer:\n  steps: many\n": (
        "mine.yaml:4: 'trainer.steps' must be a whole number, not the text 'many'"
    ),
    "policy: [base]\ndemonstrations: demonstrations.jsonl\n": "mine.yaml:1: 'policy' must be text, not a list",
    "policy: base\ndemonstrations: demonstrations.jsonl\n  trainer: {}\n": (
        "mine.yaml:3: this is not valid YAML (mapping values are not allowed here); check indentation, colons and"
        " quotes"
    ),
    "policy: nowhere\ndemonstrations: demonstrations.jsonl\n": (
        "nowhere: no such file or folder; give a run directory, a path, or a hub id"
    ),
    "policy: base\ndemonstrations: demonstration.jsonl\n": (
        "demonstration.jsonl: no such file or folder; give a run directory, a path, or a hub id"
    ),
}


@pytest.mark.parametrize("text", CONFIGS)
def test_configs(project, refused, text):
    write(project, "mine.yaml", text)
    assert refused("sft", "mine.yaml") == CONFIGS[text]


def test_a_pipeline_names_an_unknown_stage(project, refused):
    write(
        project,
        "stages.yaml",
        "stages:\n"
        "  sft: {do: sft, policy: base, demonstrations: demonstrations.jsonl}\n"
        "  answers: {do: generate, policy: stf, prompts: prompts.jsonl}\n",
    )
    assert refused("run", "stages.yaml") == "stages.yaml:3: 'stf' is no stage, file or folder; did you mean 'sft'?"


# ---------------------------------------------------------------------------------------------------- models


def broken_model(project, name):
    """A copy of the base model with something wrong."""
    folder = project / name
    shutil.copytree(project / "base", folder, dirs_exist_ok=True)
    weights = folder / "model.safetensors"
    if name == "empty":
        shutil.rmtree(folder)
        folder.mkdir()
    elif name == "no-tokenizer":
        for file in folder.glob("*token*"):
            file.unlink()
    elif name == "pickled":
        weights.rename(folder / "pytorch_model.bin")
    elif name == "no-weights":
        weights.unlink()
    elif name == "no-config":
        (folder / "config.json").unlink()
    elif name == "cut":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif name == "cut-config":
        (folder / "config.json").write_text('{"model_type": ')
    return name


MODELS = {
    "empty": "empty: the model folder is empty; it needs config.json, *.safetensors and a tokenizer",
    "no-tokenizer": "no-tokenizer: no tokenizer in the folder; put tokenizer.json and tokenizer_config.json there",
    "pickled": "pickled: only pickled weights (pytorch_model.bin), which can run code when loaded; convert them with "
    "save_pretrained(..., safe_serialization=True)",
    "no-weights": "no-weights: no *.safetensors weights in the folder; copy all of it, or save it again",
    "no-config": "no-config: config.json is missing; a model folder is what save_pretrained writes",
    "cut": "cut: the model cannot be loaded (...); save or copy it again",  # a library's own words
    "cut-config": "cut-config: config.json is no JSON (...); copy the folder again",
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("verb", ["sft", "reward"])
def test_model_folders(project, refused, name, verb):
    model = broken_model(project, name)
    reward = ["reward", *given(model=model, preferences="preferences.jsonl")]
    sentence = refused(*(sft(policy=model) if verb == "sft" else reward))
    assert (re.sub(r"\(.+\)", "(...)", sentence) if "cut" in name else sentence) == MODELS[name]


@pytest.fixture(scope="module")
def raw_runs(baro):
    """A policy and a reward model that were trained on raw text."""
    raw = given(data__template="none", trainer__steps=1)
    for arguments in (
        [*sft(data__template="none"), "--out", "raw/sft"],
        ["reward", *given(model="base", preferences="preferences.jsonl"), *raw, "--out", "raw/reward"],
    ):
        said = baro(*arguments)
        assert said.code == 0, said.err


def test_another_template_than_the_run_was_trained_with(project, refused, raw_runs):
    raw, plain = Template.load(project / "raw/sft/model"), Template.load(project / "base")
    assert (raw.kind, plain.kind) == ("none", "plain")
    sentence = (
        f"raw/sft: was trained with another template ({raw.describe()}) than data.template=plain asks for "
        f"({plain.describe()}); leave data.template at auto"
    )
    assert refused(*sft(policy="raw/sft", data__template="plain")) == sentence
    assert refused("generate", "raw/sft", "--prompts", "prompts.jsonl", *given(data__template="plain")) == sentence


def test_a_reward_model_may_have_a_template_of_its_own(baro, raw_runs):
    said = baro(*ppo(reward_model="raw/reward"), "--out", "bad/other-template")
    assert (said.code, said.out) == (0, "bad/other-template\n"), said.err


def test_members_of_an_ensemble_with_mixed_tokenizers(refused, baro, raw_runs):
    settings = given(model="base", preferences="preferences.jsonl", trainer__steps=1)
    assert baro("reward", *settings, "--out", "raw/plain").code == 0
    mixed = ppo(rewards="[{by: [raw/reward, raw/plain], combine: worst}]", accept_weak_reward_model="true")
    assert refused(*mixed) == (
        "raw/reward and raw/plain have different tokenizers or templates, and an ensemble's members share one; make"
        " two rewards of them, or train both from one model"
    )
    one = ppo(rewards="[{by: raw/plain, combine: worst}]")
    assert refused(*one) == (
        "--set rewards=[{by: raw/plain, combine: worst}]: 'rewards.0': combine is for several members, and raw/plain"
        " is one; leave it out, or give a list"
    )


def test_a_run_that_is_not_finished(project, refused, baro):
    baro(*sft(), "--out", "bad/unfinished", env={"BARO_FAULT": "before-fsync:3"})
    way_out = "not finished; run its command again first"
    assert refused(*sft(policy="bad/unfinished")) == f"bad/unfinished: this run is running, {way_out}"
    stopped = project / "bad/unfinished/run.json"
    stopped.write_text(stopped.read_text().replace('"running"', '"stopped"'))
    assert refused(*sft(policy="bad/unfinished")) == f"bad/unfinished: this run is stopped, {way_out}"


def test_a_run_without_what_is_asked_of_it(project, refused, baro, raw_runs):
    assert refused(*sft(demonstrations="raw/sft")) == (
        "raw/sft: this run holds no records.jsonl; name a stage that makes records"
    )
    for online in (ppo, grpo):
        assert refused(*online(reward_model="raw/sft")) == (
            "raw/sft/model: is no reward model (LlamaForCausalLM, and reward_head.json is missing); train one with "
            "`baro reward`"
        )
    (project / "damaged").mkdir()
    write(project, "damaged/run.json", "{")
    assert refused(*sft(policy="damaged")) == (
        "damaged/run.json: is damaged (Expecting property name enclosed in double quotes: line 1 column 2 (char 1));"
        " run its stage again with another --out"
    )


@pytest.mark.parametrize("verb", [dpo("preferences.jsonl"), kto("thumbs.jsonl")], ids=["dpo", "kto"])
def test_kept_reference_log_probs_that_are_damaged_or_stale(baro, project, verb):
    """Cut short they are no file; those of another model are found where the policy is its own reference."""
    cache = project / "bad" / f"cache-{verb[0]}"
    env = {"BARO_CACHE": f"bad/cache-{verb[0]}"}
    assert baro(*verb, "--out", f"bad/first-{verb[0]}", env=env).code == 0
    whole = {path: path.read_bytes() for path in cache.glob("ref-logprobs-*.state")}
    for path, content in whole.items():
        path.write_bytes(content[:-9])
    said = baro(*verb, "--out", f"bad/cut-{verb[0]}", env=env)
    assert said.code == 2
    assert re.fullmatch(
        r"bad/cache-\w+/ref-logprobs-\w+\.state: is damaged \(.*\); remove it and run the same command again",
        said.errors,
    ), said.errors
    for path, content in whole.items():
        path.write_bytes(content[:-4] + b"\0\0\xc8\xc2")  # the last number is −100
    said = baro(*verb, "--out", f"bad/stale-{verb[0]}", env=env)
    assert said.code == 3
    assert re.search(r"differ by .* nats before the first step, .*, or the cache is stale$", said.errors), said.errors


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"preset": "dapoo"}, "or 'dppo', not the text 'dapoo'; did you mean 'dapo'?"),
        (
            {"rollout__completions": 1},
            "rollout.completions is 1, and advantage.baseline: group compares completions of one prompt; sample two or "
            "more",
        ),
        (
            {"sampler_gate__band": "[2, 3]"},
            "'sampler_gate': band is 2 to 3; it must hold 1, the ratio of an exact sampler, as [0.5, 5]",
        ),
        ({"kl__coef": 0.1, "kl__estimator": "k1"}, "estimator k1 has no gradient in the loss of fresh samples"),
        ({"preset": "cispo", "clip_range": 0.1}, "clip_range is not used by policy_loss: cispo, which has limit"),
        ({"ref_policy": "gone"}, "gone: no such file or folder; give a run directory, a path, or a hub id"),
        ({"rewards": "[{verifier: gsm8q}]"}, "'gsm8q' names no verifier; did you mean 'gsm8k'?"),
        ({"rewards": "[{verifier: gsm8k}]"}, "the row has no column 'answer'"),
    ],
    ids=lambda one: next(iter(one)) if isinstance(one, dict) else "",
)
def test_what_grpo_cannot_do(refused, changes, sentence):
    assert sentence in refused(*grpo(**{"rewards": "[{by: length_reward:short}]"} | changes))


def test_what_cannot_stand_on_one_backbone(project, refused):
    shutil.copytree(project / "base", project / "another")
    function = {"rewards": "[{by: length_reward:short}]"}
    assert refused(*ppo(**function, shared_trunk="true")) == (
        "shared_trunk is about adapters on one backbone, and without lora there are none; give lora, or leave "
        "shared_trunk out"
    )
    assert refused(*ppo(**function, lora__r=2, value_model="another")) == (
        "value_model: another cannot stand on the policy's backbone, since it is no run of `baro reward` or `baro "
        "cost`, which would "
        "say on which base it was trained; leave value_model out, or set shared_trunk: false"
    )
    assert refused(*ppo(**function, lora__r=2, policy="gone")) == (
        "gone: no such file or folder; give a run directory, a path, or a hub id"
    )


@pytest.mark.parametrize(
    "verb",
    [
        sft(),
        dpo("preferences.jsonl"),
        kto("thumbs.jsonl"),
        ppo(rewards="[{by: length_reward:short}]"),
        grpo(rewards="[{by: length_reward:short}]"),
    ],
)
def test_a_launcher_of_several_processes(baro, project, verb):
    out = f"bad/ranks-{verb[0]}"
    said = baro(*verb, "--out", out, env={"WORLD_SIZE": "2"})
    assert (said.code, said.errors) == (
        2,
        "WORLD_SIZE is 2, and a stage trains in one process; start it without a launcher, or give baro.trainer.Trainer"
        " a TorchWorld in a program of your own",
    )
    assert not (project / out).exists()
