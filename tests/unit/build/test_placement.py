"""Tiers on GPUs: what they take, where they go, and the sentence that says why they do not fit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
from codecascade.deployment import load_deployment
from codecascade.types import GivenStep, Plan, PlanStep
from codecascade_build.errors import BuildError
from codecascade_build.gpu_plan.memory import (
    BLOCK_TOKENS,
    DTYPE_BYTES,
    ENGINE_SHARE,
    GIB,
    KV_CACHE_FRACTION,
    LOGITS_ROWS,
    PROCESS_BYTES,
    TierMemory,
    kv_token_bytes,
    runtime_bytes,
    usable_bytes,
    weight_bytes,
)
from codecascade_build.gpu_plan.placement import MOST_GPUS, Need, Placement, place
from codecascade_build.gpu_plan.plan import GpuPlan, Wishes, parse_fleet, plan_gpus
from codecascade_build.gpu_plan.tables import document, fill, servers_in_words
from codecascade_build.gpus import GPUS
from codecascade_build.paths import ROOT
from codecascade_build.plan_gpus import main as planner
from codecascade_build.plan_gpus import render_plan, url_of, wishes
from codecascade_build.recipes import Architecture, families, load_recipe
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2

MIB = 2**20
LLAMA_2_7B = Architecture("LLaMAForCausalLM", 32, 4096, 32, 32, 128, 11_008, 32_000, 4096)
LLAMA_3_8B = Architecture("LLaMAForCausalLM", 32, 4096, 32, 8, 128, 14_336, 128_256, 131_072)
QWEN_05B = Architecture("QWenForCausalLM", 24, 896, 14, 2, 64, 4864, 151_936, 32_768, tied_embeddings=True)
STARCODER_15B = Architecture("GPTForCausalLM", 40, 6144, 48, 1, 128, 24_576, 49_153, 8192, tied_embeddings=True)


# --- arithmetic


@pytest.mark.parametrize(
    ("architecture", "quantization", "logged_mib"),
    [
        (LLAMA_2_7B, "fp8", 6695),  # TensorRT-LLM's documentation, "Memory Usage"
        (LLAMA_3_8B, "none", 15_388),  # NVIDIA/TensorRT-LLM #3636
        (QWEN_05B, "int8", 875),  # NVIDIA/TensorRT-LLM #1188
    ],
)
def test_weights_are_those_of_published_logs(architecture: Architecture, quantization: Any, logged_mib: int) -> None:
    """ "Loaded engine size"."""
    assert logged_mib <= weight_bytes(architecture, 1, quantization) / MIB <= 1.02 * logged_mib


def test_the_runtime_is_more_than_in_published_logs_but_not_much() -> None:
    """Execution context, runtime buffers and decoder of #1188: 8,192 tokens, 2,048 sequences."""
    logged = 773.51 * MIB + 2.66e9 + 5.76e9
    estimated = runtime_bytes(QWEN_05B, 1, 2048) - PROCESS_BYTES
    assert logged <= estimated <= 1.5 * logged
    assert runtime_bytes(LLAMA_2_7B, 1, 256) - PROCESS_BYTES >= 1134.01 * MIB + 43.29e6 + 180.30e6


def test_the_process_is_what_a_published_log_leaves_unexplained() -> None:
    explained = (6695 + 1134.01) * MIB + 43.29e6 + 180.30e6
    assert 0.5 * PROCESS_BYTES <= (79.10 - 70.48) * GIB - explained <= PROCESS_BYTES


def test_without_quantization_an_engine_has_all_parameters_and_tied_embeddings_twice() -> None:
    for recipe in map(load_recipe, families()):
        for tier in recipe.tiers:
            assert tier.checkpoint
            shape = tier.checkpoint.architecture
            parameters = shape.parameters + (shape.vocab * shape.hidden if shape.tied_embeddings else 0)
            assert weight_bytes(shape, 1, "none") == round(parameters * DTYPE_BYTES * (1 + ENGINE_SHARE))


