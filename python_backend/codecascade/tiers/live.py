"""Live tiers: task → prompts → generated texts → candidates and test lines, however the model is reached."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from typing import TypeVar

from codecascade.deployment import Deployment
from codecascade.errors import NO_ANSWER, CascadeError, InvalidRequest
from codecascade.texts.holes import filled
from codecascade.texts.infills import fim_prompt, max_infill_tokens
from codecascade.texts.programs import candidate
from codecascade.texts.prompts import Prompt, lines_asked, solution_prompt, tests_prompt
from codecascade.texts.stdin import runnable
from codecascade.texts.test_lines import extract_test_lines
from codecascade.tiers.contract import Generate, GenerateRequest, Generation
from codecascade.tiers.going_on import go_on
from codecascade.types import Candidate, Plan, PlanStep, Sample, Task, TestLine, TierSamples

TEMPERATURE = 0.8  # for every step that is not greedy, as in the paper
TOP_P = 0.95
TOKENS_PER_TEST_LINE = 64  # room for one assert; only generated tokens are paid for
_CHARS_PER_TOKEN = 3  # of code, rather too few: where it is close, the code is sent once
_TESTS_SEED = 0x9E3779B97F4A7C15  # keeps the seeds of tests apart from those of solutions

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tier was asked and what it answered."""

    prompt: Prompt
    request: GenerateRequest
    generation: Generation


@dataclass(frozen=True, slots=True)
class _Sequences:
    """Which completions of a prompt are wanted."""

    tier: str
    greedy: bool
    numbers: range

    @classmethod
    def of(cls, step: PlanStep) -> _Sequences:
        return cls(step.tier, step.greedy, range(max(1, step.k)))


