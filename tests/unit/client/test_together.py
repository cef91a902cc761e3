import asyncio

import pytest
from codecascade_client.together import together


async def test_results_come_in_order() -> None:
    async def value(number: int) -> int:
        for _ in range(5 - number):
            await asyncio.sleep(0)
        return number

    assert await together(value(number) for number in range(5)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("fails", [True, False])
async def test_where_one_fails_or_the_caller_leaves_the_others_have_ended(fails: bool) -> None:
    ended: list[str] = []
    begun = asyncio.Event()

    async def wait() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("waited for")

    async def fail() -> None:
        await begun.wait()
        if fails:
            raise ValueError("broken")

    running = asyncio.ensure_future(together([wait(), fail()]))
    await begun.wait()
    if not fails:
        running.cancel()
    with pytest.raises(ValueError if fails else asyncio.CancelledError):
        await running
    assert ended == ["waited for"]
