"""The evidence in a recording, and what it decided, as rows of text."""

from __future__ import annotations

from collections.abc import Sequence

from codecascade_client.estimate import Estimate
from codecascade_client.evidence.calibration import Bin
from codecascade_client.evidence.decisions import Decisions
from codecascade_client.evidence.kinds import GIVEN, KINDS, MEAN, Told
from codecascade_client.evidence.measure import Group, Measured
from codecascade_client.report.tables import TextTable
from codecascade_client.words import counted, in_words, interval, percent

AUROC_IN_WORDS = (
    "AUROC: how probable it is that the evidence ranks a right answer above a wrong one, with its 95 % interval; 0.5 is chance; "
    "of N: only so many answers have the evidence. An answer to a task without given tests ranks below those that pass all and "
    "above those that fail one. Own tests: the test lines that the tier wrote in the same run, of which an answer passes none if "
    "there are none; they may repeat the prompt's examples. For a greedy answer the paper's score is the share of own tests"
)
CALIBRATION_IN_WORDS = (
    "How often answers are right, with 95 % Wilson intervals; in their width several answers to one task count as one. By the "
    "mean log-probability of their tokens, in quarters of the answers"
)
DECISIONS_IN_WORDS = (
    "Kept: returned although the evidence does not speak for it, or because the last tier accepts whatever comes of it. "
    "Right: by the benchmark's own tests"
)


def title(measured: Measured) -> str:
    """`small, greedy: 164 answers to 164 tasks of humaneval`, or that none is judged."""
    answers = f"{measured.tier}, {'sampled' if measured.sampled else 'greedy'}"
    if not measured.answers:
        return f"{answers}: none is judged"
    return f"{answers}: {counted(measured.answers, 'answer')} to {counted(measured.tasks, 'task')} of {measured.dataset}"


def tables(measured: Measured) -> list[TextTable]:
    """Nothing if no answer is judged."""
    return [auroc_table(measured), calibration_table(measured)] if measured.answers else []


def auroc_table(measured: Measured) -> TextTable:
    counts = tuple(f"{group.right} right, {group.wrong} wrong" for group in measured.groups.values())
    kinds = ((kind.name, *(_told(group.told[kind.name], group) for group in measured.groups.values())) for kind in KINDS)
    return TextTable(("evidence",), tuple(measured.groups), (("answers", *counts), *kinds))


def _told(told: Told, group: Group) -> str:
    if told.auroc is None:
        return told.untold
    low, high = told.auroc.low, told.auroc.high
    some = f" of {told.answers}" if told.answers < group.right + group.wrong else ""
    return f"{told.auroc.mean:.3f} ({low:.2f} to {high:.2f}){some}"


def calibration_table(measured: Measured) -> TextTable:
    given = _bins("given tests", measured.by_given_tests, GIVEN.missing)
    told = _bins("mean log-probability", measured.by_log_probability, MEAN.missing)
    return TextTable(("what is known", ""), ("answers", "right", "accuracy", "95 %"), (*given, *told))


def _bins(what: str, bins: Sequence[Bin], missing: str) -> list[tuple[str, ...]]:
    if not bins:
        return [(what, missing, "", "", "", "")]
    return [(what, some.name, str(some.answers), str(some.right), *_share(some.share)) for some in bins]


def _share(share: Estimate | None) -> tuple[str, str]:
    return (percent(share.mean), interval(share)) if share else (percent(None), "")


def decided_title(decisions: Decisions) -> str:
    """What the plan is, and on how many requests it ran."""
    return f"{decisions.plan.name}: {in_words(decisions.plan)}, on {counted(decisions.requests, 'request')}"


def decided_table(decisions: Decisions) -> TextTable:
    return TextTable(
        ("tier", "decided by"),
        ("requests", "accepted", "of these right", "kept", "of these right", "escalated"),
        tuple(
            (
                row.tier,
                row.by,
                *map(str, (row.requests, row.accepted, row.accepted_right, row.kept, row.kept_right, row.escalated)),
            )
            for row in decisions.decided
        ),
    )


def spent_table(decisions: Decisions) -> TextTable:
    """Where the money went."""
    whole = sum(spent.cost_usd for spent in decisions.spent)
    return TextTable(
        ("tier",),
        ("asked", "answered", "generated tokens", "$/1000 requests", "of the cost"),
        tuple(
            (
                spent.tier,
                str(spent.asked),
                str(spent.answered),
                f"{spent.completion_tokens:,}",
                f"{1e3 * spent.cost_usd / decisions.requests:.4f}",
                percent(spent.cost_usd / whole if whole else None),
            )
            for spent in decisions.spent
        ),
    )