def test_a_group_shares_matrices_but_not_the_embedding() -> None:
    one, two = weight_bytes(LLAMA_2_7B, 1, "none"), weight_bytes(LLAMA_2_7B, 2, "none")
    embedding = 32_000 * 4096 * DTYPE_BYTES * (1 + ENGINE_SHARE)
    assert two == pytest.approx((one - embedding) / 2 + embedding, rel=1e-3)


def test_quantization_makes_layers_smaller_and_nothing_else() -> None:
    sizes = [weight_bytes(LLAMA_2_7B, 1, quantization) for quantization in ("none", "fp8", "int8", "int4_awq")]
    in_dtype = 2 * 32_000 * 4096 * DTYPE_BYTES * (1 + ENGINE_SHARE)
    layers = sizes[0] - in_dtype
    assert sizes[1] == sizes[2] == pytest.approx(in_dtype + layers / 2, rel=1e-3)
    assert sizes[3] == pytest.approx(in_dtype + layers * (0.5 + 2 / 128) / 2, rel=1e-3)


def test_the_cache_of_a_token() -> None:
    assert kv_token_bytes(LLAMA_2_7B, 1) == 2 * 32 * 32 * 128 * 2
    assert kv_token_bytes(LLAMA_2_7B, 4) == kv_token_bytes(LLAMA_2_7B, 1) // 4
    assert kv_token_bytes(STARCODER_15B, 2) == kv_token_bytes(STARCODER_15B, 1), "its one head is on each GPU"


def test_the_logits_are_counted_for_the_largest_batch() -> None:
    more = runtime_bytes(QWEN_05B, 1, 65) - runtime_bytes(QWEN_05B, 1, 64)
    assert more == QWEN_05B.vocab * 4 * LOGITS_ROWS


def test_the_share_of_free_memory_never_cuts_a_planned_cache() -> None:
    """An engine that loads last finds only the reserve and its own cache free."""
    for kind in GPUS.values():
        reserve = kind.memory_bytes - usable_bytes(kind.memory_bytes)
        for cache in range(0, usable_bytes(kind.memory_bytes), GIB):
            assert KV_CACHE_FRACTION * (cache + reserve) >= cache


# --- placement


