"""The verdict on one deployment of the sweep: does it watch, and for real?"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from prefect_extend_ai.cli.findings import Finding, Verdict
from prefect_extend_ai.rendering import visible
from prefect_extend_ai.runs import duration

__all__ = ["LastSweep", "PastRun", "ScheduleFacts", "Watch", "judge_schedules", "judge_watch"]

STILL_PENDING = "StillPending"
"""Name of the state of a sweep that completed while cancels of earlier sweeps are pending."""
NO_BLOCK = "Failed to resolve block references"
"""Prefect's whole message for a flow run whose parameters name a block that does not exist."""
BLOCK_MISSING = "the block it names does not exist: save it again, or name another in the deployment's parameters"
OVERDUE = timedelta(minutes=10)
"""How long after its time a sweep may start, where a worker is ready, before `check` says so."""
PLANNED = timedelta(minutes=5)
"""How long Prefect's server may take to make the next flow runs of an active schedule: it looks every minute."""
RECENTLY = timedelta(days=1)
"""A deployment without any schedule is in use where something else has started a sweep within this time."""


@dataclass(frozen=True, slots=True)
class LastSweep:
    """The latest sweep of a deployment that has ended.

    Attributes:
        name: the flow run's name.
        state: its state's name, such as `Completed` or `Refused`.
        message: its state's message.
        since: when it came into that state.
        completed: whether that state is of type Completed.
    """

    name: str
    state: str
    message: str
    since: datetime
    completed: bool


@dataclass(frozen=True, slots=True)
class ScheduleFacts:
    """A schedule of a deployment.

    Attributes:
        id: its id.
        label: its slug, or else its id.
        active: whether it is switched on.
        parameters: its own parameters, which take precedence over the deployment's.
    """

    id: str
    label: str
    active: bool
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PastRun:
    """A flow run that a schedule made.

    Attributes:
        schedule_id: the schedule.
        created: when it was made.
        parameters: what it was made with.
    """

    schedule_id: str
    created: datetime
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Watch:
    """A deployment of `cancel_stale_runs`, and what Prefect knows of its sweeps.

    Attributes:
        name: `FLOW/DEPLOYMENT`.
        kind: the kind of run that it sweeps.
        block: the name of its block; None if it names none.
        dry_run: whether its sweeps are dry runs, by its parameters.
        last: the latest real sweep that has ended; None if none is known.
        dry: how many dry runs have ended since.
        paused: what is paused, and how to resume it; None if nothing is.
        schedules: its schedules.
        next_at: when the next sweep is due; None if that is not known.
        worker: what executes its flow runs, such as `worker on pool "extend"`.
        ready: whether that has polled for runs within the last minute.
        how_to_start: the command that starts it.
        parameters: the deployment's parameters.
        updated: when the deployment was last changed.
        changed: when it or one of its schedules was.
        made: the flow runs that its schedules have made lately.
    """

    name: str
    kind: str
    block: str | None
    dry_run: bool = False
    last: LastSweep | None = None
    dry: int = 0
    paused: str | None = None
    schedules: Sequence[ScheduleFacts] = ()
    next_at: datetime | None = None
    worker: str = "worker"
    ready: bool = True
    how_to_start: str = ""
    parameters: Mapping[str, Any] | None = None
    updated: datetime | None = None
    changed: datetime | None = None
    made: Sequence[PastRun] = ()

    @property
    def is_real(self) -> bool:
        """Whether its next sweep cancels for real, as far as parameters and schedules say."""
        return not self.dry_run and self.paused is None and any(each.active for each in self.schedules)


def judge_watch(watch: Watch, now: datetime, real: Collection[tuple[str, str | None]] = ()) -> Finding:
    """Whether a deployment sweeps as scheduled, for real, and completes.

    Args:
        watch: the deployment.
        now: the current time.
        real: kind and block of each deployment that sweeps for real: a dry run beside one is not a failure.
    """
    text = f"{watch.name}: {watch.kind} runs of {_block(watch)}; {_history(watch, now)}"
    verdict, more = _off(watch, now) or _on(watch, now, real)
    return Finding("Sweeps", verdict, f"{text}{more}")


def _off(watch: Watch, now: datetime) -> tuple[Verdict, str] | None:
    """The verdict where sweeps fail or do not come; None where they do."""
    last, failed = watch.last, ""
    if last is not None and not last.completed:
        failed = f" (flow run {visible(last.name, 120)})" + (f": {BLOCK_MISSING}" if NO_BLOCK in last.message else "")
    if watch.paused is not None:
        return Verdict.FAIL, f"{failed}; no sweep will run: {watch.paused}"
    if not watch.ready:
        return Verdict.FAIL, f"{failed}; no worker is running: {watch.how_to_start}"
    if failed:
        return Verdict.FAIL, f"{failed}; {_due(watch, now)}" if watch.next_at is not None else failed
    if any(each.active for each in watch.schedules):
        return None
    if not watch.schedules and last is not None and now - last.since <= RECENTLY:
        return Verdict.WARN, "; it has no schedule: it sweeps only when something starts it"
    return Verdict.FAIL, f"; no sweep will run: {_switched_off(watch)}"


