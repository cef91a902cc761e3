"""Blind and tick mode both pass HumanEval's own solutions, and neither passes a wrong expectation."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from codecascade.sandbox import SandboxPool
from codecascade.types import Candidate, TestLine, Verdict

from tests.sandbox.human_eval_lines import Problem, problems

pytestmark = pytest.mark.asyncio(loop_scope="module")

Pools = tuple[SandboxPool, SandboxPool]  # blind, tick


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def pools() -> AsyncIterator[Pools]:
    async with SandboxPool(1) as blind, SandboxPool(1, blind=False) as tick:
        yield blind, tick


@pytest.mark.parametrize("problem", problems(), ids=lambda problem: problem.name)
async def test_both_modes_pass_the_canonical_solution(pools: Pools, problem: Problem) -> None:
    for pool in pools:
        matrix = await pool.run([Candidate(problem.source)], [TestLine(line) for line in problem.lines])
        assert matrix.passed.all(), matrix
        assert matrix.endings == ("finished",)


async def test_most_asserts_of_human_eval_are_judged_blind(pools: Pools) -> None:
    lines = [TestLine(line) for problem in problems() for line in problem.lines]
    blind, _ = pools
    modes = (await blind.run([Candidate("")], lines[:2000])).modes
    assert modes.count("blind") / len(lines) > 0.94


@pytest.mark.parametrize("problem", problems()[::4], ids=lambda problem: problem.name)
async def test_neither_mode_passes_a_wrong_expectation(pools: Pools, problem: Problem) -> None:
    wrong = [f"assert not ({line.removeprefix('assert ')})" for line in problem.lines if ", '" not in line]
    for pool in pools:
        matrix = await pool.run([Candidate(problem.source)], [TestLine(line) for line in wrong])
        assert set(matrix.verdicts.ravel()) <= {Verdict.FAIL}, matrix
