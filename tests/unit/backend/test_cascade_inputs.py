"""The inputs of `cascade` have one list: both models' and the README's are the same."""

from __future__ import annotations

import re

from codecascade_build.paths import ROOT, WRITTEN_MODELS
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2


def config(model: str) -> model_config_pb2.ModelConfig:
    text = (WRITTEN_MODELS / model / "config.pbtxt").read_text(encoding="utf-8")
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_cascade_and_cascade_stream_have_the_same_inputs() -> None:
    assert list(config("cascade").input) == list(config("cascade_stream").input)
    assert config("cascade_stream").model_transaction_policy.decoupled


def test_the_readme_lists_every_input_and_output() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    part = text.partition("The model `cascade` is unary:")[2].partition("What is being written is what is tested")[0]
    listed = re.findall(r"^\| `(\w+)` \| (\w+)\[", part, re.MULTILINE)
    model = config("cascade")
    types = model_config_pb2.DataType.Name
    assert listed == [
        (tensor.name, types(tensor.data_type).removeprefix("TYPE_").replace("STRING", "BYTES"))
        for tensor in [*model.input, *model.output]
    ]
