"""`make chaos` in short: what a fault must not do to requests, money and probes. The long form has every case."""

from __future__ import annotations

import pytest

from tests.server.faults import GARBAGE, PLANS, TERMINATED, killing, site
from tests.server.faulty import Case, Site, watched
from tests.server.real_server import StartServer

pytestmark = pytest.mark.triton

CASES = [killing("small"), GARBAGE, PLANS[0], TERMINATED]  # the last one ends the server


@pytest.fixture(scope="module")
def here(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return site(start_server, tmp_path_factory.mktemp("chaos"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_no_answer_is_wrong_late_or_lost_and_all_money_is_accounted_for(here: Site, case: Case) -> None:
    report = await watched(here, case)
    assert report.broken == []
    assert report.kinds["right"] > 0
