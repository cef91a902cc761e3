"""What this machine can run and what is missing, in words."""

from __future__ import annotations

from codecascade_client.settings import Settings


async def examine(settings: Settings) -> bool:
    return False
