"""Why a call to another model gave no answer."""

from __future__ import annotations

from codecascade.errors import CascadeError, InvalidRequest, Overloaded
from codecascade.triton.calls.names import REFUSAL


class CallFailed(Exception):
    """A call without an answer, in the words of the model or of Triton.

    dead: the model's process has ended. asked: whether the model was called at all.
    """

    def __init__(self, sentence: str, *, refused: bool = False, dead: bool = False, asked: bool = True) -> None:
        super().__init__(sentence.removeprefix(REFUSAL))
        self.refused = refused or sentence.startswith(REFUSAL)
        self.overloaded = Overloaded.read(sentence)
        self.dead = dead
        self.asked = asked

    @property
    def failed(self) -> bool:
        """Whether it says that the model does not work. Else the model works: it refused the request, or had too many."""
        return not (self.refused or self.overloaded)

    def told_as(self, name: str, unavailable: type[CascadeError], place: str = "") -> CascadeError:
        """The error for the caller. place: where the model is, for a failure of it."""
        if self.overloaded:
            return self.overloaded
        if self.refused:
            return InvalidRequest(f"{name}: {self}")
        error = unavailable(f"{name}{place}: {self}")
        error.cost_nothing = not self.asked
        return error