def need(tier: str, gib: int, load: int = 1, parallel: int = 1, blocks: int = 1, most: int = 1) -> Need:
    """Takes so many GiB, and one more for each block of its cache."""
    memory = TierMemory(weights=gib * GIB, runtime=0, kv_token=GIB // BLOCK_TOKENS)
    return Need(tier, parallel, memory, blocks * BLOCK_TOKENS, most * BLOCK_TOKENS, load)


def placed(needs: Sequence[Need], gpus: int, gib: int) -> Placement:
    placement = place(needs, gpus, gib * GIB)
    assert placement is not None
    return placement


NEEDS = st.lists(
    st.builds(
        need,
        tier=st.just(""),
        gib=st.integers(1, 12),
        load=st.integers(0, 1000),
        parallel=st.sampled_from((1, 1, 1, 2)),
        blocks=st.integers(1, 3),
        most=st.integers(3, 12),
    ),
    min_size=1,
    max_size=4,
).map(lambda needs: [replace(need, tier=f"tier-{number}") for number, need in enumerate(needs)])


def first_copy_loads(needs: Sequence[Need], gpus: int, usable: int) -> list[int]:
    """The load of the busiest GPU in every placement that fits, by trying all without any cleverness."""
    loads = []
    for groups in product(*(combinations(range(gpus), need.tensor_parallel) for need in needs)):
        busiest, possible = 0, True
        for gpu in range(gpus):
            tenants = [need for need, group in zip(needs, groups, strict=True) if gpu in group]
            possible &= sum(need.least_bytes for need in tenants) <= usable
            possible &= len(tenants) < 2 or all(need.tensor_parallel == 1 for need in tenants)
            busiest = max(busiest, sum(need.load for need in tenants))
        if possible:
            loads.append(busiest)
    return loads


@settings(max_examples=200, deadline=None)
@given(NEEDS, st.integers(1, 4), st.integers(4, 40))
def test_what_is_placed_fits_and_is_the_best(needs: list[Need], gpus: int, gib: int) -> None:
    usable = gib * GIB
    loads, placement = first_copy_loads(needs, gpus, usable), place(needs, gpus, usable)
    assert (placement is None) == (not loads)
    if placement is None:
        return
    assert max(placement.busy) <= min(loads) * (1 + 1e-9), "further copies can only make it better"
    sizes = {need.tier: need for need in needs}
    left = [usable] * gpus
    for copy in placement.copies:
        for gpu in copy.gpus:
            left[gpu] -= sizes[copy.tier].memory.total(copy.kv_cache_tokens)
    assert min(left) >= 0
    for gpu in range(gpus):
        here = [copy for copy in placement.copies if gpu in copy.gpus]
        assert len({copy.tier for copy in here}) == len(here), "no tier is on a GPU twice"
        assert len(here) == 1 or all(len(copy.gpus) == 1 for copy in here), "a tensor-parallel tier is alone"
    first = {gpu for need in needs for gpu in placement.of(need.tier)[0].gpus}
    for need in needs:
        copies = placement.of(need.tier)
        assert not any(first & set(copy.gpus) for copy in copies[1:]), "further copies stay off the GPUs of first ones"
        for copy in copies:
            assert len(set(copy.gpus)) == need.tensor_parallel
            assert need.kv_cache_tokens <= copy.kv_cache_tokens <= need.most_kv_cache_tokens
            assert copy.kv_cache_tokens % BLOCK_TOKENS == 0
            full = any(left[gpu] < GIB * sum(gpu in other.gpus for other in placement.copies) for gpu in copy.gpus)
            assert full or need.load == 0 or copy.kv_cache_tokens == need.most_kv_cache_tokens, "no memory is wasted"


def test_a_tie_leaves_the_fullest_gpu_most_memory() -> None:
    placement = placed([need("a", 8, load=0), need("b", 8, load=0), need("c", 2, load=0)], 2, 40)
    assert placement.of("a")[0].gpus != placement.of("b")[0].gpus


def test_further_copies_are_made_only_where_they_help() -> None:
    spread = placed([need("large", 9, load=90), need("small", 9, load=1)], 5, 10)
    assert [len(spread.of(tier)) for tier in ("large", "small")] == [4, 1]
    idle = placed([need("large", 9, load=90, parallel=2), need("small", 9, load=80)], 4, 80)
    assert [len(idle.of(tier)) for tier in ("large", "small")] == [1, 1], "one more copy of the small does not help the large"


def test_what_is_left_is_shared_by_load_up_to_what_a_cache_can_use() -> None:
    for most, blocks in ((1000, [1 + 30, 1 + 10]), (3, [3, 1 + 38])):
        placement = placed([need("a", 4, load=300, most=most), need("b", 4, load=100, most=1000)], 1, 50)
        assert [placement.of(tier)[0].kv_cache_tokens // BLOCK_TOKENS for tier in "ab"] == blocks


# --- recipes on GPUs


def on(family: str, gpus: str, **wished: Any) -> GpuPlan:
    return plan_gpus(load_recipe(family), parse_fleet(gpus), Wishes(**wished))


@pytest.mark.parametrize("gpus", ["2xh100", "2xa100", "8xrtx3090", "4xl40s"])
@pytest.mark.parametrize("family", families())
def test_every_family_is_placed(family: str, gpus: str) -> None:
    plan = on(family, gpus)
    assert [tier.name for tier in plan.tiers] == [tier.name for tier in load_recipe(family).tiers]
    for gpu in fill(plan):
        assert gpu.weights + gpu.runtime + gpu.kv_caches + gpu.reserve + gpu.free == gpu.memory
        assert gpu.free >= 0
    for tier in plan.tiers:
        assert all(copy.kv_cache_tokens >= tier.settings.kv_cache_tokens for copy in plan.placement.of(tier.name))
    held = [copy for server in plan.servers for copy in server.copies]
    assert sorted(held, key=str) == sorted(plan.placement.copies, key=str)


@pytest.mark.parametrize(
    ("family", "gpus", "servers"),
    [
        ("wizardcoder-python", "2xa100", [(0, {(0,), (1,)})]),  # tiers on one GPU each share one server
        ("wizardcoder-python", "8xrtx3090", [(0, {(6,)}), (2, {(4, 5)}), (4, {(0, 1, 2, 3)})]),  # tensor-parallel ones do not
        ("wizardcoder", "2xa100", [(0, {(0,)}), (0, {(1,)})]),  # further copies of a GPU share one
    ],
)
def test_servers_hold_what_can_run_together(family: str, gpus: str, servers: list[tuple[int, set[tuple[int, ...]]]]) -> None:
    """servers: ranks, and the GPUs of the copies."""
    plan = on(family, gpus)
    assert [(server.ranks, {copy.gpus for copy in server.copies}) for server in plan.servers] == servers
    assert servers_in_words(plan).startswith("One server," if len(servers) == 1 else f"{len(servers)} servers: server-1 holds ")


def test_a_tier_that_more_requests_reach_gets_more_copies() -> None:
    rare, often = (on("wizardcoder-python", "4xl40s", reach={"wizardcoder-python-34b": reach}) for reach in (0.05, 1.0))
    assert len(often.placement.of("wizardcoder-python-34b")) > len(rare.placement.of("wizardcoder-python-34b"))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"tensor_parallel": 2}, " does not fit on 1 × A100 80 GB: it needs 19.9 GiB of each of 2 GPUs for itself; the GPUs .*"),
        ({"quantization": "fp8"}, ": TensorRT-LLM has no quantization fp8 for GPTForCausalLM; it has none, int8."),
    ],
)
def test_refusals(settings: dict[str, Any], sentence: str) -> None:
    recipe = load_recipe("wizardcoder")
    *others, last = recipe.tiers
    assert last.gpu
    changed = replace(last, gpu=replace(last.gpu, on={}, **settings))
    with pytest.raises(BuildError, match=f"^Tier wizardcoder-15b{sentence}$"):
        plan_gpus(replace(recipe, tiers=(*others, changed)), parse_fleet("1xa100"), Wishes())


