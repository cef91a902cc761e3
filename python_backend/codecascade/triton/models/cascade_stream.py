"""The `cascade_stream` model: `cascade`, decoupled, telling what happens while it happens."""

from __future__ import annotations

from typing import Any

import triton_python_backend_utils as pb_utils

from codecascade.errors import CascadeError
from codecascade.events import Event, as_dict
from codecascade.triton.cascade_contract import Received, as_json
from codecascade.triton.models import cascade
from codecascade.triton.serving import grpc_code
from codecascade.triton.tensors import texts


class TritonPythonModel(cascade.TritonPythonModel):
    """Loaded by Triton. A client that closes the stream cancels the work."""

    async def answer(self, request: Any) -> list[Any]:
        """The last event. The others are sent when they happen."""
        sender, received = request.get_response_sender(), Received(request)
        del request  # gives back its shared memory, which Triton never makes smaller again

        def tell(event: Event) -> None:
            sender.send(pb_utils.InferenceResponse(_event(as_dict(event))))

        try:
            return _event((await self.complete(received, tell)).event())
        except CascadeError as error:  # the error that follows has no status in a stream
            failed = {"event": "failed", "code": grpc_code(error), "message": str(error)}
            sender.send(pb_utils.InferenceResponse(_event(failed)))
            raise


def _event(event: dict[str, Any]) -> list[Any]:
    return [texts("event", [as_json(event)])]
