"""The sweep: cancel what has been in progress too long."""

# No `from __future__ import annotations` here: Prefect pickles a flow that is served from __main__ and loses the names.
from typing import Annotated

from prefect import flow
from pydantic import Field

from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.flows.naming import sweep_name
from prefect_extend_ai.flows.runner import run_sweep
from prefect_extend_ai.prefect_io.deployed import policy_of_deployment
from prefect_extend_ai.runs import KindName, RunKind
from prefect_extend_ai.sweep import StaleRuns
from prefect_extend_ai.sweep.report import SweepReport
from prefect_extend_ai.sweep.rules.protections import missing_protections
from prefect_extend_ai.sweep.rules.staleness import (
    DEFAULT_POLICY,
    LONGEST_MINUTES,
    StalePolicy,
)

__all__ = ["cancel_stale_runs"]


@flow(name="cancel-stale-runs", flow_run_name=sweep_name)
async def cancel_stale_runs(
    credentials: ExtendCredentials,
    max_processing_minutes: Annotated[int, Field(ge=1, le=LONGEST_MINUTES)] = 60,
    dry_run: bool = False,
    kind: KindName = "classify",
    policy: StalePolicy = DEFAULT_POLICY,
) -> SweepReport:
    """Cancel Extend runs that have been PROCESSING too long, and record how each ended.

    A run is stale when its status is PROCESSING and it last changed longer ago than the limit, by the earlier of
    Extend's clock and ours. Each is checked again right before its cancel and confirmed after it; the final run objects
    are kept as artifacts.

    Args:
        credentials: The saved Extend Credentials block to work with. A run form in which none is picked takes the
            one that the deployment names.
        max_processing_minutes: Minutes since its last change after which a run is stale. At least 1; healthy runs of
            large files can take more than 5, and 30 to 60 is a safe start.
        dry_run: Only look: select and report exactly what a real sweep would, and cancel nothing.
        kind: The kind of run to look at.
        policy: Holds, exceptions, limits by processor, and how far one sweep may go.

    Returns:
        The sweep's report: how many runs were selected, the outcome of each, and why others were left out.

    Raises:
        SweepRefused: A guard refused the sweep; nothing was cancelled. The flow run ends Failed, named Refused.
        SweepFailed: A run is unconfirmed, refused or in error, or nothing could be done at all (wrong key, API out of
            reach, bad filter): then its `__cause__` is that error. `.report` has the rest. The flow run ends Failed.
    """
    selector = StaleRuns(RunKind(kind), max_processing_minutes, policy)
    deployed = await policy_of_deployment()
    missing = missing_protections(policy, deployed, max_processing_minutes) if deployed is not None else {}
    ending: SweepReport = await run_sweep(credentials, selector, dry_run=dry_run, missing_protections=missing)
    return ending
