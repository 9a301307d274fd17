"""What "bit for bit" promises, as far as it can be tested without a GPU: a device that only says that it is one."""

from contextlib import closing
from pathlib import Path

import pytest
import tiny
import torch
import toys

from baro.batch import Sample, flat, with_flat
from baro.config import TrainerConfig
from baro.determinism import deterministic
from baro.models.forward import ScoredModel
from baro.protocols import LocalWorld, World
from baro.runs import RunDir
from baro.trainer import Trainer

GPU = torch.device("cuda")


def put() -> None:
    """An operation that torch calls not deterministic, on a CPU too."""
    torch.zeros(3).put_(torch.tensor([0]), torch.tensor([1.0]), accumulate=False)


def test_a_cpu_is_left_as_it_is():
    told = []
    with deterministic(torch.device("cpu"), told.append):
        assert not torch.are_deterministic_algorithms_enabled()
        put()
    assert told == []


def test_what_a_gpu_cannot_do_alike_is_told_once_and_the_setting_goes_back():
    told = []
    with deterministic(GPU, told.append):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        put()
        put()
        with pytest.warns(UserWarning, match="another"):
            torch.warnings.warn("another", UserWarning, stacklevel=1)
    assert told == ["put_"]
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory


class Scattering(toys.Sft):
    def losses(self, batch, totals):
        put()
        yield from super().losses(batch, totals)


def test_the_log_and_the_manifest_say_where_bits_are_not_promised(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("baro.trainer.deterministic", lambda device, tell: deterministic(GPU, tell))
    config = TrainerConfig(learning_rate=0.01)
    for name, objective in (("same", toys.Sft), ("other", Scattering)):
        source = toys.file_source(toys.random_samples(0, 10, 1), LocalWorld(), steps=2)
        with closing(RunDir.open(tmp_path / name, verb="sft", config=config, inputs={})) as run:
            Trainer(objective(policy=ScoredModel(tiny.llama())), source, config, run=run).fit()
    assert "not_deterministic" not in RunDir.load(tmp_path / "same").manifest
    assert RunDir.load(tmp_path / "other").manifest["not_deterministic"] == ["put_"]
    assert caplog.text.count("put_ has no deterministic kernel") == 1


class Counting(toys.GroupCentred):
    """A Prepare with a state that moves at each call."""

    calls = 0

    def __call__(self, samples: list[Sample], world: World) -> list[Sample]:
        self.calls += 1
        return super().__call__(samples, world)

    def state_dict(self) -> dict:
        return {"calls": self.calls}

    def load_state_dict(self, state: dict) -> None:
        self.calls = state["calls"]


@pytest.mark.parametrize("same_bits", [True, False])
def test_a_rollout_that_was_found_gets_the_present_policys_logprobs_where_bits_differ(same_bits, tmp_path: Path):
    def source():
        made = toys.rollout_source(ScoredModel(tiny.llama()), Counting(), LocalWorld(), completions=2)
        made.store = tmp_path / "rollout.state"
        return made

    class Twice:
        """The present policy's log-probs: here twice the others'."""

        def recomputed(self, samples: list[Sample], world: World) -> list[Sample]:
            return with_flat(samples, {"old_logprobs": 2 * flat(samples, "old_logprobs")})

        def state_dict(self) -> dict:
            return {}

    killed, resumed = source(), source()
    next(iter(killed))
    resumed.old_logprobs, resumed.same_bits = None if same_bits else Twice(), same_bits
    resumed.rollouts.sampler = None  # it must not draw
    next(iter(resumed))
    assert resumed.prepare.calls == 1  # as if it had drawn the rollout itself
    for one, other in zip(resumed.samples, killed.samples, strict=True):
        for a, b in zip(one.completions, other.completions, strict=True):
            factor = 1 if same_bits else 2
            assert torch.equal(a.token_fields["old_logprobs"], factor * b.token_fields["old_logprobs"])
            assert torch.equal(a.ids, b.ids)
            assert a.fields["score"] == b.fields["score"]
