"""What this machine has to build engines with: the image's packages and its GPUs, checked before anything runs."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codecascade_build.engine.contract import VERSION
from codecascade_build.engine.steps import IMAGE, Places, Step
from codecascade_build.errors import BuildError
from codecascade_build.gpus import MIB, Gpu

_LOADABLE = 0.9  # the share of the GPUs' memory that weights may fill; the rest is for activations
_PACKAGES = ("tensorrt_llm", "tensorrt", "torch", "transformers", "nvidia-modelopt")
_MODULES = ("tensorrt_llm", "torch", "transformers", "safetensors", "typer", "rich")
_PROBE = f"""
import importlib.metadata, importlib.util, json
versions = {{}}
for package in {_PACKAGES!r}:
    try:
        versions[package] = importlib.metadata.version(package).partition(".post")[0]
    except importlib.metadata.PackageNotFoundError:
        pass
missing = [module for module in {_MODULES!r} if importlib.util.find_spec(module) is None]
print(json.dumps({{"versions": versions, "missing": missing}}))
"""


@dataclass(frozen=True, slots=True)
class Toolchain:
    """What runs the steps."""

    versions: Mapping[str, str]
    """The image's packages by name."""
    sm: int
    """The GPUs' compute capability."""
    gpu_bytes: int
    """The memory of all GPUs together."""

    def of(self, step: Step) -> dict[str, Any]:
        """The part that a step's outputs depend on."""
        if step.where == "here":
            return {}
        return {**self.versions, **({"sm": self.sm} if step.where == "gpu" else {})}


def toolchain(gpu: Gpu, places: Places, run: Callable[[Sequence[str]], str] | None = None) -> Toolchain:
    """Looks at this machine. Raises BuildError if it is not the pinned image with that kind of GPU.

    run: runs a command and returns its output.
    """
    run = run or _output
    dry = "`make engines DRY_RUN=1` prints the commands without running them"
    try:
        image = json.loads(run([places.python, "-c", _PROBE]))
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise BuildError(f"{places.python} does not run ({error}); {dry}.") from error
    if "tensorrt_llm" in image["missing"]:
        raise BuildError(
            f"{places.python} cannot import tensorrt_llm: engines are built inside the image {IMAGE} or one made from it; {dry}."
        )
    if image["missing"]:
        raise BuildError(
            f"{places.python} cannot import {', '.join(image['missing'])}, which build steps need: use the image of "
            "build/images/Dockerfile.tensorrt_llm, which has them."
        )
    version = image["versions"].get("tensorrt_llm")
    if version != VERSION:
        raise BuildError(f"TensorRT-LLM {version} is installed here, and the recipes are for {VERSION}: use the image {IMAGE}.")
    try:
        listing = run(["nvidia-smi", "--query-gpu=compute_cap,memory.total", "--format=csv,noheader,nounits"])
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(f"nvidia-smi shows no GPU here ({error}); engines are built on the GPU they run on; {dry}.") from error
    gpus = re.findall(r"^\s*(\d+)\.(\d), (\d+)\s*$", listing, re.MULTILINE)
    sms = [int(major) * 10 + int(minor) for major, minor, _ in gpus]
    if set(sms) != {gpu.sm}:
        has = f"have SM {', '.join(map(str, sms))}" if sms else "are none"
        raise BuildError(
            f"GPU={gpu.name} is {gpu.title} (SM {gpu.sm}), and the GPUs here {has}; "
            f"engines are built on the kind of GPU that they run on; {dry}."
        )
    return Toolchain(image["versions"], gpu.sm, sum(int(mib) for _, _, mib in gpus) * MIB)


def count_gpus() -> int:
    """The GPUs of this machine. Raises BuildError if there are none to be seen."""
    try:
        return len(_output(["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]).split())
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(f"nvidia-smi shows no GPU here ({error}); say how many the server has: GPUS=…") from error


def check_quantizer(steps: Sequence[Step], places: Places, tools: Toolchain) -> None:
    """Raises BuildError if a step needs ModelOpt's script and it is not where it should be, or more memory than there is."""
    for step in steps:
        if step.gpu_bytes > tools.gpu_bytes * _LOADABLE:
            raise BuildError(
                f"The {step} loads {step.gpu_bytes / 1e9:,.0f} GB of weights before it makes them small, and the GPUs here have "
                f"{tools.gpu_bytes / 1e9:,.0f} GB together; run it on a machine with more GPUs of this kind."
            )
    if any(step.name == "quantize" for step in steps) and not places.quantize.is_file():
        other = "/app/tensorrt_llm/examples/quantization/quantize.py"
        raise BuildError(f"{places.quantize} is not there; name it with QUANTIZE=… (some images have {other}).")


def _output(argv: Sequence[str]) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout
