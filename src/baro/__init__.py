"""Baro turns human feedback into an aligned language model, and shows the evidence that it is better.

    from baro import DPOConfig, dpo, run_pipeline

    run = dpo(DPOConfig(policy="runs/sft", preferences="pairs.jsonl"))

Every name is loaded when it is first used, so that ``import baro`` is quick and imports no torch.
"""

from importlib import import_module
from typing import Any

_NAMES = {
    "BackendError": "baro.errors:BackendError",
    "BaroError": "baro.errors:BaroError",
    "BaseConfig": "baro.methods.base:Config",
    "ConfigError": "baro.errors:ConfigError",
    "CostConfig": "baro.methods.cost:Config",
    "CritiqueConfig": "baro.methods.critique:Config",
    "DPOConfig": "baro.methods.dpo:Config",
    "DataError": "baro.errors:DataError",
    "EvaluateConfig": "baro.evaluate.evaluate:Config",
    "GenerateConfig": "baro.methods.generate:Config",
    "GuardStop": "baro.errors:GuardStop",
    "KTOConfig": "baro.methods.kto:Config",
    "LabelConfig": "baro.methods.label:Config",
    "PPOConfig": "baro.methods.ppo:Config",
    "ReportConfig": "baro.evaluate.report_stage:Config",
    "RewardConfig": "baro.methods.reward:Config",
    "RewardError": "baro.errors:RewardError",
    "RunDir": "baro.runs:RunDir",
    "RunError": "baro.errors:RunError",
    "SFTConfig": "baro.methods.sft:Config",
    "SplitConfig": "baro.methods.split:Config",
    "VerifyConfig": "baro.methods.verify:Config",
    "base": "baro.methods.base:run",
    "cost": "baro.methods.cost:run",
    "critique": "baro.methods.critique:run",
    "dpo": "baro.methods.dpo:run",
    "evaluate_policies": "baro.evaluate.evaluate:run",  # `evaluate` is a package of ours
    "generate": "baro.methods.generate:run",
    "kto": "baro.methods.kto:run",
    "label": "baro.methods.label:run",
    "load_config": "baro.config:load_config",
    "load_pipeline": "baro.pipeline:load_pipeline",
    "ppo": "baro.methods.ppo:run",
    "report": "baro.evaluate.report_stage:run",
    "reward": "baro.methods.reward:run",
    "run_pipeline": "baro.pipeline:run_pipeline",
    "sft": "baro.methods.sft:run",
    "split": "baro.methods.split:run",
    "verify": "baro.methods.verify:run",
}

__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("baro")
    if name not in _NAMES:
        raise AttributeError(f"module 'baro' has no attribute {name!r}")
    module, _, attribute = _NAMES[name].partition(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
