"""Writes the Triton models of the GPU tiers, and the deployment file that the cascade reads.

An engine tier is five models. `<tier>` meets the tier contract; it calls `<tier>-ensemble` once per sequence, which is
`<tier>-preprocessing` → `<tier>-tensorrt_llm` → `<tier>-postprocessing`. A tier of the LLM API is one model, `<tier>`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codecascade.tiers.contract import RETURN_LOG_PROBS, SEQUENCE_INPUTS, SEQUENCE_OUTPUTS
from tritonclient.grpc.model_config_pb2 import ModelConfig

from codecascade_build.errors import BuildError
from codecascade_build.gpu_plan.memory import KV_CACHE_FRACTION
from codecascade_build.paths import RENDERED_MODELS
from codecascade_build.recipes import GpuTier, Recipe, Runtime
from codecascade_build.render.repository import (
    Rendered,
    config_text,
    contract_model,
    data_type,
    model_source,
    python_model,
    tiers_document,
    with_parameters,
    write,
)

CANCELLATION_CHECK_PERIOD_MS = 100
_BATCHES_IN_FLIGHT = 2  # calls to a tier at a time, in batches of its engine: one runs, and what follows it is there
_LLM_API_CLASSES = ("LLaMAForCausalLM", "QWenForCausalLM")
_WORKER = "/opt/tritonserver/backends/tensorrtllm/trtllmExecutorWorker"

_ONE = (1,)
_ANY = (-1,)
# Tensors of the ensemble, of its first and last model, and of TensorRT-LLM's, without the batch dimension.
_REQUEST = {tensor.name: (data_type(tensor), (tensor.length,)) for tensor in SEQUENCE_INPUTS}
_LOG_PROBS_WANTED = {RETURN_LOG_PROBS.name: (data_type(RETURN_LOG_PROBS), _ONE)}  # from the ensemble to the engine
_ENGINE_INPUTS = {
    "input_ids": ("TYPE_INT32", _ANY),
    "input_lengths": ("TYPE_INT32", _ONE),
    "request_output_len": ("TYPE_INT32", _ONE),
    "pad_id": ("TYPE_INT32", _ONE),
    "stop_words_list": ("TYPE_INT32", (2, -1)),
    "temperature": ("TYPE_FP32", _ONE),
    "runtime_top_k": ("TYPE_INT32", _ONE),
    "runtime_top_p": ("TYPE_FP32", _ONE),
    "seed": ("TYPE_UINT64", _ONE),
}
_ENGINE_OUTPUTS = {
    "output_ids": ("TYPE_INT32", (-1, -1)),
    "sequence_length": ("TYPE_INT32", _ANY),
    "output_log_probs": ("TYPE_FP32", (-1, -1)),  # absent unless they are wanted
}
_LOGITS = {"context_logits": ("TYPE_FP32", (-1, -1)), "generation_logits": ("TYPE_FP32", (-1, -1, -1))}
_ANSWER = {tensor.name: (data_type(tensor), _ONE) for tensor in SEQUENCE_OUTPUTS}
_REREAD = ("input_lengths", "request_output_len", "stop_words_list")  # outputs of the first model that the last one needs
_RAGGED = ("input_ids", "stop_words_list")

Tensors = Mapping[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class EngineTier:
    """Where a tier's engine is, and what part of the machine it gets."""

    engine: Path
    """For the LLM API, the checkpoint."""
    tokenizer: Path
    """A folder that transformers' AutoTokenizer reads."""
    gpu_device_ids: tuple[int, ...]
    kv_cache_tokens: int
    """The tokens that all sequences under way may hold together."""


def render_engines(
    recipe: Recipe,
    gpu: str,
    engines: Mapping[str, EngineTier],
    into: Path = RENDERED_MODELS,
    *,
    runtime: Runtime = "tensorrt_llm",
) -> Rendered:
    """Write into/<family>-<runtime>/<model>/{config.pbtxt,1/…} and into/<family>-<runtime>.json, for the tiers in `engines`.

    gpu: the kind of GPU (gpus.py). Replaces what an earlier rendering left. Raises BuildError.
    """
    if not engines:
        raise BuildError(f"No tier of {recipe.family} has an engine.")
    tiers = [tier.on_gpu(gpu, runtime) for tier in recipe.choose(engines)]
    files: dict[str, str] = {}
    for tier in tiers:
        files |= tier_files(tier, engines[tier.name], runtime)
    document = tiers_document(recipe, runtime, {tier.name: tier.settings for tier in tiers})
    for placed, tier in zip(document["tiers"], tiers, strict=True):
        placed["max_in_flight"] = _BATCHES_IN_FLIGHT * tier.settings.max_batch_size
    return write(f"{recipe.family}-{runtime}", files, document, into)


