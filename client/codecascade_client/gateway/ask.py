"""What clients send → what the cascade is asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from markdown_it import MarkdownIt

from codecascade_client.answers import Completion
from codecascade_client.errors import RequestFailed
from codecascade_client.gateway.bodies import ChatBody, CompletionBody, Controls, InfillBody, Message, controls_of, ignored
from codecascade_client.gateway.errors import refused
from codecascade_client.request import Options

MODEL = "codecascade"
_OF_INFILLS = ("suffix", "language", "one_line")
_NO_INFILLS = "no tokens for fill-in-the-middle"
_TOO_MANY_TOKENS = re.compile(r"max_tokens is \d+, must be 1 to (?P<most>\d+)")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to the cascade, and how its answer is to be told."""

    prompt: str
    options: Options
    model: str = MODEL
    stops: tuple[str, ...] = ()
    """Texts at which the answer ends."""
    before: str = ""
    """What stands before the answer: the prompt, for a client that wants it back."""
    whole: bool = False
    """Whether the answer is the whole code, not only what was inserted."""
    fence: str | None = None
    """What follows the opening fence, for an answer in one."""
    ignored: tuple[str, ...] = ()
    """Fields that the client sent and nothing reads."""
    traced: bool = False

    def text_of(self, completion: Completion) -> str:
        """The answer as the client gets it."""
        text = completion.text if self.whole else completion.inserted
        text = self.before + text[: min((at for stop in self.stops if (at := text.find(stop)) >= 0), default=len(text))]
        return text if self.fence is None else f"```{self.fence}\n{text.rstrip()}\n```\n"

    def as_the_tiers_can(self, refusal: RequestFailed) -> Asked:
        """The same, as a refusal says that it can be had. Raises the refusal if it says nothing of the kind."""
        if limit := _TOO_MANY_TOKENS.match(refusal.sentence):
            return replace(self, options={**self.options, "max_tokens": int(limit["most"])})
        if _NO_INFILLS in refusal.sentence and "suffix" in self.options:
            return self._without_a_suffix()
        raise refusal

    def _without_a_suffix(self) -> Asked:
        """The same as one text with a cursor in it: Python alone has that."""
        rest = {name: value for name, value in self.options.items() if name not in _OF_INFILLS}
        options = cast(Options, {**rest, **_at_the_end(self.prompt)})
        return replace(self, prompt=self.prompt + (self.options["suffix"] or ""), options=options)


def model_of(plan: str | None) -> str:
    return f"{MODEL}/{plan}" if plan else MODEL


def asked_completion(body: CompletionBody, headers: Any) -> Asked:
    """Raises ApiError."""
    prompt, suffix = _texts(body)
    place = _at_the_end(prompt) if suffix is None else _before(suffix, body.language)
    options = _options(body, headers, body.max_tokens, body.seed, body.model, place)
    return _asked(body, prompt, options, body.model, body.stop, before=prompt if body.echo else "")


def asked_chat(body: ChatBody, headers: Any) -> Asked:
    """The last user message is the code to complete: its last fenced block if it has one, else all of it. Raises ApiError."""
    text = next((_text_of(message) for message in reversed(body.messages) if message.role == "user"), "")
    if not text:
        raise refused("messages has no text of the role user, one must be there: the code to complete", "messages")
    fences = [token for token in MarkdownIt().parse(text) if token.type == "fence"]
    options = _options(body, headers, body.max_completion_tokens or body.max_tokens, body.seed, body.model, {})
    prompt, fence = (fences[-1].content, fences[-1].info.strip()) if fences else (text, None)
    return _asked(body, prompt, options, body.model, body.stop, whole=True, fence=fence)


def asked_infill(body: InfillBody, headers: Any) -> Asked:
    """Raises ApiError."""
    prompt, place = body.input_prefix + body.prompt, _before(body.input_suffix, None)
    max_tokens = body.n_predict if body.n_predict > 0 else None
    seed = None if body.seed == -1 else body.seed  # llama.cpp's word for any seed
    options = _options(body, headers, max_tokens, seed, None, place)
    if patience_ms := (body.t_max_prompt_ms or 0) + (body.t_max_predict_ms or 0):
        options.setdefault("deadline_ms", patience_ms)
    return _asked(body, prompt, options, None, body.stop)


def _asked(
    body: Controls,
    prompt: str,
    options: Options,
    model: str | None,
    stops: list[str] | None,
    *,
    before: str = "",
    whole: bool = False,
    fence: str | None = None,
) -> Asked:
    traced = bool(options.get("return_trace"))
    options["return_trace"] = True  # tells tokens and the plan
    told = tuple(stop for stop in stops or () if stop)
    return Asked(prompt, options, model or MODEL, told, before, whole, fence, tuple(ignored(body)), traced)


def _at_the_end(prompt: str) -> dict[str, Any]:
    """Clients put the answer there. The cascade by itself would fill what is unfinished before it."""
    return {"cursor": len(prompt.encode("utf-8", "surrogatepass"))}


def _before(suffix: str, language: str | None) -> dict[str, Any]:
    return {"suffix": suffix, **({"language": language} if language else {})}


def _options(
    body: Controls, headers: Any, max_tokens: int | None, seed: int | None, model: str | None, place: Mapping[str, Any]
) -> Options:
    controls = controls_of(body, headers)
    if "request_id" not in controls and (named := headers.get("x-request-id")):
        controls["request_id"] = named[:256]
    if plan := _plan_of(model):
        controls.setdefault("plan", plan)
    options: Options = {**place, **controls}  # type: ignore[typeddict-item]
    if max_tokens is not None:
        options["max_tokens"] = max_tokens
    if seed is not None:
        options["seed"] = seed % 2**64
    return options


def _plan_of(model: str | None) -> str | None:
    """The plan that a model's name stands for; None: the default one."""
    return None if model in (None, "", MODEL) else str(model).removeprefix(f"{MODEL}/")


def _texts(body: CompletionBody) -> tuple[str, str | None]:
    """What is before the answer, and what is after it, if the client says."""
    if body.segments:
        return body.segments.prefix, body.segments.suffix or ""
    return _one_prompt(body.prompt), body.suffix


def _one_prompt(prompt: str | list[str] | None) -> str:
    if isinstance(prompt, str):
        return prompt
    if prompt is None or len(prompt) != 1:
        raise refused("prompt must be one text, or a list with one", "prompt")
    return prompt[0]


def _text_of(message: Message) -> str:
    content = message.content or ""
    return content if isinstance(content, str) else "".join(part.text for part in content)
