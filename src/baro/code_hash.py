"""The code behind ``module:NAME``, as a hash: its module and the user's own modules that this one imports.

Read from the source files, not from what is loaded: nothing is run, and what a function imports when it is called
counts too. The user's own modules are those in the folder of the module or in the working directory. Installed packages
(also Baro) count by version; run.json has those that matter. Not seen: imports by a string (``importlib``), and files
that the code reads.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import site
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from baro.errors import ConfigError

_HERE = Path(__file__).resolve().parent


def hash_module(name: str) -> str | None:
    """64 hex digits; None for a module without a source file (built in, or made while the program runs)."""
    first = _source(name)
    if first is None:
        return None
    roots = {_root(name, first), Path.cwd().resolve()}
    found, pending = {first}, [(name, first)]
    while pending:
        for other in _imports(*pending.pop()):
            path = _source(other)
            if path is not None and path not in found and _is_own(path, roots):
                found.add(path)
                pending.append((other, path))
    return hash_files(found)


def hash_files(paths: set[Path]) -> str:
    """One hash of some files' names and contents."""
    lines = sorted(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _source(name: str) -> Path | None:
    """The source file of a module, without importing it."""
    loaded = getattr(sys.modules.get(name), "__file__", None)
    if loaded is not None:
        return Path(loaded).resolve()
    top, *rest = name.split(".")
    try:
        found = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # a module without a spec, as those that tests make
        return None
    if found is None:
        return None
    if not rest:
        return Path(found.origin).resolve() if found.has_location and found.origin else None
    places = [Path(place).joinpath(*rest) for place in found.submodule_search_locations or ()]
    files = [file for place in places for file in (place.with_name(f"{place.name}.py"), place / "__init__.py")]
    return next((file.resolve() for file in files if file.is_file()), None)


def _root(name: str, path: Path) -> Path:
    """The folder from which a module is imported."""
    depth = name.count(".") + (path.name == "__init__.py")
    return path.parents[depth]


def _is_own(path: Path, roots: set[Path]) -> bool:
    libraries = [sysconfig.get_path(which) for which in ("stdlib", "platstdlib", "purelib", "platlib")]
    installed = [_HERE, *map(Path, (*libraries, *site.getsitepackages(), site.getusersitepackages()))]
    if any(path.is_relative_to(one.resolve()) for one in installed):
        return False
    return any(path.is_relative_to(root) for root in roots)


def _imports(name: str, path: Path) -> Iterator[str]:
    """Every module that a source file may import, its packages included."""
    if path.suffix != ".py":
        return
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise ConfigError(f"{path}:{error.lineno}: is no valid Python ({error.msg}); fix it") from None
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_packages(alias.name)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            for alias in node.names:
                yield from _with_packages(f"{base}.{alias.name}" if base else alias.name)


def _with_packages(name: str) -> Iterator[str]:
    parts = name.split(".")
    yield from (".".join(parts[: n + 1]) for n in range(len(parts)))
