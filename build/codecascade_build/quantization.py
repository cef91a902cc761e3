"""TODO."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codecascade_build.errors import BuildError

if TYPE_CHECKING:  # recipes may use check_parallelism
    from codecascade_build.recipes import Architecture


QUANTIZATIONS = ("none", "fp8", "int4_awq", "int8")


AWQ_GROUP = 128  # inputs that share a scale


_PARALLEL = (1, 2, 4, 8)


def check_sequence_length(architecture: Architecture, max_seq_len: int) -> None:
    """Raises BuildError if a sequence could get longer than what the model knows positions for."""
    if max_seq_len > architecture.positions:
        learned = ", which are learned" if architecture.model_class == "GPTForCausalLM" else ""
        raise BuildError(f"max_seq_len {max_seq_len} is more than the model's {architecture.positions} positions{learned}.")


def check_parallelism(architecture: Architecture, tensor_parallel: int, quantization: str) -> None:
    """Raises BuildError if the model cannot be cut for that many GPUs with that quantization. Needs no checkpoint."""
    if quantization not in QUANTIZATIONS:
        raise BuildError(f"quantization {quantization!r} is not one of {', '.join(QUANTIZATIONS)}.")
    problem = _parallelism_problem(architecture, tensor_parallel, quantization)
    if problem:
        possible = [str(parts) for parts in _PARALLEL if not _parallelism_problem(architecture, parts, quantization)]
        raise BuildError(f"tensor_parallel {tensor_parallel}: {problem}; possible here: {', '.join(possible) or 'none'}.")


def _parallelism_problem(architecture: Architecture, parts: int, quantization: str) -> str | None:
    """Why a model cannot be cut, or None."""
    if parts < 1:
        return "at least 1 is needed"
    if architecture.heads % parts:
        return f"{architecture.heads} heads cannot be shared evenly"
    if max(architecture.kv_heads, parts) % min(architecture.kv_heads, parts):
        return f"{architecture.kv_heads} kv_heads can be neither shared nor repeated evenly"
    if architecture.intermediate % parts:
        return f"intermediate {architecture.intermediate} cannot be shared evenly"
    if architecture.model_class == "GPTJForCausalLM" and architecture.vocab % parts:
        return f"vocab {architecture.vocab} cannot be shared evenly, and TensorRT-LLM pads none for GPT-J"
    if quantization == "int4_awq":
        attention = architecture.heads * architecture.head_dim
        cuts = {"heads × head_dim": (attention, parts), "intermediate": (architecture.intermediate, parts)}
        for name, (inputs, among) in (cuts | {"hidden": (architecture.hidden, 1)}).items():
            if inputs % (among * AWQ_GROUP):
                return (
                    f"int4_awq has groups of {AWQ_GROUP}, of which {name} {inputs} ÷ {among} = {inputs // among} is no multiple"
                )
    return None
