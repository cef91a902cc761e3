"""Which quantisation fits which model, which GPU and which tensor parallelism. The only place that knows it."""

from __future__ import annotations

from codecascade_build.errors import BuildError
from codecascade_build.gpus import Gpu
from codecascade_build.recipes import Architecture, GpuRuntime, ModelClass, Quantization

AWQ_GROUP = 128
"""Inputs of a matrix that share one scale in int4_awq."""

FP8_SM = 89
"""The first compute capability with FP8: Ada's 8.9."""

_PARALLEL = (1, 2, 4, 8)

_BY_CLASS: dict[ModelClass, tuple[Quantization, ...]] = {
    "GPTJForCausalLM": ("none", "fp8", "int4_awq", "int8"),
    "GPTForCausalLM": ("none", "int8"),
    "LLaMAForCausalLM": ("none", "fp8", "int4_awq", "int8"),
    "QWenForCausalLM": ("none", "fp8", "int4_awq", "int8"),
}
"""TensorRT-LLM's matrix of models and precisions, in which FP8, W4A16 AWQ and W8A16 are fp8, int4_awq and int8."""


def check_settings(architecture: Architecture, settings: GpuRuntime, gpu: Gpu) -> None:
    """Raises BuildError if the model cannot be quantised or cut like this for this kind of GPU."""
    quantization, allowed = settings.quantization, _BY_CLASS[architecture.model_class]
    if quantization not in allowed:
        raise BuildError(
            f"TensorRT-LLM has no quantization {quantization} for {architecture.model_class}; it has {', '.join(allowed)}."
        )
    if quantization == "fp8" and gpu.sm < FP8_SM:
        raise BuildError(f"quantization fp8 needs SM {FP8_SM}; {gpu.title} has SM {gpu.sm}.")
    check_parallelism(architecture, settings.tensor_parallel, quantization)


def check_parallelism(architecture: Architecture, tensor_parallel: int, quantization: Quantization) -> None:
    """Raises BuildError if the model cannot be cut for that many GPUs with that quantisation."""
    problem = _parallelism_problem(architecture, tensor_parallel, quantization)
    if problem:
        possible = [str(parts) for parts in _PARALLEL if not _parallelism_problem(architecture, parts, quantization)]
        raise BuildError(f"tensor_parallel {tensor_parallel}: {problem}; possible here: {', '.join(possible) or 'none'}.")


def _parallelism_problem(architecture: Architecture, parts: int, quantization: Quantization) -> str | None:
    """Why a model cannot be cut, or None."""
    if architecture.heads % parts:
        return f"{architecture.heads} heads cannot be shared evenly"
    if max(architecture.kv_heads, parts) % min(architecture.kv_heads, parts):
        return f"{architecture.kv_heads} kv_heads can be neither shared nor repeated evenly"
    if architecture.intermediate % parts:
        return f"intermediate {architecture.intermediate} cannot be shared evenly"
    if architecture.model_class == "GPTJForCausalLM" and architecture.vocab % parts:
        return f"vocab {architecture.vocab} cannot be shared evenly, and TensorRT-LLM does not pad it for GPT-J"
    if quantization == "int4_awq":
        attention = architecture.heads * architecture.head_dim
        cuts = {"heads × head_dim": (attention, parts), "intermediate": (architecture.intermediate, parts)}
        for name, (inputs, among) in (cuts | {"hidden": (architecture.hidden, 1)}).items():
            if inputs % (among * AWQ_GROUP):
                return f"int4_awq needs a multiple of {AWQ_GROUP}; {name} {inputs} ÷ {among} = {inputs // among} is none"
    return None
