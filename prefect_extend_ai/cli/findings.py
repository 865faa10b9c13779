"""What `prefect-extend-ai check` finds: each finding is one line with a verdict."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from prefect_extend_ai.client import Page
from prefect_extend_ai.client.clocks import clock_words, compare_clocks
from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.rendering import visible
from prefect_extend_ai.runs import Run, duration
from prefect_extend_ai.sweep.journal import CancelIntent, Scope
from prefect_extend_ai.sweep.rules.holds import looks_held
from prefect_extend_ai.sweep.rules.policy import StalePolicy

__all__ = ["Finding", "Verdict", "judge_clock", "judge_holds", "judge_pending"]


class Verdict(enum.StrEnum):
    """How a finding is marked."""

    OK = "ok"
    WARN = "warn"
    """Worth knowing; sweeps run all the same."""
    FAIL = "fail"
    """Sweeps cannot run, or not as intended, until this is fixed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a check.

    Attributes:
        subject: what was checked.
        verdict: whether it is in order.
        text: what was found, and what to do.
    """

    subject: str
    verdict: Verdict
    text: str


def judge_clock(page: Page) -> Finding:
    """Compare Extend's clock, from a page's `Date`, with the local one; the times of its runs show which is wrong."""
    if page.date is None:
        return Finding("Clock", Verdict.FAIL, "Extend's response has no readable Date, so no sweep can compute an age")
    moments = [moment for run in page.runs for moment in (run.created_at, run.updated_at)]
    found = compare_clocks(page.date, page.received_at, moments)
    if found is None:
        return Finding("Clock", Verdict.OK, "agrees with Extend's")
    return Finding("Clock", Verdict.WARN, clock_words(found.seconds, found.suspect))


def judge_holds(runs: Iterable[Run], policy: StalePolicy) -> Finding | None:
    """Warn of runs in progress whose metadata looks like a hold but has no effect; None where there are none."""
    suspects = [run.id for run in runs if looks_held(run, policy)]
    if not suspects:
        return None
    which = f"{len(suspects)} run{'' if len(suspects) == 1 else 's'} in progress, {visible(suspects[0], 80)} the oldest"
    text = f"{which}: metadata that looks like a hold, but the hold key is {policy.hold_key}, so a sweep cancels them"
    return Finding("Holds", Verdict.WARN, f"{text}. To hold them, set hold_key in the policy to their key")


def judge_pending(intents: Sequence[CancelIntent], blocks: Sequence[ExtendCredentials], now: datetime) -> list[Finding]:
    """Cancels of earlier sweeps that are pending: those of the saved blocks' accounts, and those of others.

    Args:
        intents: every cancel intent that is pending on this Prefect server.
        blocks: the saved blocks that deployments name.
        now: the current time.
    """
    # A recent intent belongs to a sweep that is still running.
    overdue = [intent for intent in intents if intent.lasts_until() <= now]
    found: list[Finding] = []
    mine = [each for each in overdue if any(_names_same_account(each.scope, block) for block in blocks)]
    for kind in sorted({intent.scope.kind for intent in mine}):
        of_kind = [intent for intent in mine if intent.scope.kind == kind]
        runs = {run_id: intent.known.get(run_id) for intent in of_kind for run_id in intent.run_ids}
        since = min([intent.opened_at for intent in of_kind] + [each.since for each in runs.values() if each])
        aside = sum(each is not None and each.set_aside for each in runs.values())
        more = f", {aside} of them set aside" if aside else ""
        which = f"{_count(len(runs), f'{kind} run')} of earlier sweeps"
        text = f"{which} still pending, the oldest for {duration((now - since).total_seconds())}{more}"
        found.append(Finding("Pending", Verdict.WARN, f"{text}: the last report lists them"))
    if others := [each for each in overdue if each not in mine]:
        runs_elsewhere = {run_id for intent in others for run_id in intent.run_ids}
        since = min(intent.opened_at for intent in others)
        text = f"{_count(len(others), 'cancel intent')} with {_count(len(runs_elsewhere), 'run')}"
        how = "a sweep whose account can read them recovers them"
        text += f" of another workspace or address pending for {duration((now - since).total_seconds())}"
        found.append(Finding("Pending", Verdict.WARN, f"{text}: {how}"))
    return found


def _names_same_account(scope: Scope, block: ExtendCredentials) -> bool:
    return (scope.api_url, scope.workspace_id) == (block.api_url, block.workspace_id)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
