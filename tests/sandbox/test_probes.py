"""Probes prove a level before it is used; a refusal says what the machine lacks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from codecascade.sandbox import LEVELS, Limits, SandboxPool, probe_levels
from codecascade.sandbox.probes import probe_level
from codecascade_build.paths import ROOT

# Drops all capabilities first, so that even root cannot become another user.
POWERLESS = """
import asyncio, resource
from codecascade.sandbox import SandboxPool
from codecascade.sandbox.zygote.system import drop_capabilities
from codecascade.errors import SandboxUnavailable
BEFORE
drop_capabilities()
try:
    asyncio.run(SandboxPool(1, LEVEL).start())
except SandboxUnavailable as error:
    print(error)
"""


def refusal(level: str, before: str = "") -> str:
    script = POWERLESS.replace("LEVEL", repr(level)).replace("BEFORE", before)
    return subprocess.run([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout


async def test_every_level_is_available_or_says_what_is_missing() -> None:
    reports = await probe_levels()
    assert [report.level for report in reports] == list(LEVELS)
    assert all(report.available or report.missing for report in reports)


@pytest.mark.skipif(not os.environ.get("CI"), reason="a machine may support only one level; CI must support two")
async def test_two_levels_at_least_can_be_shown_in_ci() -> None:
    reports = await probe_levels()
    assert sum(report.available for report in reports) >= 2, "; ".join(map(str, reports))


async def test_a_level_that_isolates_nothing_is_refused_by_its_probes() -> None:
    report = await probe_level("none", Limits())
    assert not report.available
    for promise in ("no network", "no local sockets", "no reading outside", "no writing outside", "no new process"):
        assert promise in report.missing


async def test_the_strongest_available_level_is_chosen() -> None:
    available = [report.level for report in await probe_levels() if report.available]
    async with SandboxPool(1) as pool:
        assert pool.level == available[0]


def test_a_limit_that_cannot_be_set_is_named() -> None:
    sentence = refusal("landlock", before="resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))")
    assert "setrlimit RLIMIT_FSIZE: Operation not permitted" in sentence


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become another user")
def test_a_refusal_has_a_sentence_for_every_level_and_names_the_setting() -> None:
    sentence = refusal("auto")
    for level in LEVELS:
        assert f"{level}: setresuid: Operation not permitted; to enable it, give CAP_SETUID and CAP_SETGID" in sentence


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become another user")
def test_a_requested_level_is_never_replaced_by_another() -> None:
    sentence = refusal("landlock")
    assert "landlock: setresuid" in sentence
    assert "sealed" not in sentence