class LiveTiers:
    """The tiers of one live request. `generate` raises TierUnavailable or InvalidRequest."""

    def __init__(self, deployment: Deployment, generate: Generate, *, seed: int, max_tokens: int | None = None) -> None:
        self._deployment = deployment
        self._generate = generate
        self._seed = seed
        self._max_tokens = max_tokens

    async def sample(self, task: Task, step: PlanStep) -> TierSamples:
        """Ask for k solutions (1 if k = 0) and k test samples at the same time.

        When the call for tests fails, the solutions are paid for already: they are returned, untested.
        """
        if step.k == 0:
            return self._samples(task, await self.solutions(task, step))
        answered, tested = await both(self.solutions(task, step), self.tests(task, step))
        return self._with_tests(task, step, self._samples(task, answered), tested)

    async def add_tests(self, task: Task, step: PlanStep, samples: TierSamples) -> TierSamples:
        """The drawn samples with k test samples. When the call for them fails, the samples stay untested."""
        try:
            tested: Answer | CascadeError = await self.tests(task, step)
        except NO_ANSWER as error:
            tested = error
        return self._with_tests(task, step, samples, tested)

    def _with_tests(self, task: Task, step: PlanStep, samples: TierSamples, tested: Answer | CascadeError) -> TierSamples:
        if isinstance(tested, CascadeError):
            return replace(samples, problem=f"the tier wrote no tests: {tested}")
        lines: list[TestLine] = []
        for sample in tested.generation.samples:
            cut = sample.finish_reason == "length"
            modules = self._deployment.sandbox_modules
            found = extract_test_lines(task, tested.prompt, sample.text, step.lines_per_sample, cut=cut, modules=modules)
            lines += found.values()
        return replace(
            samples,
            test_lines=tuple(lines),
            prompt_tokens=samples.prompt_tokens + tested.generation.prompt_tokens,
            completion_tokens=samples.completion_tokens + _completion_tokens(tested.generation),
        )

    async def draw(self, task: Task, tier: str, number: int) -> TierSamples:
        """One solution, no tests. number: 0 for the greedy one; n for the n-th of those that a step of k > 1 samples."""
        wanted = _Sequences(tier, greedy=number == 0, numbers=range(max(0, number - 1), max(1, number)))
        return self._samples(task, await self._solutions(task, wanted))

    async def solutions(self, task: Task, step: PlanStep) -> Answer:
        """k solutions, 1 if k = 0."""
        return await self._solutions(task, _Sequences.of(step))

    async def _solutions(self, task: Task, wanted: _Sequences) -> Answer:
        tier = self._deployment.tiers[wanted.tier]
        limit = min(self._max_tokens or tier.max_completion_tokens, tier.max_completion_tokens)
        if task.infill:
            return await self._infill(task, wanted, min(limit, max_infill_tokens(task)))
        prompt, short = solution_prompt(tier.style, task), solution_prompt(tier.style, task, once=True)
        if len(prompt.text) / _CHARS_PER_TOKEN + limit > tier.context_tokens:
            prompt = short
        try:
            answer = await self._answer(wanted, prompt, limit)
        except InvalidRequest:
            if prompt == short:
                raise
            answer = await self._answer(wanted, short, limit)
        return await self._whole(task, answer)

    async def _infill(self, task: Task, wanted: _Sequences, limit: int) -> Answer:
        """What stands between prompt and suffix. Where they are too long for the context, the nearest lines are sent."""
        tier = self._deployment.tiers[wanted.tier]
        room = max(1, tier.context_tokens - limit) * _CHARS_PER_TOKEN
        try:
            return await self._answer(wanted, fim_prompt(tier.fim, task, room), limit)
        except InvalidRequest:
            if len(task.prompt) + len(task.suffix) <= room // _CHARS_PER_TOKEN:  # a character is a token at most
                raise
            return await self._answer(wanted, fim_prompt(tier.fim, task, room // _CHARS_PER_TOKEN), limit)

    async def tests(self, task: Task, step: PlanStep) -> Answer:
        """k test samples of lines_per_sample lines."""
        tier = self._deployment.tiers[step.tier]
        prompt = tests_prompt(tier.style, task, step.lines_per_sample)
        room = min(TOKENS_PER_TEST_LINE * lines_asked(step.lines_per_sample), tier.max_completion_tokens)
        asked = _request(_Sequences.of(step), prompt, max_tokens=room, seed=self._seed ^ _TESTS_SEED)
        request = replace(asked, max_lines=step.lines_per_sample)
        return Answer(prompt, request, await self._generate(request))

    async def _answer(self, wanted: _Sequences, prompt: Prompt, max_tokens: int) -> Answer:
        request = _request(wanted, prompt, max_tokens=max_tokens, seed=self._seed)
        return Answer(prompt, request, await self._generate(request))

    async def _whole(self, task: Task, answer: Answer) -> Answer:
        """The answer with what the model goes on to write (see going_on)."""

        def program(text: str) -> str:
            return filled(task, candidate(task, answer.prompt, text), ()).source

        return replace(answer, generation=await go_on(self._generate, answer.request, answer.generation, program))

    def _samples(self, task: Task, answered: Answer) -> TierSamples:
        samples = answered.generation.samples
        return TierSamples(
            candidates=tuple(self._candidate(task, answered.prompt, sample) for sample in samples),
            test_lines=(),
            prompt_tokens=answered.generation.prompt_tokens + sum(sample.continued_prompt_tokens for sample in samples),
            completion_tokens=_completion_tokens(answered.generation),
        )

    def _candidate(self, task: Task, prompt: Prompt, sample: Sample) -> Candidate:
        read = candidate(task, prompt, sample.text, cut=sample.finish_reason == "length")
        whole = read if task.infill else filled(task, read, self._deployment.sandbox_modules)
        return replace(runnable(task, whole), tokens=sample.completion_tokens, log_probs=sample.log_probs)


def _completion_tokens(generation: Generation) -> int:
    return sum(sample.completion_tokens for sample in generation.samples)


def _request(wanted: _Sequences, prompt: Prompt, *, max_tokens: int, seed: int) -> GenerateRequest:
    return GenerateRequest(
        tier=wanted.tier,
        text_input=prompt.text,
        literal_ranges=prompt.literal_ranges,
        stop_words=prompt.stop,
        max_tokens=max_tokens,
        temperature=0.0 if wanted.greedy else TEMPERATURE,
        top_p=TOP_P,
        seed=seed,
        num_return_sequences=len(wanted.numbers),
        first_sequence=wanted.numbers.start or None,
    )


def check_max_tokens(max_tokens: int | None, plan: Plan, deployment: Deployment) -> None:
    """Raises InvalidRequest unless max_tokens is None or within what the plan's largest tier writes."""
    allowed = max(deployment.tiers[tier].max_completion_tokens for tier in plan.tiers)
    if max_tokens is not None and not 1 <= max_tokens <= allowed:
        raise InvalidRequest(f"max_tokens is {max_tokens}, must be 1 to {allowed}")


async def both(solutions: Awaitable[T], tests: Awaitable[T]) -> tuple[T, T | CascadeError]:
    """Wait for both. The error of the tests takes their place; that of the solutions is raised, whichever fails first."""
    futures = asyncio.ensure_future(solutions), asyncio.ensure_future(tests)
    try:
        answered = await futures[0]
        try:
            return answered, await futures[1]
        except NO_ANSWER as error:
            return answered, error
    except BaseException:
        for future in futures:
            future.cancel()
        await asyncio.gather(*futures, return_exceptions=True)
        raise
