"""The project's own GGUF of Qwen2.5-Coder-0.5B as a folder that transformers reads: real weights without another download.

Run as a program, so that a test run needs no second copy of the model in memory: python checkpoint.py GGUF FOLDER
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any


def checkpoint(gguf: Path, sha256: str, cache: Path) -> Path:
    """The converted folder, made once: cache/<sha256>."""
    folder = cache / sha256
    if not folder.exists():
        argv = [sys.executable, __file__, str(gguf), str(folder)]
        subprocess.run(argv, env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=True)
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    where: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True}
    config = AutoConfig.from_pretrained(gguf.parent, **where)
    with torch.device("meta"):
        names = AutoModelForCausalLM.from_config(config)
    tensors = load_gguf_checkpoint(str(gguf), return_tensors=True, model_to_load=names)["tensors"]
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(tensors)  # strict: every tensor, and none beside them
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    model.save_pretrained(unfinished)
    AutoTokenizer.from_pretrained(gguf.parent, **where).save_pretrained(unfinished)
    with contextlib.suppress(OSError):  # another test run was faster
        unfinished.replace(folder)
    shutil.rmtree(unfinished, ignore_errors=True)


if __name__ == "__main__":
    _convert(Path(sys.argv[1]), Path(sys.argv[2]))
