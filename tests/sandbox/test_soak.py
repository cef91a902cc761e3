"""The short form of `make soak-sandbox`."""

import pytest

from tests.sandbox.soak import soak


@pytest.mark.slow
async def test_twenty_thousand_candidates_leave_nothing_behind() -> None:
    soaked = await soak(20_000)
    assert soaked.wrong == ()
    assert soaked.after.processes == soaked.before.processes
    assert soaked.after.descriptors == soaked.before.descriptors
    assert soaked.after.files == soaked.before.files
    assert soaked.after.rss_kb < 1.1 * soaked.before.rss_kb
    assert soaked.after.zygotes_rss_kb < 1.1 * soaked.before.zygotes_rss_kb
    assert soaked.zygotes == 2
