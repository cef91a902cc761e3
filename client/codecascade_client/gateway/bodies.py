"""What clients send. A field that is not named here is ignored, and the answer says so."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Seed = Annotated[int, Field(ge=-(2**63), le=2**64 - 1)]
Stops = Annotated[list[str], Field(max_length=16), BeforeValidator(lambda stop: [stop] if isinstance(stop, str) else stop)]
Tokens = Annotated[
    Annotated[int, Field(ge=1, le=2**31 - 1)] | None, BeforeValidator(lambda tokens: None if tokens == -1 else tokens)
]
"""-1 is llama.cpp's word for no limit."""


class Controls(BaseModel):
    """Inputs of the cascade, by their names (README). A header X-Codecascade-NAME says the same, but for tests and cases."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    plan: str | None = None
    entry_point: str | None = None
    tests: list[str] = []
    cases: list[dict[str, str]] = []
    deadline_ms: int | None = Field(default=None, ge=1, le=2**31 - 1)
    max_cost: float | None = Field(default=None, ge=0)
    min_accuracy: float | None = Field(default=None, ge=0, le=1)
    value_per_correct: float | None = Field(default=None, ge=0)
    priority: int | None = Field(default=None, ge=0, le=9)
    request_id: str | None = Field(default=None, min_length=1, max_length=256)
    return_trace: bool | None = None


class StreamOptions(BaseModel):
    include_usage: bool = False


class OpenAi(Controls):
    """What completions and chat have in common."""

    model: str | None = None
    n: Literal[1] | None = None
    stop: Stops | None = None
    seed: Seed | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None


class Segments(BaseModel):
    prefix: str
    suffix: str | None = None


class CompletionBody(OpenAi):
    """OpenAI's, or Tabby's, which has `segments` for `prompt` and `suffix`."""

    prompt: str | list[str] | None = None
    suffix: str | None = None
    max_tokens: Tokens = None
    best_of: Literal[1] | None = None
    echo: bool | None = False
    logprobs: None = None
    language: str | None = None
    segments: Segments | None = None


class Part(BaseModel):
    type: Literal["text"]
    text: str


class Message(BaseModel):
    role: str
    content: str | list[Part] | None = None


class ChatBody(OpenAi):
    messages: list[Message] = Field(min_length=1)
    max_tokens: Tokens = None
    max_completion_tokens: Tokens = None
    logprobs: Literal[False] | None = None


class InfillBody(Controls):
    """llama.cpp's."""

    input_prefix: str = ""
    input_suffix: str = ""
    prompt: str = ""
    n_predict: int = Field(default=-1, ge=-1, le=2**31 - 1)
    stop: Stops | None = None
    seed: Seed | None = None
    stream: bool = False
    t_max_prompt_ms: int | None = Field(default=None, ge=0, le=2**30)
    t_max_predict_ms: int | None = Field(default=None, ge=0, le=2**30)


def ignored(body: BaseModel) -> list[str]:
    """Names of the fields that a client sent and nothing here reads."""
    return sorted(name.encode("utf-8", "backslashreplace").decode() for name in body.model_extra or {})


CONTROL_HEADERS = {
    f"x-codecascade-{name.replace('_', '-')}": name for name in Controls.model_fields if name not in ("tests", "cases")
}


def controls_of(body: Controls, headers: Any) -> dict[str, Any]:
    """The request controls of a body, and of headers where the body has none. Raises ValidationError."""
    sent = {name: headers[header] for header, name in CONTROL_HEADERS.items() if header in headers}
    from_headers = Controls.model_validate(sent).model_dump(include=set(sent))
    from_body = body.model_dump(include=set(Controls.model_fields), exclude_unset=True, exclude_none=True)
    return {**from_headers, **from_body}
