"""Pending cancels of earlier sweeps, and a message to the vendor's support about them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from prefect_extend_ai.rendering.inert import escape, fence, visible
from prefect_extend_ai.rendering.words import age, instant, plain, table
from prefect_extend_ai.sweep.report import Cancellation, Outcome, PendingCancel, SweepReport

__all__ = ["FOR_SUPPORT", "pending_section", "pending_steps", "support_message"]

ROWS = 50
"""Most pending runs in the section, and most runs in a message to support."""
FOR_SUPPORT = (Outcome.UNCONFIRMED, Outcome.REFUSED)
"""Outcomes of runs that stayed in progress after a cancel request."""


def pending_section(report: SweepReport) -> str:
    """The pending runs of earlier sweeps, with the message to support; empty without any."""
    if not report.pending:
        return _elsewhere(report)
    # New information first, runs that are set aside last.
    pending = sorted(report.pending, key=lambda each: (not each.is_news, each.set_aside))
    rows = [
        (
            escape(each.run_id),
            # No-break spaces: a narrow column would wrap it into three lines.
            instant(each.since).replace(" ", "\N{NO-BREAK SPACE}"),
            "unknown" if each.attempts is None else f"{each.attempts}",
            escape(each.status or "unknown", 40),
            _what_is_known(each),
        )
        for each in pending[:ROWS]
    ]
    left = f"\n\nand {len(pending) - ROWS:,} more" if len(pending) > ROWS else ""
    listing = table(["Run", "Since", "Cancels", "Status", "What is known"], rows, number="Cancels") + left
    asked_for = any(each.outcome in FOR_SUPPORT for each in pending)
    note = support_message(report, pending=pending) if asked_for else ""
    parts = ["### Pending from earlier sweeps", listing, note, _elsewhere(report)]
    return "\n\n".join(part for part in parts if part)


def pending_steps(report: SweepReport) -> list[str]:
    """What to do about runs of earlier sweeps for which this one raises an alarm."""
    news = [each for each in report.pending if each.is_news]
    aside = sum(each.set_aside for each in news)
    steps = []
    if lasting := len(news) - aside:
        steps.append(
            f"- **still pending**: {_runs(lasting)} of earlier sweeps. Send the message below to Extend's support."
        )
    if aside:
        how = "Sweeps ask for them no more: send the message below, and name them in *cancel-runs* to ask again"
        steps.append(f"- **set aside**: {_runs(aside)} pending for 24 hours. {how}.")
    return steps


def support_message(
    report: SweepReport, cancellations: Sequence[Cancellation] = (), pending: Sequence[PendingCancel] = ()
) -> str:
    """A message to Extend's support, to be copied: the runs that did not end, with their request ids."""
    entries = [_entry(each, _span(each.age_minutes, "without a change")) for each in cancellations]
    entries += [
        _entry(each, _span(_minutes(report.looked_at, each.since), "since the first cancel"))
        for each in pending
        if each.outcome in FOR_SUPPORT
    ]
    lines = [
        f"Subject: {report.kind} runs that stay in progress after a cancel",
        "",
        "Hello Extend support,",
        "",
        f"we asked for these {report.kind} runs to be cancelled",
        f"(POST {report.kind.path}/ID/cancel), and they did not end.",
        "Please look into them, and let us know when they are cancelled.",
        "",
        f"Workspace: {visible(report.workspace_id or 'the one of our API key')}",
        f"Time: {instant(report.looked_at) or 'unknown'}",
        "",
        *(line for entry in entries[:ROWS] for line in entry),
    ]
    if len(entries) > ROWS:
        lines.append(f"- and {len(entries) - ROWS:,} more")
    return fence("\n".join(lines), "text")


def _entry(each: Cancellation | PendingCancel, span: str) -> tuple[str, str, str]:
    return (
        f"- {visible(each.run_id)}",
        f"  {plain(each.outcome or 'unknown')}, status {visible(each.status or 'unknown', 40)}{span}",
        f"  request ids: {', '.join(visible(found, 80) for found in each.request_ids[:5]) or 'none known'}",
    )


def _span(minutes: float | None, since: str) -> str:
    return f", {age(minutes)} {since}" if minutes is not None else ""


def _what_is_known(each: PendingCancel) -> str:
    how = f"was {plain(each.outcome)}" if each.outcome else "its sweep was interrupted"
    if each.outcome is not None and each.outcome.is_end:
        how = f"{plain(each.outcome)}, but its final object is not recorded yet"
    if each.set_aside:
        return f"{'**set aside now**' if each.is_news else 'set aside'}: {how}; sweeps send it no more cancels"
    return f"**still pending**: {how}" if each.is_news else f"{how}; reported before"


def _elsewhere(report: SweepReport) -> str:
    found = report.open_elsewhere
    if found is None:
        return ""
    entries = "1 cancel intent" if found.intents == 1 else f"{found.intents:,} cancel intents"
    return (
        f"{entries} with {_runs(found.runs)} of another workspace or address are open since {instant(found.since)}: "
        "the sweep whose account can read them recovers them."
    )


def _runs(number: int) -> str:
    return "1 run" if number == 1 else f"{number:,} runs"


def _minutes(now: datetime | None, since: datetime) -> float | None:
    return max(now - since, timedelta()).total_seconds() / 60 if now is not None else None