def tier_files(tier: GpuTier, engine: EngineTier, runtime: Runtime) -> dict[str, str]:
    """Path inside the repository → content, of one tier's models. Raises BuildError."""
    settings = tier.settings
    if len(engine.gpu_device_ids) != settings.tensor_parallel:
        raise BuildError(
            f"Tier {tier.name} has the GPUs {', '.join(map(str, engine.gpu_device_ids)) or 'none'}, "
            f"its tensor_parallel is {settings.tensor_parallel}."
        )
    if engine.kv_cache_tokens < settings.context_tokens:
        raise BuildError(
            f"Tier {tier.name} has a KV cache of {engine.kv_cache_tokens} tokens, "
            f"one sequence alone may have {settings.context_tokens}."
        )
    if runtime == "llm_api":
        check_llm_api(tier)
        return _model(llm_api_config(tier, engine), "llm_api")
    if runtime != "tensorrt_llm":
        raise BuildError(f"No engine is of the runtime {runtime}; allowed are tensorrt_llm and llm_api.")
    ensemble = ensemble_config(tier.name)
    return {
        **_model(tier_config(tier, engine), "tensorrt_llm"),
        f"{ensemble.name}/config.pbtxt": config_text(ensemble),
        f"{ensemble.name}/1/README": "The steps of an ensemble are in its config.pbtxt; Triton wants a folder per version.\n",
        **_model(preprocessing_config(tier, engine), "preprocessing"),
        f"{tier.name}-tensorrt_llm/config.pbtxt": config_text(engine_config(tier, engine)),
        f"{tier.name}-tensorrt_llm/1/README": "The engine is where config.pbtxt says; Triton wants a folder per version.\n",
        **_model(postprocessing_config(tier, engine), "postprocessing"),
    }


def check_llm_api(tier: GpuTier) -> None:
    """Raises BuildError if the LLM API has no class for the tier's model."""
    model_class = tier.checkpoint.architecture.model_class
    if model_class not in _LLM_API_CLASSES:
        raise BuildError(
            f"Tier {tier.name} is a {model_class}, which the LLM API does not run; it runs {' and '.join(_LLM_API_CLASSES)}."
        )


def tier_config(tier: GpuTier, engine: EngineTier) -> ModelConfig:
    """The model that meets the tier contract."""
    return contract_model(
        tier.name,
        engine=engine.engine,
        gpu_device_ids=_ids(engine),
        ensemble=f"{tier.name}-ensemble",
        engine_model=f"{tier.name}-tensorrt_llm",
        max_completion_tokens=tier.settings.max_completion_tokens,
    )


def preprocessing_config(tier: GpuTier, engine: EngineTier) -> ModelConfig:
    config = python_model(f"{tier.name}-preprocessing", max_batch_size=1)
    _inputs(config, _REQUEST, needed=["text_input"])
    _outputs(config, _ENGINE_INPUTS)
    return with_parameters(config, **_tokens(tier, engine), **_limits(tier))


def postprocessing_config(tier: GpuTier, engine: EngineTier) -> ModelConfig:
    config = python_model(f"{tier.name}-postprocessing", max_batch_size=1)
    read = _ENGINE_OUTPUTS | {tensor: _ENGINE_INPUTS[tensor] for tensor in _REREAD}
    _inputs(config, read | {"stop_words": _REQUEST["stop_words"]}, needed=set(read) - {"output_log_probs"})
    _outputs(config, _ANSWER)
    return with_parameters(config, **_tokens(tier, engine))


