"""A tier's calls within what a request may spend (see codecascade.allowance)."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace

from codecascade.allowance import Allowance, Spent
from codecascade.deployment import Deployment
from codecascade.tiers.contract import DEFAULT_PRIORITY, Generate, GenerateRequest, Generation

_ADDED_TOKENS = 2  # that a tokenizer puts before a text: where it begins, and a space


def allowed(generate: Generate, deployment: Deployment, allowance: Allowance, priority: int = DEFAULT_PRIORITY) -> Generate:
    """`generate` for one request. It raises LimitReached too."""

    async def call(request: GenerateRequest) -> Generation:
        longest = min(
            len(request.text_input.encode("utf-8", "replace")) + _ADDED_TOKENS, deployment.tiers[request.tier].context_tokens
        )
        worst = allowance.tokens(request.tier, longest, request.num_return_sequences, request.max_tokens)

        def make(max_tokens: int) -> Awaitable[Generation]:
            return generate(replace(request, max_tokens=max_tokens, priority=priority))

        return await allowance.call(worst, make, _spent)

    return call


def _spent(generation: Generation) -> Spent:
    return Spent(generation.prompt_tokens, sum(sample.completion_tokens for sample in generation.samples))
