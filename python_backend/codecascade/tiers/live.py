"""Live tiers: task → prompts → generated texts → candidates and test lines, however the model is reached."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

from codecascade.deployment import Deployment
from codecascade.errors import InvalidRequest
from codecascade.texts.programs import candidate
from codecascade.texts.prompts import Prompt, lines_asked, solution_prompt, tests_prompt
from codecascade.texts.test_lines import extract_test_lines
from codecascade.tiers.contract import Generate, GenerateRequest, Generation
from codecascade.types import Plan, PlanStep, Task, TestLine, TierSamples

TEMPERATURE = 0.8  # for every step that is not greedy, as in the paper
TOP_P = 0.95
TOKENS_PER_TEST_LINE = 64  # room for one assert; only generated tokens are paid for
_TESTS_SEED = 0x9E3779B97F4A7C15  # keeps the seeds of tests apart from those of solutions


class LiveTiers:
    """The tiers of one live request. `generate` raises TierUnavailable or InvalidRequest."""

    def __init__(self, deployment: Deployment, generate: Generate, *, seed: int, max_tokens: int | None = None) -> None:
        self._deployment = deployment
        self._generate = generate
        self._seed = seed
        self._max_tokens = max_tokens

    async def sample(self, task: Task, step: PlanStep) -> TierSamples:
        """Ask for k solutions (1 if k = 0) and k test samples at the same time."""
        tier = self._deployment.tiers[step.tier]
        limit = min(self._max_tokens or tier.max_completion_tokens, tier.max_completion_tokens)
        prompt = solution_prompt(tier.style, task)
        solutions = self._generate(self._request(step, prompt, max_tokens=limit, seed=self._seed))
        if step.k == 0:
            return _samples(task, prompt, await solutions)
        about = tests_prompt(tier.style, task, step.lines_per_sample)
        room = min(TOKENS_PER_TEST_LINE * lines_asked(step.lines_per_sample), tier.max_completion_tokens)
        asked = self._request(step, about, max_tokens=room, seed=self._seed ^ _TESTS_SEED)
        tests = self._generate(replace(asked, max_lines=step.lines_per_sample))
        answered, tested = await _both(solutions, tests)
        lines: list[TestLine] = []
        for sample in tested.samples:
            cut = sample.finish_reason == "length"
            lines += extract_test_lines(task, about, sample.text, step.lines_per_sample, cut=cut).values()
        return _samples(task, prompt, answered, tested, tuple(lines))

    def _request(self, step: PlanStep, prompt: Prompt, *, max_tokens: int, seed: int) -> GenerateRequest:
        return GenerateRequest(
            tier=step.tier,
            text_input=prompt.text,
            stop_words=prompt.stop,
            max_tokens=max_tokens,
            temperature=0.0 if step.greedy else TEMPERATURE,
            top_p=TOP_P,
            seed=seed,
            num_return_sequences=max(1, step.k),
        )


def check_max_tokens(max_tokens: int | None, plan: Plan, deployment: Deployment) -> None:
    """Raises InvalidRequest unless max_tokens is None or within what the plan's largest tier writes."""
    allowed = max(deployment.tiers[step.tier].max_completion_tokens for step in plan.steps)
    if max_tokens is not None and not 1 <= max_tokens <= allowed:
        raise InvalidRequest(f"max_tokens is {max_tokens}, must be 1 to {allowed}")


async def _both(solutions: Awaitable[Generation], tests: Awaitable[Generation]) -> tuple[Generation, Generation]:
    """Wait for both. An error of the solutions comes first, so the same failure always reads the same."""
    futures = asyncio.ensure_future(solutions), asyncio.ensure_future(tests)
    try:
        return await futures[0], await futures[1]
    except BaseException:
        for future in futures:
            future.cancel()
        await asyncio.gather(*futures, return_exceptions=True)
        raise


def _samples(
    task: Task, prompt: Prompt, answered: Generation, tested: Generation | None = None, lines: tuple[TestLine, ...] = ()
) -> TierSamples:
    generations = [answered] if tested is None else [answered, tested]
    return TierSamples(
        candidates=tuple(candidate(task, prompt, sample.text) for sample in answered.samples),
        test_lines=lines,
        prompt_tokens=sum(generation.prompt_tokens for generation in generations),
        completion_tokens=sum(sample.completion_tokens for generation in generations for sample in generation.samples),
    )
