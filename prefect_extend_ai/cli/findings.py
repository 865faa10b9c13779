"""What a check found, in one line each, and whether it is well."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from prefect_extend_ai.client import Page
from prefect_extend_ai.client.clocks import clock_words, compare_clocks, span
from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.rendering import visible
from prefect_extend_ai.runs import Run
from prefect_extend_ai.sweep.holds import looks_held
from prefect_extend_ai.sweep.journal import CancelIntent, Scope
from prefect_extend_ai.sweep.policy import StalePolicy

__all__ = ["Finding", "LastSweep", "Verdict", "judge_clock", "judge_holds", "judge_last_sweep", "judge_pending"]

STILL_PENDING = "StillPending"
"""The name of the state of a sweep that completed, and knows of cancels that have not."""
NO_BLOCK = "Failed to resolve block references"
"""What Prefect says of a flow run whose parameters name a block that is not there, and no more."""
BLOCK_MISSING = "the block that it named was not there: save that again, or name another in the deployment's parameters"


class Verdict(enum.StrEnum):
    """How a finding is marked."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; nothing is broken by it."""
    MEND = "mend"
    """Sweeps cannot run, or not as meant, until somebody mends it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a check.

    Attributes:
        about: what was looked at.
        verdict: how it is.
        said: what was found, and what to do.
    """

    about: str
    verdict: Verdict
    said: str


@dataclass(frozen=True, slots=True)
class LastSweep:
    """The latest run of a deployment that has begun.

    Attributes:
        name: the flow run's name.
        state: its state's name, such as `Completed` or `Refused`.
        message: its state's message.
        since: when it came into that state.
        well: whether that state is Completed or still under way.
    """

    name: str
    state: str
    message: str
    since: datetime
    well: bool


def judge_clock(page: Page) -> Finding:
    """Compare Extend's clock, from a page's `Date`, with the one here when it came; its runs tell whose is wrong."""
    if page.date is None:
        return Finding("Clock", Verdict.MEND, "Extend's response has no readable Date, so no sweep can tell an age")
    moments = [moment for run in page.runs for moment in (run.created_at, run.updated_at)]
    found = compare_clocks(page.date, page.received_at, moments)
    if found is None:
        return Finding("Clock", Verdict.OK, "agrees with Extend's")
    return Finding("Clock", Verdict.NOTE, clock_words(found.seconds, found.suspect))


def judge_holds(runs: Iterable[Run], policy: StalePolicy) -> Finding | None:
    """Whether runs in progress have metadata that looks like a hold and holds nothing; None where none has."""
    doubtful = [run.id for run in runs if looks_held(run, policy)]
    if not doubtful:
        return None
    which = f"{len(doubtful)} run{'' if len(doubtful) == 1 else 's'} in progress, {visible(doubtful[0], 80)} the oldest"
    said = f"{which}: metadata that looks like a hold, but the hold key is {policy.hold_key}, so a sweep cancels them"
    return Finding("Holds", Verdict.NOTE, f"{said}. If they are to be held, set hold_key in the policy to their key")


def judge_last_sweep(
    last: LastSweep | None,
    *,
    paused: str | None,
    scheduled: bool,
    coming: datetime | None,
    staffed: bool,
    how_to_start: str,
    now: datetime,
) -> Finding:
    """Whether sweeps happen, and end well.

    Args:
        last: the latest sweep that has ended, None where there is none.
        paused: what somebody has paused, and what to type to resume it; None where nothing is.
        scheduled: whether a schedule is active.
        coming: when the next one is due, None where that is not known.
        staffed: whether a worker, or a serving process, has asked for runs within the last minute.
        how_to_start: what to type to have one.
        now: the time.
    """
    about = "Last sweep"
    told = f"{span(now - last.since)} ago: {last.state}, {last.message}" if last else "there was none yet"
    if last is not None and not last.well:
        how = f": {BLOCK_MISSING}" if NO_BLOCK in last.message else ""
        return Finding(about, Verdict.MEND, f"{told} (flow run {last.name}){how}")
    if paused is not None:
        return Finding(about, Verdict.MEND, f"{told}; no sweep will run: {paused}")
    if not staffed:
        return Finding(about, Verdict.MEND, f"{told}; nothing is there to run the next one: {how_to_start}")
    if not scheduled:
        return Finding(about, Verdict.MEND, f"{told}; no sweep will run: no schedule is active, the UI switches one on")
    due = f"the next is due in {span(coming - now)}" if coming else "a schedule is active"
    if last is not None and last.state == STILL_PENDING:
        return Finding(about, Verdict.NOTE, f"{told}; cancels of earlier sweeps are still pending; {due}")
    return Finding(about, Verdict.OK if last else Verdict.NOTE, f"{told}; {due}")


def judge_pending(intents: Sequence[CancelIntent], block: ExtendCredentials | None, now: datetime) -> list[Finding]:
    """What earlier sweeps left open: of the account of the saved block, and of others.

    Args:
        intents: every cancel intent that is pending in this Prefect.
        block: the saved block, None where there is none.
        now: the time.
    """
    # What was logged a moment ago is a sweep's that is at work.
    done = [intent for intent in intents if intent.lasts_until() <= now]
    found: list[Finding] = []
    mine = [each for each in done if block is not None and _names_same_account(each.scope, block)]
    for kind in sorted({intent.scope.kind for intent in mine}):
        of_kind = [intent for intent in mine if intent.scope.kind == kind]
        runs = {run_id: intent.known.get(run_id) for intent in of_kind for run_id in intent.run_ids}
        since = min([intent.opened_at for intent in of_kind] + [each.since for each in runs.values() if each])
        aside = sum(each is not None and each.set_aside for each in runs.values())
        more = f", {aside} of them set aside" if aside else ""
        said = (
            f"{_count(len(runs), f'{kind} run')} of earlier sweeps not ended, the oldest for {span(now - since)}{more}"
        )
        found.append(Finding("Pending", Verdict.NOTE, f"{said}: the last report lists them"))
    if others := [each for each in done if each not in mine]:
        runs_elsewhere = {run_id for intent in others for run_id in intent.run_ids}
        since = min(intent.opened_at for intent in others)
        said = f"{_count(len(others), 'cancel intent')} with {_count(len(runs_elsewhere), 'run')}"
        how = "a sweep whose account can read them recovers them"
        found.append(
            Finding(
                "Pending", Verdict.NOTE, f"{said} of another workspace or address open for {span(now - since)}: {how}"
            )
        )
    return found


def _names_same_account(scope: Scope, block: ExtendCredentials) -> bool:
    return (scope.api_url, scope.workspace_id) == (block.api_url, block.workspace_id)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
