"""Lets a model go on where a stop word cut off what its answer needs: a helper below the function, or an import.

Stop words end an answer where new top-level code begins, which is hardly ever wanted. Where the answer reads a name that nothing
binds, that code may bind it. Then the model is asked once more, with its own answer in the prompt. Both calls are paid for.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace

from codecascade.errors import NO_ANSWER
from codecascade.texts.names import unresolved_names
from codecascade.texts.prompts import NEW_CODE, STOP_BELOW_NEW_CODE
from codecascade.tiers.contract import Generate, GenerateRequest, Generation
from codecascade.types import Sample


async def go_on(generate: Generate, request: GenerateRequest, answered: Generation, program: Callable[[str], str]) -> Generation:
    """The answer, each of its samples with what the model went on to write, where it had to.

    program: the program in a sample's text. A sample stays as it is where the second call fails.
    """

    async def whole(seed: int, sample: Sample) -> Sample:
        left = request.max_tokens - sample.completion_tokens
        if left < 1 or sample.stop_word not in NEW_CODE or not unresolved_names(program(sample.text)):
            return sample
        written = sample.text + sample.stop_word.rstrip(" ")  # models write a space and what follows it as one token
        try:
            more = await generate(_continued(request, written, left, seed))
        except NO_ANSWER:
            return sample
        return _joined(sample, written, more)

    samples = await asyncio.gather(*itertools.starmap(whole, zip(request.seeds, answered.samples, strict=True)))
    return replace(answered, samples=tuple(samples))


def _continued(request: GenerateRequest, written: str, max_tokens: int, seed: int) -> GenerateRequest:
    """What the model wrote is no part of the template: special tokens in it are plain text."""
    start = len(request.text_input.encode())
    starts = request.literal_ranges
    starts = starts[:-1] if starts and starts[-1] == start else (*starts, start)
    return replace(
        request,
        text_input=request.text_input + written,
        literal_ranges=(*starts, start + len(written.encode())),
        stop_words=STOP_BELOW_NEW_CODE,
        max_tokens=max_tokens,
        seed=seed,
        num_return_sequences=1,
        first_sequence=None,
    )


def _joined(sample: Sample, written: str, more: Generation) -> Sample:
    (second,) = more.samples
    return Sample(
        text=written + second.text,
        completion_tokens=sample.completion_tokens + second.completion_tokens,
        finish_reason=second.finish_reason,
        stop_word=second.stop_word,
        continued_prompt_tokens=more.prompt_tokens,
        log_probs=sample.log_probs and second.log_probs and sample.log_probs.and_then(second.log_probs),
    )
