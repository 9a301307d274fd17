"""Device, type of numbers and checkpointing: chosen at the load, and no result changes where it must not."""

import pytest
import tiny
import torch
import toys

from baro.batch import GroupBatch, NoFields
from baro.collate import collate, empty_batch
from baro.compute import ComputeConfig
from baro.config import TrainerConfig
from baro.errors import ConfigError
from baro.measure import Measure, evaluate
from baro.models import place
from baro.models.forward import ScoredModel, forward_samples
from baro.models.place import device_of, matmul_dtype, placed
from baro.protocols import LocalWorld
from baro.records import SamplingParams
from baro.rollout.engine import Engine
from baro.trainer import Trainer

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
SAMPLES = toys.random_samples(0, 4, 2)


def test_without_a_gpu_everything_is_fp32_on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model = placed(ScoredModel(tiny.llama(dtype=torch.float32)))
    assert (model.device, model.autocast_dtype, model.compute_dtype) == (CPU, None, torch.float32)
    with pytest.raises(ConfigError, match=r"compute\.device is cuda, but torch finds no GPU"):
        device_of(ComputeConfig(device="cuda"))
    with pytest.raises(ConfigError, match="bfloat16 needs a GPU"):
        placed(ScoredModel(tiny.llama()), ComputeConfig(dtype="bfloat16"))


def test_with_a_gpu_it_is_taken_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert device_of(ComputeConfig()) == device_of(ComputeConfig(device="cuda")) == CUDA
    assert device_of(ComputeConfig(device="cpu")) == CPU
    assert matmul_dtype(ComputeConfig(), CUDA) == torch.bfloat16
    assert matmul_dtype(ComputeConfig(dtype="float32"), CUDA) is None
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert matmul_dtype(ComputeConfig(), CUDA) is None
    assert matmul_dtype(ComputeConfig(), CPU) is None


def test_the_model_is_moved(monkeypatch):
    moved = []
    monkeypatch.setattr(place, "device_of", lambda compute: CPU)
    monkeypatch.setattr(ScoredModel, "to", lambda self, device: moved.append(device))
    placed(ScoredModel(tiny.llama()))
    assert moved == [CPU]


def test_every_batch_goes_to_the_models_device(monkeypatch):
    """In training, in the held-out loss, and where log-probs are computed without gradient."""
    moved = []
    to = GroupBatch.to
    monkeypatch.setattr(GroupBatch, "to", lambda self, device: moved.append(device) or to(self, device))
    run = toys.sft(LocalWorld())
    held_out = collate(SAMPLES, micro_batch_tokens=10**6, hidden_size=16)
    measure = Measure(lambda: evaluate(run.objective, held_out, LocalWorld()))
    trainer = Trainer(run.objective, run.source, TrainerConfig(learning_rate=0.01), measure=measure)
    trainer.fit(until=1)
    assert len(moved) >= 3  # held out, the first-batch check, the step
    moved.clear()
    model = next(iter(run.objective.modules().values()))
    forward_samples(model, SAMPLES, ["logprobs"], micro_batch_tokens=20, world=LocalWorld())
    assert len(moved) == len(collate(SAMPLES, micro_batch_tokens=20, hidden_size=16)) > 1
    assert set(moved) == {CPU}


def test_an_empty_batch_stays_one_where_it_goes():
    moved = empty_batch("main").to("cpu")
    assert isinstance(moved.token_fields, NoFields)
    assert len(moved.token_fields["whatever"]) == 0


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "gemma3", "opt"])
def test_checkpointing_changes_no_gradient(name):
    (batch,) = collate(SAMPLES, micro_batch_tokens=10**6, hidden_size=16, per_row=2)

    def gradients(compute: ComputeConfig) -> tuple[dict[str, torch.Tensor], int]:
        model, calls = placed(ScoredModel(tiny.architecture(name)), compute).train(), []
        layer = next(m for m in model.modules() if type(m).__name__.endswith(("DecoderLayer", "Block")))
        first = next(iter(layer.children()))
        first.register_forward_pre_hook(lambda *_: calls.append(1))
        model(batch, ["logprobs"]).logprobs.sum().backward()
        return {key: p.grad for key, p in model.named_parameters()}, len(calls)

    plain, once = gradients(ComputeConfig())
    saved, twice = gradients(ComputeConfig(gradient_checkpointing=True))
    assert (once, twice) == (1, 2)
    for key, gradient in plain.items():
        assert float((saved[key] - gradient).norm()) <= 1e-9 * max(float(gradient.norm()), 1e-9), key


def test_checkpointing_where_there_is_none_is_refused():
    model = ScoredModel(tiny.llama())
    model.model.supports_gradient_checkpointing = False
    with pytest.raises(ConfigError, match=r"LlamaForCausalLM has no compute\.gradient_checkpointing"):
        placed(model, ComputeConfig(gradient_checkpointing=True))


@pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3"])
def test_bf16_products_stay_near_fp32_and_leave_fp32_gradients(name):
    """On a CPU only to test: one mask type for all, log-probs, samples and gradients of the weights in fp32."""
    (batch,) = collate(SAMPLES, micro_batch_tokens=10**6, hidden_size=16, per_row=2)
    model = ScoredModel(tiny.architecture(name, torch.float32))
    exact = model(batch, ["logprobs"]).logprobs
    model.autocast_dtype = torch.bfloat16
    rounded = model(batch, ["logprobs"]).logprobs
    assert rounded.dtype == torch.float32
    assert 1e-6 < (rounded.exp() - exact.exp()).abs().mean() < 0.01
    rounded.sum().backward()
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}
    ((one,),) = Engine(model, end_ids=frozenset()).generate([[1, 2, 3]], 1, SamplingParams(8), [0])
    assert len(one.ids) == 8


@gpu
@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_on_a_gpu_log_probs_and_samples_are_the_cpus(name, dtype):
    cpu = ScoredModel(tiny.architecture(name, torch.float32))
    model = placed(ScoredModel(tiny.architecture(name, torch.float32)), ComputeConfig(device="cuda", dtype=dtype))
    options = {"micro_batch_tokens": 10**6, "world": LocalWorld()}
    expected, found = (
        torch.cat(
            [part for group in forward_samples(m, SAMPLES, ["logprobs"], **options)["logprobs"] for part in group]
        )
        for m in (cpu, model)
    )
    assert model.layout == "shared"
    assert (found.exp() - expected.exp()).abs().mean() < (1e-5 if dtype == "float32" else 1e-2)
    groups = Engine(model, end_ids=frozenset({2}), slots=3).generate([[1, 2, 3], [4]], 3, SamplingParams(8), [1, 2])
    assert all(len(one.ids) for group in groups for one in group)
