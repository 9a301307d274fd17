"""Runs `baro` commands in forks of one process that has imported everything: seconds less for each of many runs.

Reads one JSON request a line. {"arguments", "env", "first", "log"} starts a command, whose pid is answered; "first" is
a program that runs before it, and stdout and stderr go to the files log.out and log.err. {"wait": pid} answers the
exit code, -9 for a SIGKILL. The parent never computes anything, and has one thread: that makes forking it safe.
"""

import gc
import json
import os
import sys
import traceback
from typing import Any, NoReturn

import matplotlib.pyplot as plt  # noqa: F401  what reports import when they draw
import transformers.models.llama.modeling_llama
import transformers.models.llama.tokenization_llama  # noqa: F401
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from baro.cli import main
from baro.evaluate import report  # noqa: F401
from baro.verbs import VERBS


def run(request: dict[str, Any]) -> NoReturn:
    """The forked child's whole life."""
    for descriptor, suffix in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{request['log']}.{suffix}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    code = 1
    try:
        os.environ.update(request["env"])
        exec(request["first"], {})
        main(request["arguments"])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    """Answer requests until stdin ends."""
    for verb in VERBS.values():
        verb.load()
    get_checkpoint_conversion_mapping("llama")  # builds a table that every loading of a model would build
    assert len(os.listdir("/proc/self/task")) == 1
    os.fsync = os.fstat  # a kill loses nothing that is on its way to the disk
    gc.freeze()
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
        elif (pid := os.fork()) == 0:
            run(request)
        else:
            print(pid, flush=True)


serve()