@pytest.mark.parametrize("text", ["", "h100", "2", "0xh100", "17xh100", "-1xh100", "²xh100", "2 x h100", "2xh200"])
def test_gpus_that_are_no_fleet_are_refused(text: str) -> None:
    with pytest.raises(BuildError, match=r"--gpus is|not a known kind"):
        parse_fleet(text)
    assert parse_fleet(f"{MOST_GPUS}xh100").count == MOST_GPUS


# --- load


STEPS = (PlanStep("wizardcoder-1b", k=3, lines_per_sample=2, threshold=0.9), PlanStep("wizardcoder-15b", k=0))
BALANCED = Plan("balanced", STEPS)


def demands(plan: GpuPlan) -> dict[str, tuple[float, str]]:
    return {tier.name: (tier.demand.reach.value, tier.demand.reach.source) for tier in plan.tiers}


def test_reach_is_what_is_given_else_what_the_plan_file_says() -> None:
    plan = on("wizardcoder", "1xh100", plan=BALANCED, plan_reach={"wizardcoder-1b": 1.0, "wizardcoder-15b": 0.3})
    assert demands(plan) == {"wizardcoder-1b": (1.0, "plan file"), "wizardcoder-15b": (0.3, "plan file")}
    shares = {"plan_reach": {"wizardcoder-15b": 0.3}, "reach": {"wizardcoder-15b": 0.2}}
    plan = on("wizardcoder", "1xh100", plan=BALANCED, **shares)
    assert demands(plan) == {"wizardcoder-1b": (1.0, "first tier"), "wizardcoder-15b": (0.2, "given")}


