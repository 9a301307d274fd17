"""The only optimiser loop. It knows sources and objectives, and no algorithm."""

from __future__ import annotations

import logging
import math
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from baro.bar import training_bar
from baro.batch import GroupBatch
from baro.checkpoints import (
    join_checkpoint,
    load_checkpoint,
    read_checkpoint,
    remove_old_checkpoints,
    save_checkpoint,
)
from baro.collate import empty_batch
from baro.config import OptimiserConfig
from baro.determinism import deterministic
from baro.errors import GuardStop
from baro.functional.streams import stream_key
from baro.measure import Measure, MetricSums, check_layouts
from baro.models.forward import layouts, restore_layouts
from baro.optimizer import load_optimizer_state, make_optimizer, optimizer_state, schedule_factor
from baro.protocols import BatchSource, LocalWorld, Next, Objective, State, World
from baro.runs import RunDir
from baro.termination import EXIT_CODE, Sigterm, Terminated

log = logging.getLogger("baro")


class Trainer:
    """Takes optimiser steps: totals, backward, clip, step, log, held-out loss, checkpoint, resume.

    Without ``run`` nothing is written, and ``state_dict`` / ``load_state_dict`` are the caller's. Of several ranks the
    first alone has a run; all read its checkpoints. ``measure`` is what is looked at now and then, and what the best
    weights are known by.
    """

    def __init__(
        self,
        objective: Objective,
        source: BatchSource,
        config: OptimiserConfig,
        *,
        run: RunDir | None = None,
        measure: Measure | None = None,
        world: World | None = None,
    ) -> None:
        self.objective, self.source, self.config, self.run = objective, source, config, run
        self.measure = measure
        self.world: World = world or LocalWorld()
        self.recorded = self.world.any(run is not None)
        for module in objective.modules().values():
            self.world.shard(module)
        self.optimizer = make_optimizer(objective, config)
        self.step = 0
        self.best: State | None = None  # {"step", "value", "modules"} of the best measure so far
        self.ended = False  # the source has given its last step
        self._coverage_checked = False
        self._saved = 0  # the step of the newest checkpoint; at step 0 there is nothing to save
        self._source_seconds = 0.0  # how long the source took for the step in hand
        self._sigterm = Sigterm()

    # ------------------------------------------------------------------------------------------------ the loop

    def fit(self, *, until: int | None = None) -> None:
        """Train to the end of the source, or to step ``until``.

        Raises GuardStop before a bad update is made, and where the source gives no more steps before its last one.
        """
        if self.recorded:
            self._resume()
        catching = self._sigterm.caught() if self.recorded else nullcontext()
        same = deterministic(self.device, self._not_deterministic)
        with training_bar(self.run, len(self.source), self.step) as advance, catching, same:
            for micro_batches in self._steps():
                step = self._align(micro_batches)
                self._check_models(*step)
                if self.step == 0:
                    self._evaluate()  # after the layouts are settled: a wrong one would give a wrong loss
                started = time.perf_counter()
                metrics = self._train_step(*step)
                following = self.source.advance(metrics)
                self.step += 1
                seconds = time.perf_counter() - started
                self.ended = following is Next.STOP or self.step >= len(self.source)
                metrics |= self._evaluate(due=self.ended)
                self._log(metrics | self._performance(micro_batches, seconds))
                terminated = self.world.any(self._sigterm.came)  # one rank is told, and all end
                if self.ended or terminated or _due(self.step, self.config.checkpoint_every):
                    self._checkpoint()
                advance(self.step, metrics)
                if terminated:
                    raise SystemExit(EXIT_CODE)
                if self.ended or self.step == until:
                    break
        if not self.ended and self.step != until:
            raise GuardStop(
                f"the source gave {self.step} of its {len(self.source)} steps and then none, without saying that it "
                "was done; its __len__ and its __iter__ must agree"
            )
        if self.best is not None and self.ended:
            self._load_modules(self.best["modules"])

    def _steps(self) -> Iterator[list[GroupBatch]]:
        """The source's steps. While it is asked, for an hour of sampling perhaps, SIGTERM is honoured at once.

        Neither weights nor optimiser change meanwhile, and of the source and the row files what is saved is what they
        were before. Several processes end together instead, after the step.
        """
        steps = iter(self.source)
        alone = self.recorded and self.world.size == 1
        while True:
            asked = time.perf_counter()
            before = (self.source.state_dict(), self._offsets()) if alone else None
            try:
                with self._sigterm.interruptible() if alone else nullcontext():
                    micro_batches = next(steps, None)
            except Terminated:
                self._checkpoint(before)
                raise SystemExit(EXIT_CODE) from None
            if micro_batches is None:
                return
            self._source_seconds = time.perf_counter() - asked
            yield micro_batches

    def _train_step(self, aligned: list[GroupBatch], totals: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        torch.manual_seed(stream_key("step", self.config.seed, self.step, self.world.rank))
        self.optimizer.zero_grad(set_to_none=True)
        if not aligned:
            return {"skipped_step": 1.0}
        for module in self.objective.modules().values():
            module.train()
        sums = MetricSums()
        for batch in aligned:
            for output in self.objective.losses(batch.to(self.device), totals[batch.term]):
                output.loss.backward()
                sums.add(output)
        metrics = sums.over(self.world)
        if {batch.term for batch in aligned} == totals.keys():
            self._check_coverage()
        metrics |= self._update(metrics["loss"])
        return metrics | {"learning_rate": self._learning_rate()}

    def _check_models(self, micro_batches: list[GroupBatch], totals: Mapping[str, Mapping[str, float]]) -> None:
        """Each model's layout of rows, once, on the widest of the first micro-batches that hold completions."""
        if any(units.get("completions") for units in totals.values()):
            check_layouts(self.objective, micro_batches, self.world)

    @property
    def device(self) -> torch.device:
        """Where the models are, and the batches go."""
        return next(next(iter(self.objective.modules().values())).parameters()).device

    def _align(self, micro_batches: list[GroupBatch]) -> tuple[list[GroupBatch], dict[str, dict[str, float]]]:
        """Give every rank equally many micro-batches of each term, and sum every term's units over all of them.

        A term without a completion on any rank is left out of the micro-batches: there is nothing to divide by. One
        whose completions are all skipped stays, and has a gradient of 0.
        """
        sums = self.world.sum(
            {
                f"{batch.term}\n{unit}": sum(b.units.get(unit, 0.0) for b in micro_batches if b.term == batch.term)
                for batch in micro_batches
                for unit in batch.units
            }
        )
        totals: dict[str, dict[str, float]] = {}
        for name, amount in sorted(sums.items()):
            term, unit = name.split("\n")
            totals.setdefault(term, {})[unit] = amount
        aligned = []
        for term in (term for term, units in totals.items() if units.get("completions") or units.get("skipped")):
            mine = [batch for batch in micro_batches if batch.term == term]
            aligned += mine + [empty_batch(term)] * (int(self.world.max(len(mine))) - len(mine))
        return aligned, totals

    def _update(self, loss: float) -> dict[str, float]:
        """Clip and step; the norms before clipping, of all gradients and of each group that has a name.

        Each group is clipped by itself: through a common norm a critic's gradient would shorten the policy's step.
        """
        groups = self.optimizer.param_groups
        norms = [self._clip(group["params"]) for group in groups]
        norm = math.hypot(*norms)
        if not math.isfinite(norm) or not math.isfinite(loss):
            raise GuardStop(
                f"step {self.step + 1}: the loss is {loss} and the gradient norm {norm}; no update was made. "
                "Lower the learning rate, or look at the last rows of metrics.jsonl"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * schedule_factor(self.config, self.step, len(self.source))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        named = {f"grad_norm/{g['name']}": of for g, of in zip(groups, norms, strict=True) if "name" in g}
        return {"grad_norm": norm, **named}

    def _clip(self, parameters: list[nn.Parameter]) -> float:
        norm = nn.utils.clip_grad_norm_(parameters, self.config.max_grad_norm or math.inf)
        return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)

    def _learning_rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def _check_coverage(self) -> None:
        """At the first step every trainable tensor must have a gradient and no frozen one."""
        if self._coverage_checked:
            return
        self._coverage_checked = True
        for role, module in self.objective.modules().items():
            for name, parameter in module.named_parameters():
                if parameter.requires_grad and parameter.grad is None:
                    raise GuardStop(f"{role}: {name} is to be trained but received no gradient; freeze it or use it")
                if not parameter.requires_grad and parameter.grad is not None:
                    raise GuardStop(f"{role}: {name} is frozen but received a gradient; train it or detach it")

    # ------------------------------------------------------------------------------------------------ measure

    def _evaluate(self, *, due: bool = False) -> dict[str, float]:
        """What is measured, named eval/..., when it is time for it; the weights, where it is the best so far."""
        measure = self.measure
        if measure is None or not (due or self.step % measure.interval(len(self.source)) == 0):
            return {}
        found = measure.take()
        if measure.keep is not None and found:
            value = found[measure.keep]
            if math.isfinite(value) and (self.best is None or measure.better(value, self.best["value"])):
                self.best = {"step": self.step, "value": value, "modules": self._copies()}
        metrics = {f"eval/{name}": value for name, value in found.items()}
        if self.step == 0 and metrics:
            self._log(metrics)
        return metrics

    # ------------------------------------------------------------------------------------------------ state

    def state_dict(self, source: State | None = None) -> State:
        """Everything that the next step depends on. Its tensors are the live ones, sharded as they are: copy to keep.

        ``source`` takes the place of the source's state.
        """
        return {
            "step": self.step,
            "modules": self._module_states(),
            "optimizer": optimizer_state(self.optimizer, self.objective),
            "source": self.source.state_dict() if source is None else source,
            "best": self.best or {},
            "ended": self.ended,
            "layouts": layouts(self.objective.modules()),
            "coverage_checked": self._coverage_checked,
        }

    def load_state_dict(self, state: State) -> None:
        """Continue as if never stopped."""
        self.step, self.ended, self._coverage_checked = state["step"], state["ended"], state["coverage_checked"]
        self.best = state["best"] or None
        self._load_modules(state["modules"])
        load_optimizer_state(self.optimizer, self.objective, state["optimizer"], self.world)
        restore_layouts(self.objective.modules(), state["layouts"])
        self.source.load_state_dict(state["source"])

    def _module_states(self) -> State:
        return {name: _state_of(module) for name, module in self.objective.modules().items()}

    def _copies(self) -> State:
        """The modules' tensors whole, on the CPU, and not touched by later steps."""
        states = self._module_states()
        return {name: {key: self.world.whole(one).clone() for key, one in of.items()} for name, of in states.items()}

    def _load_modules(self, states: Mapping[str, Mapping[str, Tensor]]) -> None:
        for name, module in self.objective.modules().items():
            own = _state_of(module)
            for key, tensor in states[name].items():
                self.world.place(tensor, own[key])

    def _resume(self) -> None:
        """Go on from the newest checkpoint: rank 0 finds it and looks whether it is whole, the others read it too."""
        run = self.run
        found = None if run is None else load_checkpoint(run)
        mine = [] if run is None or run.latest_checkpoint is None else [str(run.latest_checkpoint.resolve())]
        folders = self.world.gather(mine)
        if folders:
            self._saved, state = found or read_checkpoint(Path(folders[0]))
            self.load_state_dict(state)
        if run is not None:
            offsets = state["offsets"] if folders else {"metrics": 0, "samples": 0}
            remove_old_checkpoints(run)
            run.metrics.truncate(offsets["metrics"])
            run.samples.truncate(offsets["samples"])

    def _offsets(self) -> dict[str, int]:
        """How long the files of rows are."""
        if self.run is None:
            return {}
        return {"metrics": self.run.metrics.offset, "samples": self.run.samples.offset}

    def _checkpoint(self, before: tuple[State, dict[str, int]] | None = None) -> None:
        """Save the step in hand, unless it is saved; ``before``: the source's state and the offsets to save with it."""
        if not self.recorded or self._saved == self.step:
            return
        source, offsets = before or (None, self._offsets())
        state = {**self.state_dict(source), "offsets": offsets}
        if self.run is None:
            join_checkpoint(state, self.world.whole)
        else:
            save_checkpoint(self.run, self.step, state, whole=self.world.whole)
        self._saved = self.step

    def _performance(self, micro_batches: Sequence[GroupBatch], seconds: float) -> dict[str, float]:
        on_gpu = self.device.type == "cuda"
        host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {
            "perf/source_seconds": self._source_seconds,
            "perf/step_seconds": seconds,
            "perf/tokens_per_second": sum(batch.real_tokens for batch in micro_batches) / seconds,
            "perf/peak_memory_bytes": torch.cuda.max_memory_allocated(self.device) if on_gpu else host,
        }

    def _not_deterministic(self, operation: str) -> None:
        """Say it, and keep it in run.json: bit for bit is not promised of this run."""
        log.warning("%s has no deterministic kernel on %s: a resumed run may differ in bits", operation, self.device)
        if self.run is not None:
            self.run.note("not_deterministic", operation)

    def _log(self, metrics: Mapping[str, float]) -> None:
        if self.run is not None and self.world.rank == 0:
            self.run.metrics.append({"step": self.step, **metrics})


def _state_of(module: nn.Module) -> dict[str, Tensor]:
    """What training changes of a module: trained parameters and persistent buffers, shared tensors once.

    Frozen weights are those of the run's inputs, which a resume knows by their content.
    """
    kept = module.state_dict()  # which also puts a sharded module's parameters back into shards
    once = {name: p for name, p in module.named_parameters() if p.requires_grad} | dict(module.named_buffers())
    return {name: tensor.detach() for name, tensor in once.items() if name in kept}


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
