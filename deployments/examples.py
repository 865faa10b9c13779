"""Example flows for automations: copy and adapt them."""

# No `from __future__ import annotations` here: Prefect pickles a flow that is served from __main__ and loses the names.
from typing import Any

from prefect import flow
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.errors import ExtendInputError
from prefect_extend_ai.prefect_io.links import url_for
from prefect_extend_ai.runs import KindName
from prefect_extend_ai.tasks import get_run

__all__ = ["inform_owner", "raise_alarm", "send_digest"]

MOST_LINES = 50
"""Runs that a digest lists; the report has all of them."""
LONGEST_OWNER = 200
"""Characters of an owner's name that are passed on: metadata is whatever its creator wrote."""


@flow(name="send-digest", flow_run_name="digest of {kind} runs")
async def send_digest(
    headline: str,
    kind: KindName = "classify",
    *,
    cancelled: list[dict[str, Any]] | None = None,
    total: int = 0,
    flow_run_id: str | None = None,
    channel: str | None = None,
) -> Any:
    """Tell people which runs a sweep has cancelled: ids, ages and links, and nothing of the documents.

    Started by an automation once for each sweep that cancelled something.

    Args:
        headline: The sweep's own sentence.
        kind: The kind of run.
        cancelled: The runs, as the sweep's event has them: run_id, age_minutes, dashboard_url, record.
        total: How many were cancelled, where the event does not list all.
        flow_run_id: The sweep's flow run, to be linked.
        channel: A saved notification block to send through, such as slack-webhook/documents. Without one the digest is
            logged and nothing else.
    """
    subject, body = f"Extend, {kind} runs: {headline}", digest_text(cancelled or [], total, flow_run_id)
    get_run_logger().info("%s\n%s", subject, body)
    if channel is not None:
        await _send(channel, subject, body)
    return Completed(message=f"{headline} ({f'sent to {channel}' if channel else 'the log lists them'})")


def digest_text(runs: list[dict[str, Any]], total: int, flow_run_id: str | None) -> str:
    """A line for each run, and one for the sweep."""
    lines = [_line(run) for run in runs[:MOST_LINES]]
    if (more := max(total, len(runs)) - len(lines)) > 0:
        lines.append(f"and {more:,} more, in the report")
    if flow_run_id is not None:
        lines.append(f"The sweep, with its report: {url_for('flow-run', obj_id=flow_run_id) or flow_run_id}")
    return "\n".join(lines)


def _line(run: dict[str, Any]) -> str:
    age, record = run.get("age_minutes"), run.get("record")
    facts = [
        str(run.get("run_id")),
        f"unchanged for {age:.0f} min" if isinstance(age, int | float) else None,
        run.get("dashboard_url"),
        f"record {url_for('artifact', obj_id=record) or record}" if record else None,
    ]
    return ", ".join(str(fact) for fact in facts if fact)


@flow(name="inform-owner", flow_run_name="inform the owner of {run_id}")
async def inform_owner(
    credentials: ExtendCredentials,
    run_id: str,
    kind: KindName = "classify",
    owner_key: str = "owner",
    channel: str | None = None,
    *,
    resubmitted_as: str | None = None,
) -> Any:
    """Tell the owner of a document that its run was cancelled, and where to look at it.

    Started for each `extend.*_run.cancelled` event, and with the new run for each `extend.*_run.resubmitted`, by two
    automations that are off until you switch them on.

    Args:
        credentials: The saved Extend Credentials block to work with.
        run_id: The run that was cancelled.
        kind: Its kind.
        owner_key: The key of the run's metadata that names the owner.
        channel: A saved notification block to send through, such as slack-webhook/documents. Without one the message
            is logged and nothing else.
        resubmitted_as: The run that replaces it, where its document was submitted again.

    Raises:
        ExtendError: The run could not be read.
    """
    run = await get_run(credentials, run_id, kind)
    owner = str(run.metadata.get(owner_key) or "nobody in particular")[:LONGEST_OWNER]
    again = f", and its document was submitted again as {resubmitted_as}" if resubmitted_as else ""
    subject = f"The {kind} run {run_id} was cancelled{again}"
    body = f"It is a document of {owner!r}. {run.dashboard_url or ''}".strip()
    get_run_logger().warning("%s. %s", subject, body)
    if channel is not None:
        await _send(channel, subject, body)
    # Not the owner: a state's message goes into Prefect's event feed, and metadata is people's data.
    return Completed(message=f"{subject}; {f'sent to {channel}' if channel else 'the log says whose it is'}")


@flow(name="raise-alarm", flow_run_name="alarm: {subject}")
async def raise_alarm(subject: str, body: str, flow_run_id: str | None = None, channel: str | None = None) -> Any:
    """Raise an alarm: something requires action.

    Without a channel the flow run itself is the alarm: it ends Failed, under the name Alarm.

    Args:
        subject: What happened, in a few words.
        body: What to do, or the message of the state.
        flow_run_id: The flow run that it is about, to be linked.
        channel: A saved notification block to send through, such as slack-webhook/alerts.
    """
    if flow_run_id is not None:
        body = f"{body} {url_for('flow-run', obj_id=flow_run_id) or flow_run_id}"
    get_run_logger().error("%s. %s", subject, body)
    if channel is None:
        return Failed(name="Alarm", message=f"{subject}. {body}")
    await _send(channel, subject, body)
    return Completed(message=f"Sent to {channel}: {subject}")


async def _send(channel: str, subject: str, body: str) -> None:
    """Send through a notification block. Raises ExtendInputError if it is another kind of block."""
    block: Block = await Block.aload(channel)
    if not isinstance(block, NotificationBlock):
        raise ExtendInputError(
            f"the block {channel} sends no notifications: name one that does, like slack-webhook/alerts"
        )
    await block.notify(body, subject=subject)
