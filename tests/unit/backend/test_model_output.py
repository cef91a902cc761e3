"""Extraction of what real models wrote: fences, chatter, repeated headers, usage, tabs, cut texts. See model_output/README.md."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from codecascade.texts import prompts
from codecascade.texts.programs import candidate
from codecascade.texts.prompts import Prompt, solution_prompt
from codecascade.texts.test_lines import extract_test_lines as asserts_of
from codecascade.types import Task

OUTPUTS = json.loads((Path(__file__).parent / "model_output" / "outputs.json").read_text(encoding="utf-8"))
UNPRIMED = Prompt(text="", prefix="", stop=())


def of_kind(kind: str) -> list[Any]:
    return [
        pytest.param(output, id=f"{output['model']}: {output['name']}: {output['asked']}")
        for output in OUTPUTS
        if output["kind"] == kind
    ]


def extracted_program(output: dict[str, Any]) -> str:
    task = Task(output["prompt"], output["entry_point"])
    prompt = UNPRIMED if output["style"] == "chat" else solution_prompt(output["style"], task)
    return candidate(task, prompt, output["completion"]).source


@pytest.mark.parametrize("output", of_kind("solution"))
def test_the_program_of_a_real_solution_does_what_the_model_wrote(output: dict[str, Any]) -> None:
    names: dict[str, Any] = {"__name__": "candidate"}
    exec(compile(extracted_program(output), "<candidate>", "exec"), names)
    assert {call: repr(eval(call, names)) for call in output["calls"]} == output["calls"]


@pytest.mark.parametrize("output", [param for param in of_kind("solution") if param.values[0]["entry_point"]])
def test_the_program_of_a_real_solution_keeps_the_prompts_own_code_and_tries_nothing_out(output: dict[str, Any]) -> None:
    program = extracted_program(output)
    assert program.startswith(output["prompt"].rstrip())
    assert not [node for node in ast.parse(program).body if isinstance(node, (ast.Expr, ast.If, ast.For, ast.Assert))]


@pytest.mark.parametrize("output", of_kind("tests"))
def test_the_lines_of_a_real_test_sample_are_its_first_four_whole_asserts(output: dict[str, Any]) -> None:
    task = Task(output["prompt"], output["entry_point"])
    prompt = UNPRIMED if output["style"] == "chat" else prompts.tests_prompt(output["style"], task, 4)
    assert [line.source for line in asserts_of(task, prompt, output["completion"], 4, cut=False).values()] == output["lines"]
