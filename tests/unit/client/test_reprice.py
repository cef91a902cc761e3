from dataclasses import replace
from pathlib import Path

import pytest
from codecascade.prices import Prices, TokenPrice
from codecascade.types import Plan, PlanStep
from codecascade_client.errors import RecordingError
from codecascade_client.evidence.decisions import Decisions
from codecascade_client.recording.reprice import reprice
from codecascade_client.replay.plans import replay_plan
from codecascade_client.replay.table import outcome, tabulate
from codecascade_client.report.page import write_report
from codecascade_client.report.tables import prices_in_words
from codecascade_client.search.frontier import Grid
from codecascade_client.search.search import Rules, provenance, search
from codecascade_client.words import price_ratio

from tests.unit.client import synthetic_recordings as synthetic

GPU = """
sandbox_price_per_cpu_s = 2e-6
[tiers.small]
price_per_mtok = 0.02
prompt_price_per_mtok = 0.004
[tiers.medium]
price_per_mtok = 0.06
[tiers.large]
price_per_mtok = 0.3
"""


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "gpu.toml"
    path.write_text(text)
    return path


def test_the_prices_of_a_file_replace_all_of_the_recordings(tmp_path: Path) -> None:
    manifest = synthetic.manifest(4, synthetic.PRICES_PER_MTOK)
    repriced = reprice(manifest, file(tmp_path, GPU))
    assert repriced.prices == Prices(
        {"small": TokenPrice(0.02, 0.004), "medium": TokenPrice(0.06), "large": TokenPrice(0.3)}, sandbox_price_per_cpu_s=2e-6
    )
    assert list(repriced.tiers) == list(manifest.tiers), "still small to large"
    assert replace(repriced, tiers=manifest.tiers, sandbox_price_per_cpu_s=manifest.sandbox_price_per_cpu_s) == manifest
    without = reprice(manifest, file(tmp_path, GPU.replace("sandbox_price_per_cpu_s = 2e-6", "")))
    assert without.prices.sandbox_price_per_cpu_s == 0.0, "what the file does not name costs nothing"


async def test_plans_are_priced_anew_and_right_as_often(tmp_path: Path) -> None:
    recording = synthetic.recording(7, tasks=6)
    dearer = f"sandbox_price_per_cpu_s = {10 * synthetic.SANDBOX_PRICE_PER_CPU_S}\n" + "".join(
        f"[tiers.{tier}]\nprice_per_mtok = {10 * price}\nprompt_price_per_mtok = {10 * synthetic.PROMPT_SHARE * price}\n"
        for tier, price in synthetic.PRICES_PER_MTOK.items()
    )
    again = replace(recording, manifest=reprice(recording.manifest, file(tmp_path, dearer)))
    plan = Plan("p", (PlanStep("small", 3, 2, 0.5), PlanStep("large", 0)))
    before, after = outcome(tabulate(recording), plan), outcome(tabulate(again), plan)
    assert after.cost_usd == pytest.approx(10 * before.cost_usd)
    assert (after.correct == before.correct).all()
    looped = await replay_plan(plan, again, tabulate(again).tasks, tabulate(again).runs)
    assert looped.cost_usd == pytest.approx(after.cost_usd)


def test_a_plan_file_and_a_report_say_at_which_prices_was_searched(tmp_path: Path) -> None:
    recording = synthetic.recording(7, tasks=40)
    own = search([recording], Rules(Grid((0.5, 1.0)), 0.9, 0, 2))
    assert provenance(own)["prices"]["from"] == "the recording"
    assert provenance(own)["prices"]["ratio"] == "1 : 3.7 : 11.3"
    again = replace(recording, manifest=reprice(recording.manifest, file(tmp_path, GPU)))
    result = search([again], Rules(Grid((0.5, 1.0)), 0.9, 0, 2, prices_from="gpu.toml"))
    assert provenance(result)["prices"] == {
        "from": "gpu.toml",
        "ratio": "1 : 3 : 15",
        "tiers": {
            "small": {"price_per_mtok": 0.02, "prompt_price_per_mtok": 0.004},
            "medium": {"price_per_mtok": 0.06, "prompt_price_per_mtok": 0.0},
            "large": {"price_per_mtok": 0.3, "prompt_price_per_mtok": 0.0},
        },
        "sandbox_price_per_cpu_s": 2e-6,
    }
    words = "Prices of gpu.toml: a generated token costs 1 : 3 : 15 (small, medium, large)"
    assert prices_in_words(result).startswith(words)
    undecided = Decisions(result.default_plan, 0, (), ())
    assert words in write_report(result, [], undecided, tmp_path / "report").read_text()


def test_a_tier_that_costs_nothing_has_a_ratio_too() -> None:
    assert price_ratio(Prices({"free": TokenPrice(0.0), "small": TokenPrice(0.5), "large": TokenPrice(2.0)})) == "0 : 1 : 4"
    assert price_ratio(Prices({"free": TokenPrice(0.0)})) == "0"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("price = ", "cannot be used"),
        ("", "'tiers' is missing"),
        (GPU.partition("[tiers.large]")[0], "'large' is missing"),
        (GPU + "[tiers.huge]\nprice_per_mtok = 1", "tiers has 'huge', its keys must be among small, medium, large"),
        (
            GPU.replace("sandbox_price_per_cpu_s", "sandbox"),
            "the file has 'sandbox', its keys must be among tiers, sandbox_price_per_cpu_s",
        ),
        (GPU.replace("prompt_price_per_mtok", "prompt"), "tier 'small' has 'prompt', its keys must be among price_per_mtok"),
        (GPU.replace("0.06", "-1"), "price_per_mtok of tier 'medium' is -1, must be 0 or more dollars"),
        (GPU.replace("0.06", "nan"), "price_per_mtok of tier 'medium' is nan"),
        ("tiers = 5", "tiers is 5, it must be a table"),
        ("[tiers]\nsmall = 1\nmedium = 2\nlarge = 3", "tier 'small' is 1, it must be a table"),
        (GPU.replace("price_per_mtok = 0.3", ""), "price_per_mtok of tier 'large' is None"),
    ],
)
def test_a_bad_file_of_prices_is_refused_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(RecordingError) as refused:
        reprice(synthetic.manifest(4, synthetic.PRICES_PER_MTOK), file(tmp_path, text))
    assert sentence in str(refused.value)
    assert str(refused.value).startswith(f"prices {tmp_path / 'gpu.toml'} cannot be used: ")


def test_a_file_of_prices_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"nowhere\.toml cannot be used: No such file or directory"):
        reprice(synthetic.manifest(4, synthetic.PRICES_PER_MTOK), tmp_path / "nowhere.toml")
