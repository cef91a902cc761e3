"""What the cascade answered → what clients expect."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from codecascade_client.answers import Completion, Plans
from codecascade_client.gateway.ask import MODEL, Asked, model_of


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, in the form of OpenAI's completions or of its chat."""

    asked: Asked
    chat: bool = False
    number: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, completion: Completion) -> dict[str, Any]:
        text, reason = self.asked.text_of(completion), finish_reason(completion)
        message = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        choice = {"index": 0, **message, "logprobs": None, "finish_reason": reason}
        return {**self._head(), "choices": [choice], "usage": usage(completion), "codecascade": extension(self.asked, completion)}

    def chunks(self, completion: Completion, with_usage: bool) -> list[dict[str, Any]]:
        """What a stream says of an answer: its text, why it ended, and what it cost."""
        last = {"codecascade": extension(self.asked, completion)}
        told = [self._chunk(self.asked.text_of(completion), None), {**self._chunk("", finish_reason(completion)), **last}]
        return [*told, {**self._head(".chunk"), "choices": [], "usage": usage(completion)}] if with_usage else told

    def _chunk(self, text: str, reason: str | None) -> dict[str, Any]:
        delta = {"delta": {"role": "assistant", "content": text} if text else {}} if self.chat else {"text": text}
        return {**self._head(".chunk"), "choices": [{"index": 0, **delta, "logprobs": None, "finish_reason": reason}]}

    def _head(self, chunk: str = "") -> dict[str, Any]:
        name, kind = ("chatcmpl", f"chat.completion{chunk}") if self.chat else ("cmpl", "text_completion")
        return {"id": f"{name}-{self.number}", "object": kind, "created": self.created, "model": self.asked.model}


def headers(completion: Completion) -> dict[str, str]:
    trace = completion.trace or {}
    return {
        "X-Codecascade-Tier": completion.tier,
        "X-Codecascade-Plan": str(trace.get("plan", "")),
        "X-Codecascade-Cost-Usd": f"{completion.cost_usd:.9f}",
    }


def finish_reason(completion: Completion) -> str:
    """In OpenAI's words, which know no limit but length. The extension has ours."""
    return "stop" if completion.finish_reason == "stop" else "length"


def usage(completion: Completion) -> dict[str, int]:
    """Tokens that all tiers read and wrote: what is paid for."""
    read, written = (sum(_tokens(completion)[kind].values()) for kind in ("prompt_tokens", "completion_tokens"))
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def extension(asked: Asked, completion: Completion) -> dict[str, Any]:
    """What the answer says beyond OpenAI's fields."""
    trace = completion.trace or {}
    told = {
        "tier": completion.tier,
        "plan": trace.get("plan"),
        "score": completion.score,
        "cost_usd": completion.cost_usd,
        "tokens": _tokens(completion),
        "finish_reason": completion.finish_reason,
        "note": trace.get("note"),
        "ignored": list(asked.ignored),
    }
    return {**told, "trace": trace} if asked.traced else told


def infilled(asked: Asked, completion: Completion) -> dict[str, Any]:
    """llama.cpp's answer."""
    tokens = usage(completion)
    spent_ms = (completion.trace or {}).get("wall_ms", 0.0)
    written = tokens["completion_tokens"]
    return {
        "content": asked.text_of(completion),
        "stop": True,
        "stop_type": "eos" if completion.finish_reason == "stop" else "limit",
        "model": asked.model,
        "tokens_evaluated": tokens["prompt_tokens"],
        "tokens_predicted": written,
        "tokens_cached": 0,
        "truncated": False,
        "generation_settings": {},
        "timings": {
            "prompt_n": tokens["prompt_tokens"],
            "prompt_ms": 0.0,
            "prompt_per_second": 0.0,
            "predicted_n": written,
            "predicted_ms": spent_ms,
            "predicted_per_second": written / spent_ms * 1e3 if spent_ms else 0.0,
        },
        "codecascade": extension(asked, completion),
    }


def nothing_infilled() -> dict[str, Any]:
    """llama.cpp's answer without a token: to a request that only fills its cache, or where the time was over."""
    return {"content": "", "stop": True, "stop_type": "limit", "model": MODEL, "tokens_predicted": 0, "truncated": False}


def tabby_completion(reply: Reply, completion: Completion) -> dict[str, Any]:
    return {"id": f"cmpl-{reply.number}", "choices": [{"index": 0, "text": reply.asked.text_of(completion)}]}


def models(plans: Plans) -> list[dict[str, Any]]:
    """The default plan under the plain name, and every plan under its own."""
    named = [(MODEL, plans.default), *((model_of(name), name) for name in plans.plans)]
    return [_model(model, plan, plans.plans.get(plan, {})) for model, plan in named]


def _model(model: str, plan: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": model, "object": "model", "created": 0, "owned_by": MODEL, "codecascade": {"plan": plan, **entry}}


def _tokens(completion: Completion) -> dict[str, dict[str, int]]:
    cost = (completion.trace or {}).get("cost", {})
    return {kind: dict(cost.get(kind, {})) for kind in ("prompt_tokens", "completion_tokens")}
