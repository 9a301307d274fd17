"""The whole suite: no network; a missing system package is one loud line, and a failure under BARO_REQUIRE."""

import gc
import logging
import os
import shutil
import socket
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NoReturn

# before torch is imported: no hub, and one thread for each of several workers
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import budgets
import pytest

TESTS = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    """The process that reports tells the time of every suite."""
    if not hasattr(config, "workerinput"):
        known = budgets.budgets(budgets.README.read_text(encoding="utf-8"))
        config.pluginmanager.register(budgets.Budgets(known), "budgets")


LONG = (
    *("demo/test_run", "test_examples", "browser/test_manager", "browser/test_trouble", "browser/test_looks"),
    *("test_benchmarks", "feedback/test_store_races", "feedback/test_collect", "test_concepts", "browser/test_slips"),
    *("browser/test_reading", "browser/test_loading", "feedback/test_store_work", "feedback/test_imports_large"),
    *("browser/test_hostile", "faults/test_kill", "browser/test_kept", "feedback/test_migrations", "test_options"),
)
"""Modules that take more than half a minute. They start first, or the last would keep one worker busy alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: at for at, name in enumerate(LONG)}

    def order(item: pytest.Item) -> int:
        return place.get("/".join(item.path.with_suffix("").relative_to(TESTS).parts), len(LONG))

    items.sort(key=order)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and collected stays until the end: no search for garbage walks through it, now or later."""
    gc.disable()
    done = yield
    gc.collect()
    gc.freeze()
    gc.enable()
    return done


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any connection but one to this machine fails at once."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        local = self.family == socket.AF_UNIX or (isinstance(address, tuple) and address[0] in ("127.0.0.1", "::1"))
        if not local:
            raise RuntimeError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session", autouse=True)
def no_wait_for_the_disk() -> Iterator[None]:
    """A file is on its way to the disk and read as it is; only a loss of power, which no test brings, would undo it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)
        yield


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Caches of one test never reach another."""
    monkeypatch.setenv("BARO_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """What one test does to the logger, another does not feel, whichever worker both run on."""
    log = logging.getLogger("baro")
    before = (log.level, log.propagate, log.disabled, list(log.handlers))
    yield
    log.propagate, log.disabled, log.handlers = before[1:]
    log.setLevel(before[0])


@pytest.fixture
def chromium() -> str:
    """The path of Chromium, or a skip that says what to install."""
    return system_package("chromium")


@pytest.fixture(scope="session")
def sandbox_holds() -> None:
    """The sandbox, or a skip that says why programs of models cannot be run here."""
    from baro.errors import ConfigError
    from baro.rewards.sandbox import Sandbox

    sandbox = Sandbox()
    try:
        sandbox.start()
    except ConfigError as error:
        missing(str(error))
    finally:
        sandbox.close()


def system_package(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        missing(f"{program} is not installed: `make system-packages` installs what these tests want")
    return found


def missing(sentence: str) -> NoReturn:
    """Skip, or fail where everything has to be there."""
    if os.environ.get("BARO_REQUIRE"):
        pytest.fail(sentence)
    pytest.skip(sentence)