def test_tiers_that_only_requests_with_tests_ask_are_planned_too() -> None:
    plan = Plan("given", STEPS[1:], (GivenStep("wizardcoder-1b", 3), GivenStep("wizardcoder-15b", 1)))
    assert demands(on("wizardcoder", "1xh100", plan=plan)) == {
        "wizardcoder-1b": (1.0, "first tier"),
        "wizardcoder-15b": (1.0, "assumed"),
    }


def test_the_reach_of_a_plan_file_is_read_where_a_search_wrote_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = {"tier": "wizardcoder-1b", "k": 0}
    reach = {"validation": {"reach": {"wizardcoder-1b": 0.9}}, "held_out": {"reach": {"wizardcoder-1b": 0.8}}}
    plans = {
        "both": {"steps": [step], **reach},
        "validation": {"steps": [step], "validation": reach["validation"]},
        "written": {"steps": [step]},
        "older": {"steps": [step], "held_out": {}},
    }
    content = {"format": 1, "family": "wizardcoder", "provenance": {}, "default": "both", "plans": plans}
    (tmp_path / "wizardcoder.json").write_text(json.dumps(content))
    monkeypatch.setattr("codecascade_build.plan_gpus.PLANS", tmp_path)
    reaches = {name: wishes("wizardcoder", name).plan_reach for name in plans}
    assert reaches == {"both": {"wizardcoder-1b": 0.8}, "validation": {"wizardcoder-1b": 0.9}, "written": {}, "older": {}}


def test_what_nobody_says_is_assumed_and_said_to_be() -> None:
    plan = on("wizardcoder", "1xh100", plan=BALANCED)
    assert demands(plan)["wizardcoder-15b"] == (1.0, "assumed")
    small, large = plan.tiers
    assert small.demand.tokens.value == 6 * large.demand.tokens.value, "3 solutions and 3 test samples"
    assert small.demand.speed.value / large.demand.speed.value == pytest.approx(
        large.need.memory.weights / small.need.memory.weights
    )
    assert document(plan)["assumptions"] == [
        "Assumed: every request reaches wizardcoder-15b.",
        "Assumed: a solution or test sample of every tier has 128 tokens.",
        "Assumed: the speed of every tier is in proportion to 1 ÷ bytes of weights on a GPU.",
    ]
    assert document(plan)["requests_per_s"] is None


def test_requests_per_second_are_those_of_the_busiest_gpu() -> None:
    figures = {"reach": (1.0, 0.5), "tokens": (600, 100), "speed": (3000, 500)}
    tiers = ("wizardcoder-1b", "wizardcoder-15b")
    given = {name: dict(zip(tiers, pair, strict=True)) for name, pair in figures.items()}
    plan = on("wizardcoder", "1xh100", tiers=tiers, **given)
    assert document(plan)["requests_per_s"] == pytest.approx(1 / (600 / 3000 + 0.5 * 100 / 500))
    assert document(plan)["assumptions"] == []


# --- command, rendering, documentation