def _on(watch: Watch, now: datetime, real: Collection[tuple[str, str | None]]) -> tuple[Verdict, str]:
    """The verdict where sweeps come."""
    last, due = watch.last, f"{_due(watch, now)}, {watch.worker}"
    if watch.dry_run:
        if (watch.kind, watch.block) in real:
            return Verdict.WARN, f"; it only rehearses, another deployment sweeps for real; {due}"
        return Verdict.FAIL, f"; nothing is cancelled, dry_run is set in the deployment's parameters; {due}"
    if last is None and watch.dry:
        return Verdict.FAIL, f"; it has only ever run dry; {due}"
    if watch.next_at is None and watch.changed is not None and now - watch.changed > PLANNED:
        return Verdict.FAIL, "; no sweep is planned: its schedule is over, or the Prefect server's scheduler is off"
    if watch.next_at is not None and now - watch.next_at > OVERDUE:
        return Verdict.WARN, f"; {due}: does the worker's --limit, or a concurrency limit, hold it up?"
    if last is not None and last.state == STILL_PENDING:
        return Verdict.WARN, f"; cancels of earlier sweeps are still pending; {due}"
    return (Verdict.OK if last else Verdict.WARN), f"; {due}"


def _block(watch: Watch) -> str:
    return f"block {visible(watch.block, 80)}" if watch.block else "no block"


def _history(watch: Watch, now: datetime) -> str:
    dry = f"{watch.dry} dry run{'' if watch.dry == 1 else 's'}"
    if watch.last is None:
        return f"no real sweep has run yet, {dry} only" if watch.dry else "no sweep has run yet"
    last = watch.last
    since = f", {dry} since" if watch.dry else ""
    return f"last sweep {duration((now - last.since).total_seconds())} ago: {last.state}, {last.message}{since}"


def _due(watch: Watch, now: datetime) -> str:
    if watch.next_at is None:
        return "a schedule is active"
    if watch.next_at < now:
        return f"the next was due {duration((now - watch.next_at).total_seconds())} ago"
    return f"the next is due in {duration((watch.next_at - now).total_seconds())}"


def _switched_off(watch: Watch) -> str:
    if not watch.schedules:
        return "it has no schedule; give it one in the Prefect UI"
    return f"no schedule is active: prefect deployment schedule resume {watch.name} {watch.schedules[0].id}"


def judge_schedules(watch: Watch) -> list[Finding]:
    """Fail each schedule that carries parameters, has lost those it carried, or leaves a sweep without a block.

    Prefect drops a schedule's parameters when it is switched off or on or edited, in the UI or by command. The flow
    runs that it made before show what it carried: they differ from what it would start now, though the deployment has
    not been changed since.
    """
    found = []
    for each in watch.schedules:
        where = f"the schedule {visible(each.label, 80)} of {watch.name}"
        if each.parameters:
            names = ", ".join(visible(name, 80) for name in sorted(each.parameters))
            text = f"{where} carries parameters ({names}), and Prefect drops them when it is switched off or on"
            found.append(f"{text}: put them on another deployment (docs/kinds.md), and delete the schedule")
        elif each.active and (lost := _lost(watch, each)):
            names = ", ".join(visible(name, 80) for name in lost)
            text = f"{where} has lost its parameters ({names}): Prefect dropped them when it was switched or edited"
            now = f"it now sweeps {watch.kind} runs of {_block(watch)}"
            found.append(f"{text}, and {now}. Make another deployment (docs/kinds.md), and delete the schedule")
        elif each.active and watch.parameters is not None and not watch.parameters.get("credentials"):
            text = f"{where} starts sweeps without a block, because neither it nor its deployment names one"
            found.append(f"{text}: choose one in the deployment's parameters")
    return [Finding("Schedule", Verdict.FAIL, text) for text in found]


def _lost(watch: Watch, schedule: ScheduleFacts) -> list[str]:
    """The parameters that the schedule's last differing flow run had of it, and the next one would not."""
    now = watch.parameters or {}
    for run in sorted(watch.made, key=lambda run: run.created, reverse=True):
        if run.schedule_id != schedule.id or watch.updated is None or run.created < watch.updated:
            continue
        if differing := sorted(name for name in {*run.parameters, *now} if run.parameters.get(name) != now.get(name)):
            return differing
    return []
