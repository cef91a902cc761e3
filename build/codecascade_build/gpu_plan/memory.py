"""The memory that a tier takes on each of its GPUs: arithmetic over a recipe, before anything is built.

Sources: TensorRT-LLM's documentation, "Memory Usage of TensorRT-LLM" (weights, activations, runtime and decoder buffers, KV
cache), and the start-up logs that it and NVIDIA/TensorRT-LLM #1188 and #3636 print. The estimates cover those logs; none was
measured by this project. All figures are bytes per GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from codecascade_build.quantization import AWQ_GROUP
from codecascade_build.recipes import Architecture, GpuRuntime, Quantization

GIB = 2**30

DTYPE_BYTES = 2
"""float16 and bfloat16: embeddings, the output matrix, norms, biases, activations and the KV cache, whatever the quantisation."""

MATRIX_BYTES: dict[Quantization, float] = {"none": DTYPE_BYTES, "fp8": 1, "int8": 1, "int4_awq": 0.5 + 2 / AWQ_GROUP}
"""One weight of a layer's matrices. AWQ: four bits, and a two-byte scale for each group."""

ENGINE_SHARE = 0.02
"""An engine is larger than its weights by its kernels and scales: by 0.3 to 1.6 % in the logs."""

NUM_TOKENS = 8192
"""Tokens in one step of the engine, its max_num_tokens: trtllm-build's own default. Activations are laid out for so many."""

ACTIVATION_WIDTHS = (8, 4)
"""Tensors alive at a time while a layer runs: so many of the hidden width, so many of the MLP's. The logs need about half."""

GEMM_WORKSPACE = 64 * 2**20
"""Scratch memory of the matrix multiplications; 32 MiB in the logs."""

LOGITS_ROWS = 10
"""Rows of the vocabulary in float32 for each sequence: the engine's logits and the decoder's copies of them; 8 in the logs."""

PROCESS_BYTES = GIB
"""CUDA's context and libraries, for each engine: 0.76 GiB in the logs. Engines of one server share some of it."""

GROUP_BYTES = GIB // 2
"""Buffers of NCCL and of the custom all-reduce on each GPU of a tensor-parallel group."""

RESERVE_SHARE = 0.05
"""The share of a GPU that is left free, for what is not counted here."""

KV_CACHE_FRACTION = 1 - RESERVE_SHARE
"""The share of the free memory that a KV cache may take when its engine is loaded (kv_cache_free_gpu_mem_fraction; 0.9 if not
set). The reserve is as large as the rest, so this never cuts a planned cache, in whatever order the engines of a GPU load."""

BLOCK_TOKENS = 64
"""The KV cache comes in blocks of 32 or 64 tokens: planned caches are multiples of 64."""


@dataclass(frozen=True, slots=True)
class TierMemory:
    """Bytes on each GPU."""

    weights: int
    runtime: int
    """Activations, logits and the process."""
    kv_token: int
    """The KV cache of one token."""

    def total(self, kv_cache_tokens: int) -> int:
        return self.weights + self.runtime + self.kv_token * kv_cache_tokens


def tier_memory(architecture: Architecture, settings: GpuRuntime) -> TierMemory:
    """settings: on one kind of GPU."""
    group = settings.tensor_parallel
    return TierMemory(
        weights=weight_bytes(architecture, group, settings.quantization),
        runtime=runtime_bytes(architecture, group, settings.max_batch_size),
        kv_token=kv_token_bytes(architecture, group),
    )


def usable_bytes(memory_bytes: int) -> int:
    """The part of a GPU's memory that tiers may take."""
    return int(memory_bytes * KV_CACHE_FRACTION)


def weight_bytes(architecture: Architecture, tensor_parallel: int, quantization: Quantization) -> int:
    """The engine of one rank.

    The group shares the output matrix and the layers' matrices; only the latter are quantised. Everything else is on each GPU.
    Tied embeddings are two matrices in an engine.
    """
    table = architecture.vocab * architecture.hidden
    elsewhere = architecture.parameters - table * (1 if architecture.tied_embeddings else 2)
    elsewhere -= architecture.layers * _layer_matrices(architecture, 1)  # learned positions, norms, biases
    output = -(-architecture.vocab // tensor_parallel) * architecture.hidden
    matrices = architecture.layers * _layer_matrices(architecture, tensor_parallel)
    in_dtype = (table + output + elsewhere) * DTYPE_BYTES
    return round((in_dtype + matrices * MATRIX_BYTES[quantization]) * (1 + ENGINE_SHARE))


def kv_token_bytes(architecture: Architecture, tensor_parallel: int) -> int:
    """2 · layers · key-value heads · head size · bytes; a group larger than the heads holds copies of them."""
    return 2 * architecture.layers * _kv_heads(architecture, tensor_parallel) * architecture.head_dim * DTYPE_BYTES


def runtime_bytes(architecture: Architecture, tensor_parallel: int, max_batch_size: int) -> int:
    """An engine's memory besides its weights and its KV cache."""
    hidden, intermediate = ACTIVATION_WIDTHS
    widths = hidden * architecture.hidden + intermediate * -(-architecture.intermediate // tensor_parallel)
    activations = NUM_TOKENS * widths * DTYPE_BYTES + GEMM_WORKSPACE
    logits = max_batch_size * architecture.vocab * 4 * LOGITS_ROWS
    return activations + logits + PROCESS_BYTES + (GROUP_BYTES if tensor_parallel > 1 else 0)


def whole_blocks(tokens: int) -> int:
    """Rounded up to whole blocks of the KV cache."""
    return -(-tokens // BLOCK_TOKENS) * BLOCK_TOKENS


def gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB"


def _kv_heads(architecture: Architecture, tensor_parallel: int) -> int:
    return -(-architecture.kv_heads // tensor_parallel)


def _layer_matrices(architecture: Architecture, tensor_parallel: int) -> int:
    """Weights of one layer's matrices on one rank."""
    queries = architecture.heads * architecture.head_dim // tensor_parallel
    keys = _kv_heads(architecture, tensor_parallel) * architecture.head_dim
    gated = architecture.model_class in ("LLaMAForCausalLM", "QWenForCausalLM")
    mlp = (3 if gated else 2) * -(-architecture.intermediate // tensor_parallel)
    return architecture.hidden * (2 * queries + 2 * keys + mlp)
