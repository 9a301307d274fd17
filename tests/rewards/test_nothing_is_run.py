"""What a model or a file writes is read and never run: no file of Baro's own process can evaluate or unpickle a text.

Programs are run inside the sandbox. The files that do it there are loaded by nothing outside of it.
"""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "baro"
INSIDE = {f"baro.rewards.sandbox_{name}" for name in ("inside", "sides", "math", "walls")}
"""Modules of the processes in the sandbox."""
CALLS = {"eval", "exec", "compile", "execfile", "__import__", "sympify", "parse_expr", "literal_exec"}
"""Built-in functions and sympy's, by which a text is evaluated. ``model.eval()`` is another thing, a method."""
SYMPY = {"sympify", "parse_expr", "parse_latex", "lambdify"}
MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "code", "runpy"} | {
    "sympy", "math_verify", "latex2sympy2_extended", "numexpr", "asteval",
}  # fmt: skip
LOADS = {"torch.load": "weights_only", "np.load": "allow_pickle", "numpy.load": "allow_pickle"}
YAML = {"load", "load_all", "full_load", "unsafe_load", "full_load_all", "unsafe_load_all"}


def module_of(path: Path) -> str:
    return ".".join(("baro", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    named = isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "import_module")
    if named and node.args and isinstance(node.args[0], ast.Constant):
        return [str(node.args[0].value)]
    return []


def found_in(tree: ast.AST):
    """What of a file could run a text, with its line."""
    for node in ast.walk(tree):
        for name in imported(node):
            if name.partition(".")[0] in MODULES or name in INSIDE:
                yield node.lineno, f"imports {name}"
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        last = called.rpartition(".")[2]
        if called in CALLS or called.removeprefix("builtins.") in CALLS or last in SYMPY:
            yield node.lineno, f"calls {called}"
        said = {word.arg: word.value for word in node.keywords}
        if called in LOADS:
            safe = isinstance(said.get(LOADS[called]), ast.Constant) and said[LOADS[called]].value
            if safe is not (called == "torch.load"):
                yield node.lineno, f"calls {called} without {LOADS[called]}"
        if called.startswith("yaml.") and last in YAML and "Loader" not in said and len(node.args) < 2:
            yield node.lineno, f"calls {called}"
        if "shell" in said and not (isinstance(said["shell"], ast.Constant) and said["shell"].value is False):
            yield node.lineno, f"calls {called} with a shell"
        if said.get("trust_remote_code") is not None and ast.unparse(said["trust_remote_code"]) != "False":
            yield node.lineno, f"calls {called} with trust_remote_code"


FILES = [path for path in sorted(SOURCE.rglob("*.py")) if module_of(path) not in INSIDE]


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_no_text_is_run_in_the_parent_process(path):
    assert list(found_in(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize(
    "line",
    [
        "eval(text)", "exec(text)", "builtins.eval(text)", "compile(text, '', 'eval')", "sympy.sympify(text)",
        "from sympy.parsing.sympy_parser import parse_expr", "parse_expr(text)", "import pickle",
        "import a, pickle as p",
        "from pickle import loads", "import_module('math_verify')", "importlib.import_module('dill')", "import marshal",
        "from baro.rewards import sandbox_sides", "import baro.rewards.sandbox_inside", "torch.load(path)",
        "torch.load(path, weights_only=False)", "np.load(path, allow_pickle=True)", "yaml.load(text)",
        "yaml.unsafe_load(text)", "subprocess.run(text, shell=True)", "__import__(text)", "math_verify.parse_expr(x)",
        "AutoModel.from_pretrained(p, trust_remote_code=True)",
    ],
)  # fmt: skip
def test_the_walk_finds_each_of_them(line):
    assert list(found_in(ast.parse(line)))


@pytest.mark.parametrize(
    "line",
    [
        "model.eval()", "re.compile(text)", "torch.load(path, weights_only=True)", "np.load(path)",
        "ast.literal_eval(x)",
        "yaml.load(text, Loader=Safe)", "yaml.safe_load(text)", "Fraction(text)",
        "subprocess.run([text])", "import ast",
    ],
)  # fmt: skip
def test_the_walk_passes_over_what_runs_nothing(line):
    assert not list(found_in(ast.parse(line)))
