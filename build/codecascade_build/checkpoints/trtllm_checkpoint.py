"""Turns a model of the Hugging Face hub into a TensorRT-LLM checkpoint, one file per rank. Runs inside the TensorRT-LLM image.

Needs only TensorRT-LLM and its own dependencies. The number of ranks is fixed here: the engine has as many.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

MODEL_CLASSES = ("GPTJForCausalLM", "GPTForCausalLM", "LLaMAForCausalLM", "QWenForCausalLM")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-class", required=True, choices=MODEL_CLASSES, help="the class of tensorrt_llm.models")
    parser.add_argument("--model-dir", required=True, help="the folder with the model as transformers reads it")
    parser.add_argument("--output-dir", required=True, type=Path)
    parser.add_argument("--dtype", required=True, choices=("float16", "bfloat16"))
    parser.add_argument("--tp-size", required=True, type=int, help="ranks: GPUs that share the model")
    parser.add_argument("--gpt-variant", choices=("starcoder",), help="for GPTForCausalLM, whose kind its name does not tell")
    chosen = parser.parse_args(arguments)
    chosen.output_dir.mkdir(parents=True, exist_ok=True)
    write_checkpoint(chosen.model_class, chosen.model_dir, chosen.output_dir, chosen.dtype, chosen.tp_size, chosen.gpt_variant)


def write_checkpoint(
    model_class: str, model_dir: str, output_dir: Path, dtype: str, tp_size: int, gpt_variant: str | None
) -> None:
    """With gpt_variant the model is loaded here, because TensorRT-LLM would look for the variant in the folder's name."""
    import tensorrt_llm
    from tensorrt_llm.models.modeling_utils import QuantConfig

    converter = getattr(tensorrt_llm.models, model_class)
    source: Any = _loaded(model_dir, dtype) if gpt_variant else model_dir
    variant = {"gpt_variant": gpt_variant} if gpt_variant else {}
    for rank in range(tp_size):
        mapping = tensorrt_llm.Mapping(world_size=tp_size, rank=rank, tp_size=tp_size)
        model = converter.from_hugging_face(source, dtype=dtype, mapping=mapping, quant_config=QuantConfig(), **variant)
        model.save_checkpoint(str(output_dir), save_config=rank == 0)
        del model  # one rank at a time in memory
        print(f"rank {rank} of {tp_size} is written", flush=True)


def _loaded(model_dir: str, dtype: str) -> Any:
    import torch
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(model_dir, dtype=getattr(torch, dtype))


if __name__ == "__main__":
    main()
