"""Cases of programs that read standard input: as callers send them, and as problem statements show them."""

from __future__ import annotations

import json

import pytest
from codecascade.errors import InvalidRequest
from codecascade.texts.cases import Case, caller_cases, sample_cases


def test_a_case_is_a_json_object_of_two_texts() -> None:
    sent = ['{"input": "3 4\\n", "output": "7"}', '{"output": "", "input": ""}']
    assert caller_cases(sent) == (Case("3 4\n", "7"), Case("", ""))


@pytest.mark.parametrize(
    "text",
    [
        "3 4",
        "null",
        '["3 4", "7"]',
        '{"input": "3 4"}',
        '{"input": "3 4", "output": 7}',
        '{"input": ["3", "4"], "output": "7"}',
        '{"input": "3 4", "output": "7", "name": "first"}',
        '{"input": "\\ud800", "output": "7"}',
        "[" * 100_000,
    ],
)
def test_any_other_case_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        caller_cases(['{"input": "", "output": ""}', text])
    shown = text if len(text) <= 60 else "[" * 60 + "…"
    assert str(refused.value) == f"cases[1] is {shown!r}, must be a JSON object of two texts, input and output"


def test_too_many_cases_are_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"^cases has 1,001 elements, must have 1,000 or fewer$"):
        caller_cases([json.dumps({"input": "", "output": ""})] * 1_001)


DESCRIBED = """\
You are given numbers. Print their sum.

-----Input-----
The first line holds n. The second one holds n numbers.

-----Output-----
Print one number.

"""


@pytest.mark.parametrize(
    ("statement", "cases"),
    [
        ("-----Examples-----\nInput\n2\n3 4\n\nOutput\n7\n\nInput\n1\n5\nOutput\n5\n\n-----Note-----\n3 and 4 is 7.\n",
         [Case("2\n3 4\n", "7"), Case("1\n5\n", "5")]),
        ("-----Sample Input-----\n2\n3 4\n\n-----Sample Output-----\n7\n\nThe numbers are 3 and 4, so it is 7.\n",
         [Case("2\n3 4\n", "7")]),
        ("-----Sample Input:-----\n2\n\n3 4\n\n-----Sample Output:-----\n7\n\n8\n\n-----EXPLANATION:-----\nNone.\n",
         [Case("2\n3 4\n", "7\n8")]),
        ("-----Sample Input 1-----\nab c\n-----Sample Output 1-----\nYES\nNO\n-----Sample Input 2-----\nd\n"
         "-----Sample Output 2-----\nNO\n", [Case("ab c\n", "YES\nNO"), Case("d\n", "NO")]),
        ("-----Example-----\nSample Input:\n2\n3 4\nSample Output:\n7\n", [Case("2\n3 4\n", "7")]),
        ("### Example 1\n**Input**\n```\n2\n3 4\n```\n**Output**\n```\n7\n```\n**Explanation**\nIt is 7.\n",
         [Case("2\n3 4\n", "7")]),
        ("Example:\n    Input: 3 4\n    Output: 7\n", [Case("3 4\n", "7")]),
        ("Sample Input\n    #.\n     #\nSample Output\n    2\n", [Case("#.\n #\n", "2")]),
        ("Input:\n3 4\nOutput:\n7\n", [Case("3 4\n", "7")]),  # numbers alone are no description
        ("Example\nInput\n\nOutput\nHello\n", [Case("\n", "Hello")]),
        ("Examples\nInput\n1\nOutput\n2\nInput\n1\nOutput\n2\n", [Case("1\n", "2")]),
        ("Example\nInput\n1\nOutput\n2 2\n\n2 3\n3 3\n\nNote\nTwo blocks.\n", [Case("1\n", "2 2\n\n2 3\n3 3")]),
    ],
)  # fmt: skip
def test_samples_of_a_statement_are_cases(statement: str, cases: list[Case]) -> None:
    assert sample_cases(DESCRIBED + statement) == tuple(cases)


@pytest.mark.parametrize(
    "statement",
    [
        DESCRIBED,
        "Input: two numbers\nOutput: their sum\n",
        "Input\nA line of text.\nOutput\nThe line, backwards.\n",
        "-----Sample Input-----\n3 4\n\n-----Note-----\nThe output is left to you.\n",
        "-----Sample Output-----\n3 4\n",
        "Example: In the first example the input is 3 and the output is 4.\n",
        "-----Examples-----\nSee below.\n-----Input Format-----\nn\n-----Output Format-----\nthe sum\n",
        "Reads the input and gives the output.",
    ],
)
def test_what_describes_input_and_output_is_no_sample(statement: str) -> None:
    assert sample_cases(statement) == ()


@pytest.mark.parametrize(
    "statement",
    [
        "".join(f"Sample Input\n{n}\nSample Output\n{n}\n" for n in range(2_000)),
        "-" * 60_000 + "Sample Input" + "-" * 60_000 + "x\noutput",
        "Sample Input:" + " " * 60_000 + "x\nSample Output:" + "-1" * 30_000,
        "Input\n" + "1-" * 30_000 + "x\nOutput\n" + " \n" * 30_000,
    ],
)
def test_a_long_statement_has_few_samples(statement: str) -> None:
    assert len(sample_cases(statement)) <= 50