def engine_config(tier: GpuTier, engine: EngineTier) -> ModelConfig:
    """TensorRT-LLM's own model, with the part of its template that is used here and nothing left to fill in.

    The three empty parameters must be there: the backend reads them without a default. normalize_log_probs is true by default,
    and then log-probabilities are among the top_k tokens alone: 0 for every greedy token.
    """
    batch = tier.settings.max_batch_size
    config = ModelConfig(name=f"{tier.name}-tensorrt_llm", backend="tensorrtllm", max_batch_size=batch)
    config.model_transaction_policy.decoupled = False
    config.dynamic_batching.preferred_batch_size.append(batch)
    config.dynamic_batching.max_queue_delay_microseconds = 0
    config.dynamic_batching.default_queue_policy.max_queue_size = 0
    inputs = _ENGINE_INPUTS | _LOG_PROBS_WANTED | {"stop": ("TYPE_BOOL", _ONE)}
    _inputs(config, inputs, needed=["input_lengths", "request_output_len"])
    for tensor in config.input:
        tensor.allow_ragged_batch = tensor.name in _RAGGED
        if list(tensor.dims) == [1]:
            tensor.reshape.SetInParent()
    _outputs(config, _ENGINE_OUTPUTS | _LOGITS)
    config.instance_group.add(kind="KIND_CPU", count=1)
    return with_parameters(
        config,
        FORCE_CPU_ONLY_INPUT_TENSORS="no",
        batch_scheduler_policy="guaranteed_no_evict",
        cancellation_check_period_ms=CANCELLATION_CHECK_PERIOD_MS,
        decoding_mode="top_k_top_p",
        enable_chunked_context="false",
        enable_kv_cache_reuse="true",
        exclude_input_in_output="true",
        executor_worker_path=_WORKER,
        gpt_model_path=engine.engine,
        gpt_model_type="inflight_fused_batching",
        gpu_device_ids=_ids(engine),
        guided_decoding_backend="",
        kv_cache_free_gpu_mem_fraction=KV_CACHE_FRACTION,
        max_beam_width=1,
        max_tokens_in_paged_kv_cache=engine.kv_cache_tokens,
        normalize_log_probs="false",
        stats_check_period_ms=100,
        tokenizer_dir="",
        xgrammar_tokenizer_info_path="",
    )


def ensemble_config(name: str) -> ModelConfig:
    """Writes one sequence: a prompt in, a text out. Triton passes the tensors from model to model."""
    config = ModelConfig(name=f"{name}-ensemble", platform="ensemble", max_batch_size=1)
    _inputs(config, _REQUEST | _LOG_PROBS_WANTED, needed=["text_input"])
    _outputs(config, _ANSWER)
    first, engine, last = (
        config.ensemble_scheduling.step.add(model_name=f"{name}-{part}", model_version=-1)
        for part in ("preprocessing", "tensorrt_llm", "postprocessing")
    )
    _connect(first.input_map, _REQUEST)
    _connect(first.output_map, _ENGINE_INPUTS, "_")
    _connect(engine.input_map, _ENGINE_INPUTS, "_")
    _connect(engine.input_map, _LOG_PROBS_WANTED)
    _connect(engine.output_map, _ENGINE_OUTPUTS, "_")
    _connect(last.input_map, [*_ENGINE_OUTPUTS, *_REREAD], "_")
    _connect(last.input_map, ["stop_words"])
    _connect(last.output_map, _ANSWER)
    return config


def llm_api_config(tier: GpuTier, engine: EngineTier) -> ModelConfig:
    """The only model of a tier that the LLM API runs."""
    return contract_model(
        tier.name,
        checkpoint=engine.engine,
        dtype=tier.settings.dtype,
        gpu_device_ids=_ids(engine),
        kv_cache_tokens=engine.kv_cache_tokens,
        kv_cache_share=KV_CACHE_FRACTION,
        max_batch_size=tier.settings.max_batch_size,
        **_tokens(tier, engine),
        **_limits(tier),
    )


def _ids(engine: EngineTier) -> str:
    return ",".join(map(str, engine.gpu_device_ids))


def _tokens(tier: GpuTier, engine: EngineTier) -> dict[str, object]:
    return {"tokenizer": engine.tokenizer, "end_tokens": json.dumps(tier.checkpoint.end_tokens)}


def _limits(tier: GpuTier) -> dict[str, object]:
    return {name: getattr(tier.settings, name) for name in ("max_input_tokens", "context_tokens", "max_completion_tokens")}


def _inputs(config: ModelConfig, tensors: Tensors, needed: Collection[str]) -> None:
    for name, (kind, dims) in tensors.items():
        config.input.add(name=name, data_type=kind, dims=dims, optional=name not in needed)


def _outputs(config: ModelConfig, tensors: Tensors) -> None:
    for name, (kind, dims) in tensors.items():
        config.output.add(name=name, data_type=kind, dims=dims)


def _connect(connections: Any, names: Any, prefix: str = "") -> None:
    """prefix: put before the names of tensors that are neither inputs nor outputs of the ensemble."""
    for name in names:
        connections[name] = prefix + name


def _model(config: ModelConfig, module: str) -> dict[str, str]:
    return {f"{config.name}/config.pbtxt": config_text(config), f"{config.name}/1/model.py": model_source(module)}
