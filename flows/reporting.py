"""The end of a sweep: its report, its event, its words in the log."""

from collections.abc import Sequence
from datetime import UTC, datetime

from prefect.logging import get_run_logger

from prefect_extend_ai.errors import RecordError
from prefect_extend_ai.prefect_io.events import emit_sweep, tell_cancelled
from prefect_extend_ai.prefect_io.journal import PrefectJournal
from prefect_extend_ai.prefect_io.reports import read_history, write_report
from prefect_extend_ai.sweep import Selector
from prefect_extend_ai.sweep.history import History
from prefect_extend_ai.sweep.report import Cancellation, Outcome, SweepReport
from prefect_extend_ai.sweep.rules.staleness import DEFAULT_POLICY, StalePolicy
from prefect_extend_ai.sweep.scan import Target

__all__ = ["leave_report", "report_sweep", "rules"]

UNKNOWN = "Extend knows none of these runs: check ids, kind, workspace and environment (test or production)"
"""What is wrong where somebody named runs and none of them is there."""


async def report_sweep(
    journal: PrefectJournal,
    selector: Selector,
    report: SweepReport,
    history: History | None,
    listed: Sequence[Target],
    *,
    recovered: Sequence[Cancellation],
    events_last: bool,
) -> SweepReport:
    """Write the report and emit the sweep's event; the report as it was written.

    Args:
        journal: the journal of the sweep.
        selector: which runs it was about.
        report: what it did.
        history: the sweeps before it; None where that could not be read.
        listed: the runs that its listing showed as stale.
        recovered: what it recorded of earlier sweeps.
        events_last: whether the event of each cancelled run is emitted only now.
    """
    if history is not None and not selector.is_named and not report.kind.shows_metadata:
        report, history = history.note_holds(report, listed, selector.policy)
    if selector.is_named and report.selected and report.counts[Outcome.NOT_FOUND] == report.selected:
        report = report.model_copy(update={"trouble": report.trouble or UNKNOWN})
    say = get_run_logger().warning if report.needs_attention else get_run_logger().info
    say(report.headline)
    address = None
    is_news = history.is_news(report, datetime.now(UTC)) if history is not None else None
    try:
        address = await leave_report(journal, selector, report, history)
    except RecordError as error:
        unwritten = f"the report could not be written: {error}"
        trouble = f"{report.trouble}; {unwritten}" if report.trouble else unwritten
        report = report.model_copy(update={"trouble": trouble})
    emit_sweep(report, recovered, is_news=is_news)
    await tell_cancelled(report.kind, report.cancellations if events_last else [])
    if address is not None:
        # Last, so that it is found: the Artifacts tab of the flow run shows it among the records.
        get_run_logger().info("The report: %s", address)
    return report


async def leave_report(
    journal: PrefectJournal, selector: Selector, report: SweepReport, history: History | None = None
) -> str:
    """Write a report, and the history up to it; its address. Raises RecordError."""
    # Not read before where Prefect was out of reach then; without it the history would begin again here.
    history = history or (History() if selector.is_named else await read_history(journal))
    if not report.dry_run:
        history = history.with_sweep(report, datetime.now(UTC))
    return await write_report(journal, report, rules(selector), history)


def rules(selector: Selector) -> list[tuple[str, str]]:
    """Name and value of each rule that differs from its default, for the report; none where runs are named."""
    fields = StalePolicy.model_fields.items() if not selector.is_named else ()
    return [
        (field.title or name, str(getattr(selector.policy, name)))
        for name, field in fields
        if getattr(selector.policy, name) != getattr(DEFAULT_POLICY, name)
    ]
