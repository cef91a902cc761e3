"""Tiers as their weights under transformers, without a server: a GPU answers thousands of prompts at a time.

This is for recording, where thousands of units wait. A lone caller would wait far longer than at a server.
"""

from __future__ import annotations

import asyncio
import hashlib
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from codecascade.errors import TierUnavailable
from codecascade.tiers.contract import GenerateRequest, Generation
from codecascade.tiers.gguf import read_vocabulary
from codecascade.tiers.trtllm.tokenizer import tokenizer_of
from codecascade.tiers.trtllm.tokens import Tokenizer, completion, line_ends, prompt_ids, with_lines
from codecascade.types import LogProbs, Sample

MAX_ROWS = 768  # sequences that are written at a time: what 80 GB hold of a 1.5B model's
_TOP_TOKENS = 2_000  # the likeliest tokens, among which one is drawn; top_p leaves fewer in almost every case
# The tokens at which llama.cpp ends a text, where a vocabulary has them.
_END_TOKENS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "</s>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>")


def weights_of(folder: Path, hashes: Mapping[str, str | None]) -> dict[str, Path]:
    """The GGUF file of every tier, by its SHA-256. Raises TierUnavailable."""
    files: dict[str | None, Path] = {}
    for path in sorted(folder.glob("*.gguf")):
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            files[hashlib.sha256(content).hexdigest()] = path
    for tier, wanted in hashes.items():
        if wanted is None or wanted not in files:
            raise TierUnavailable(f"tier {tier}: no GGUF file in {folder} has its SHA-256, which is {wanted}")
    return {tier: files[wanted] for tier, wanted in hashes.items()}


def runtime_on(device: str) -> str:
    """What a recording's provenance says of these tiers."""
    import torch

    return f"transformers, {torch.cuda.get_device_name(device) if device.startswith('cuda') else device}"


class WeightsTiers:
    """`generate` of tiers whose GGUF weights are here. Everything that waits for a tier is written together."""

    def __init__(self, weights: Mapping[str, Path], context_tokens: Mapping[str, int], device: str) -> None:
        """weights, context_tokens: by tier. device: as torch names it. Raises TierUnavailable."""
        self._tiers = {tier: Batches(tier, *_load(tier, path, device), context_tokens[tier]) for tier, path in weights.items()}

    async def __aenter__(self) -> WeightsTiers:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def generate(self, request: GenerateRequest) -> Generation:
        """Greedy texts are the same in any company up to rounding; a sampled one depends on its seed alone, up to rounding.

        Raises InvalidRequest if the prompt does not fit into the context.
        """
        return await self._tiers[request.tier].generate(request)


@dataclass(slots=True, eq=False)
class _Row:
    """A sequence that is being written."""

    request: GenerateRequest
    prompt: Sequence[int]
    limit: int
    seed: int
    done: asyncio.Future[Sample]
    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    stopped: bool = False


