"""Advice on limits, from an account's own history."""

# No `from __future__ import annotations` here: Prefect pickles a flow that is served from __main__ and loses the names.
from typing import Annotated

from prefect import flow
from prefect.logging import get_run_logger
from pydantic import Field

from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.runs import KindName, RunKind
from prefect_extend_ai.sweep.rules.advice import MOST_RUNS, LimitAdvice
from prefect_extend_ai.sweep.rules.policy import LONGEST_MINUTES
from prefect_extend_ai.tasks.advising import read_advice, write_advice

__all__ = ["advise_limits"]


@flow(name="advise-limits", flow_run_name="limits-of-{kind}-runs")
async def advise_limits(
    credentials: ExtendCredentials,
    kind: KindName = "classify",
    max_runs: Annotated[int, Field(ge=1, le=MOST_RUNS)] = 5000,
    max_processing_minutes: Annotated[int, Field(ge=1, le=LONGEST_MINUTES)] = 60,
) -> LimitAdvice:
    """Say which limit is right for the runs of one kind, from how long the last ones took. Cancels nothing.

    For each processor and for all together: the durations, a suggested limit, and how many healthy runs other limits
    would have cancelled. The page is an artifact, `extend-limits-<kind>`.

    Args:
        credentials: The saved Extend Credentials block to work with. A run form in which none is picked takes the
            one that the deployment names.
        kind: The kind of run to look at.
        max_runs: How many finished runs are read at most, the latest first; a thousand a request.
        max_processing_minutes: The limit that is in force, or thought of.

    Returns:
        The advice: what is on the page, as numbers.

    Raises:
        ExtendError: The runs could not be listed (wrong key, API out of reach).
        RecordError: The page could not be written.
    """
    credentials.ensure_usable()
    advice: LimitAdvice = await read_advice(credentials, RunKind(kind), max_runs, max_processing_minutes)
    get_run_logger().info(advice.headline)
    await write_advice(credentials, advice)
    return advice