def test_what_is_rendered_is_what_was_planned(tmp_path: Path) -> None:
    plan = on("wizardcoder", "8xrtx3090")
    written = list(render_plan(plan, tmp_path))
    assert all(path.exists() for path in written)
    for server in plan.servers:
        repository = tmp_path / server.name / "wizardcoder-tensorrt_llm"
        for copy in server.copies:
            text = (repository / f"{copy.tier}-tensorrt_llm" / "config.pbtxt").read_text()
            parameters = text_format.Parse(text, model_config_pb2.ModelConfig()).parameters
            assert parameters["gpu_device_ids"].string_value == ",".join(map(str, copy.gpus))
            assert parameters["max_tokens_in_paged_kv_cache"].string_value == str(copy.kv_cache_tokens)
            assert parameters["kv_cache_free_gpu_mem_fraction"].string_value == str(KV_CACHE_FRACTION)
        assert set(load_deployment(repository.with_suffix(".json")).tiers) == {copy.tier for copy in server.copies}
    whole = load_deployment(tmp_path / "deployment.json")
    assert {name: tier.url for name, tier in whole.tiers.items()} == {tier.name: url_of(tier.name) for tier in plan.tiers}


def test_one_server_needs_no_other(tmp_path: Path) -> None:
    list(render_plan(on("wizardcoder", "1xh100"), tmp_path))
    assert {tier.url for tier in load_deployment(tmp_path / "deployment.json").tiers.values()} == {None}


def plan_gpus_command(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("codecascade")), "plan-gpus", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_prints_the_tables_of_the_documentation_or_json() -> None:
    tables = plan_gpus_command("--gpus", "4xl40s", "--family", "wizardcoder-python")
    assert tables.returncode == 0
    printed = "".join(f"{line.rstrip()}\n" for line in tables.stdout.splitlines())
    documentation = (ROOT / "docs" / "placement.md").read_text(encoding="utf-8")
    assert f"```\n{printed}```\n" in documentation, "run it and paste what it prints"
    as_json = plan_gpus_command("--gpus", "4xl40s", "--family", "wizardcoder-python", "--json")
    assert json.loads(as_json.stdout) == json.loads(json.dumps(document(on("wizardcoder-python", "4xl40s"))))


def test_the_command_hands_on_what_the_planner_refuses() -> None:
    done = plan_gpus_command("--gpus", "1xh100")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: Tier qwen2.5-coder-7b does not fit on 1 × H100 SXM 80 GB: it needs 13.0 GiB of a GPU beside qwen2.5-coder-32b "
        "(40.3 GiB of a GPU) and qwen2.5-coder-14b (24.4 GiB of a GPU); the GPUs have 1 × 75.7 GiB to give.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "error: --gpus is missing"),
        (("--gpus", "1xh100", "--plan", "none"), "error: --plan none: plan 'none' is unknown, allowed are "),
        (("--gpus", "1xh100", "--tier", "x"), "error: --tier names tier 'x'; qwen2.5-coder has qwen2.5-coder-0.5b, "),
        (("--gpus", "1xh100", "--speed", "x=1"), "error: --speed names tier 'x'; "),
        (("--gpus", "1xh100", "--reach", "x=2"), "error: --reach is 'x=2'; a tier, = and a figure over 0, at most 1 are needed"),
        (("--gpus", "1xh100", "--speed", "x=nan"), "error: --speed is 'x=nan'; a tier, = and a figure over 0 are needed"),
        (("--gpus", "1xh100", "--tokens", "5"), "error: --tokens is '5'; "),
        (("--gpus", "1xh100", "--plan", "accurate", "--tier", "qwen2.5-coder-7b"), "error: The plan and --tier have no tier in"),
        (("--gpus", "1xh100", "--family", "x"), "error: There is no recipe for the family 'x'; "),
    ],
)
def test_the_planner_refuses_in_one_sentence(
    arguments: tuple[str, ...], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["plan_gpus", *arguments])
    with pytest.raises(SystemExit) as refused:
        planner()
    assert str(refused.value.code).startswith(sentence)
    assert "\n" not in str(refused.value.code)
    assert capsys.readouterr() == ("", "")


def test_the_command_has_to_be_run_in_a_checkout(tmp_path: Path) -> None:
    done = plan_gpus_command("--gpus", "1xh100", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "error: plan-gpus has to be run in a checkout of the project: "
        f"there is no build/codecascade_build/plan_gpus.py in {tmp_path}\n"
    )