class Batches:
    """One model of transformers (`AutoModelForCausalLM`), on its device. A batch that its memory does not hold is halved."""

    def __init__(self, name: str, model: Any, tokenizer: Tokenizer, context_tokens: int) -> None:
        self._name, self._context_tokens = name, context_tokens
        self._model, self._tokenizer, self._device = model, tokenizer, model.device
        self._waiting: list[_Row] = []
        self._writing: asyncio.Task[None] | None = None
        self._line_ends = lru_cache(None)(lambda token: len(line_ends(self._tokenizer, [token])))

    async def generate(self, request: GenerateRequest) -> Generation:
        prompt = prompt_ids(self._tokenizer, request.text_input, request.literal_ranges, self._context_tokens - 1)
        limit = min(request.max_tokens, self._context_tokens - len(prompt))
        loop = asyncio.get_running_loop()
        rows = [_Row(request, prompt, limit, seed, loop.create_future()) for seed in request.seeds]
        self._waiting += rows
        if self._writing is None or self._writing.done():
            self._writing = asyncio.ensure_future(self._write_all())
        return Generation(tuple(await asyncio.gather(*(row.done for row in rows))), len(prompt))

    async def _write_all(self) -> None:
        await asyncio.sleep(0)  # let every caller that is ready add its rows
        while self._waiting:
            self._waiting.sort(key=lambda row: row.limit)  # short ones together
            rows, self._waiting = self._waiting[:MAX_ROWS], self._waiting[MAX_ROWS:]
            try:
                await asyncio.to_thread(self._write_halved, rows)
            except Exception as error:
                failure = TierUnavailable(f"tier {self._name}: {type(error).__name__}: {str(error).splitlines()[0]}")
                for row in rows:
                    row.done.set_exception(failure)
                continue
            for row in rows:
                row.done.set_result(self._sample(row))
            await asyncio.sleep(0)

    def _write_halved(self, rows: list[_Row]) -> None:
        import torch

        try:
            self._write(rows)
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                raise
        else:
            return
        torch.cuda.empty_cache()
        for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
            for row in half:
                row.ids, row.log_probs, row.stopped = [], [], False
            self._write_halved(half)

    def _write(self, rows: list[_Row]) -> None:
        """Write all rows to their ends, token by token."""
        import torch

        with torch.inference_mode():
            width = max(len(row.prompt) for row in rows)
            ids = torch.zeros((len(rows), width), dtype=torch.long)
            mask = torch.zeros((len(rows), width), dtype=torch.long)
            for number, row in enumerate(rows):
                ids[number, width - len(row.prompt) :] = torch.tensor(row.prompt)
                mask[number, width - len(row.prompt) :] = 1
            ids, mask = ids.to(self._device), mask.to(self._device)
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            answer = self._model(ids, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1)
            cache, logits, positions = answer.past_key_values, answer.logits[:, -1].float(), positions[:, -1:]
            draws = _Draws(rows, self._device)
            while True:
                tokens, log_probs = draws.next(logits)
                kept = [n for n, row in enumerate(rows) if self._goes_on(row, tokens[n], log_probs[n])]
                if not kept:
                    return
                written = torch.tensor([[tokens[n]] for n in kept], device=self._device)
                if len(kept) < len(rows):
                    index = torch.tensor(kept, device=self._device)
                    rows = [rows[n] for n in kept]
                    cache.batch_select_indices(index)
                    mask, positions = mask[index], positions[index]
                    draws.keep(index)
                mask = torch.cat([mask, mask.new_ones((len(rows), 1))], 1)
                positions = positions + 1
                answer = self._model(written, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True)
                cache, logits = answer.past_key_values, answer.logits[:, -1].float()

    def _goes_on(self, row: _Row, token: int, log_prob: float) -> bool:
        """Add a token to a row. Whether there is more to write."""
        row.ids.append(token)
        row.log_probs.append(log_prob)
        if token in self._tokenizer.end_ids or len(row.ids) >= row.limit:
            return False
        request = row.request
        if request.max_lines is not None and sum(map(self._line_ends, row.ids)) >= request.max_lines:
            return False
        longest = max((len(word) for word in request.stop_words), default=0)
        tail = self._tokenizer.text(row.ids[-longest - 1 :])  # a token is a character at least, but for parts of one
        row.stopped = any(word in tail for word in request.stop_words)
        return not row.stopped

    def _sample(self, row: _Row) -> Sample:
        sequences = [tuple(row.ids[-1:])] if row.stopped else []
        whole = completion(self._tokenizer, row.ids, limit=row.limit, stop_words=row.request.stop_words, sequences=sequences)
        sample = with_lines(self._tokenizer, row.ids, whole, row.request.max_lines)
        return replace(sample, log_probs=LogProbs.of(row.log_probs))


class _Draws:
    """Which token each row gets."""

    def __init__(self, rows: Sequence[_Row], device: str) -> None:
        import torch

        self._step = 0
        longest = max(row.limit for row in rows)
        drawn = np.stack([np.random.Generator(np.random.Philox(row.seed)).random(longest, np.float32) for row in rows])
        self._drawn = torch.from_numpy(drawn).to(device)
        self._temperature = torch.tensor([row.request.temperature for row in rows], device=device)
        self._top_p = torch.tensor([row.request.top_p for row in rows], device=device)

    def keep(self, index: Any) -> None:
        self._drawn, self._temperature, self._top_p = self._drawn[index], self._temperature[index], self._top_p[index]

    def next(self, logits: Any) -> tuple[list[int], list[float]]:
        """The tokens, and their log-probabilities at temperature 1. logits: (rows, vocabulary)."""
        import torch

        greedy = self._temperature == 0
        chosen = logits.argmax(-1)
        if not bool(greedy.all()):
            likely, tokens = logits.topk(min(_TOP_TOKENS, logits.shape[-1]))
            shares = torch.softmax(likely / self._temperature.clamp(min=1e-6)[:, None], -1)
            before = shares.cumsum(-1) - shares
            shares = shares.masked_fill(before >= self._top_p[:, None], 0.0).cumsum(-1)
            drawn = self._drawn[:, self._step, None] * shares[:, -1:]
            place = torch.searchsorted(shares, drawn, right=True).clamp(max=shares.shape[-1] - 1)
            chosen = torch.where(greedy, chosen, tokens.gather(1, place)[:, 0])
        self._step += 1
        log_probs = logits.gather(1, chosen[:, None])[:, 0] - logits.logsumexp(-1)
        return chosen.tolist(), log_probs.tolist()


def _load(name: str, weights: Path, device: str) -> tuple[Any, Tokenizer]:
    """The model in 32-bit numbers, whose products a GPU may round to 10 bits of fraction, and its tokenizer."""
    try:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_float32_matmul_precision("high")
        model = AutoModelForCausalLM.from_pretrained(str(weights.parent), gguf_file=weights.name, dtype=torch.float32)
        return model.to(device).eval(), tokenizer_in(weights)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise TierUnavailable(f"tier {name}: the weights file {weights} cannot be loaded by transformers: {reason}") from error


def tokenizer_in(weights: Path) -> Tokenizer:
    """The tokenizer of a GGUF file. Its special tokens are all that llama.cpp takes for such; transformers knows a few."""
    from tokenizers import AddedToken
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(str(weights.parent), gguf_file=weights.name)
    known = loaded.get_vocab()
    special = [name for name in read_vocabulary(weights).special if name in known]
    loaded.add_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    return tokenizer_of(loaded, [token for token in _END_TOKENS if token in known])
