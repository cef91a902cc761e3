"""Errors as OpenAI's API has them: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from codecascade.errors import CascadeError
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from grpc import StatusCode  # type: ignore[import-untyped]
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from codecascade_client.errors import Overloaded, RequestFailed

# gRPC status → HTTP status, type.
_STATUSES: Mapping[StatusCode, tuple[int, str]] = {
    StatusCode.INVALID_ARGUMENT: (400, "invalid_request_error"),
    StatusCode.RESOURCE_EXHAUSTED: (429, "rate_limit_error"),
    StatusCode.CANCELLED: (499, "cancelled"),
    StatusCode.DEADLINE_EXCEEDED: (504, "timeout_error"),
    StatusCode.UNAVAILABLE: (503, "server_error"),
    StatusCode.NOT_FOUND: (503, "server_error"),
}
_TYPES = {400: "invalid_request_error", 401: "authentication_error", 404: "invalid_request_error", 429: "rate_limit_error"}


class ApiError(CascadeError):
    """What a client of the gateway is told."""

    def __init__(
        self,
        status: int,
        message: str,
        kind: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.param, self.code, self.retry_s = status, kind, param, code, retry_s

    @property
    def body(self) -> dict[str, Any]:
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        headers = {} if self.retry_s is None else {"Retry-After": str(math.ceil(self.retry_s))}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body, self.status, headers)


def refused(message: str, param: str | None = None) -> ApiError:
    return ApiError(400, message, "invalid_request_error", param=param)


def api_error(error: Exception) -> ApiError:
    """What an exception means to a client."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, Overloaded):
        return ApiError(429, error.sentence, "rate_limit_error", code="overloaded", retry_s=error.retry_after_s)
    if isinstance(error, RequestFailed):
        status, kind = _STATUSES.get(error.code, (502, "server_error"))
        if status == 400 and error.sentence.startswith("plan ") and " is unknown, " in error.sentence:
            return ApiError(404, error.sentence, kind, param="model", code="model_not_found")
        return ApiError(status, error.sentence, kind)
    if isinstance(error, (RequestValidationError, ValidationError)):
        return _invalid(error)
    if isinstance(error, HTTPException):
        return ApiError(error.status_code, str(error.detail), _TYPES.get(error.status_code, "invalid_request_error"))
    return ApiError(500, "internal error; the gateway's log has the details", "server_error")


def _invalid(error: RequestValidationError | ValidationError) -> ApiError:
    """The first problem, by the name of its field."""
    problem = error.errors()[0]
    if problem["type"] == "json_invalid":
        return refused(f"the body is not JSON: {problem['ctx']['error']} at character {problem['loc'][-1]}")
    param = ".".join(str(part) for part in problem["loc"] if part != "body") or "the body"
    param = param.encode("utf-8", "backslashreplace").decode()
    return refused(f"{param}: {problem['msg'].replace('Input', 'input', 1)}", param)
