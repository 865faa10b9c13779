"""Cancel runs by their ids, whatever their age."""

# No `from __future__ import annotations` here: Prefect pickles a flow that is served from __main__ and loses the names.
from prefect import flow

from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.flows.runner import run_sweep
from prefect_extend_ai.runs import KindName, RunKind
from prefect_extend_ai.sweep import NamedRuns
from prefect_extend_ai.sweep.report import SweepReport
from prefect_extend_ai.sweep.staleness import StalePolicy

__all__ = ["cancel_runs"]


@flow(name="cancel-runs", flow_run_name="cancel-{kind}-runs-by-id")
async def cancel_runs(credentials: ExtendCredentials, run_ids: list[str], kind: KindName = "classify") -> SweepReport:
    """Cancel these Extend runs, whatever their age, and record what became of each.

    Each is checked right before its cancel and confirmed after it. A run whose metadata has `prefect_hold` set to
    something true is spared. An empty list is bad input, and a list of which Extend knows no run ends Failed too.

    Args:
        credentials: The saved Extend Credentials block to work with. A run form in which none is picked takes the
            one that the deployment names.
        run_ids: Ids of the runs to cancel, such as clr_Xj8mK2pL9nR4vT7qY5wZ.
        kind: The kind of run that all of them are.

    Returns:
        The report: what became of each run.

    Raises:
        SweepFailed: A run is unconfirmed, refused or in error, or nothing could be done at all (an impossible id, wrong
            key): then its `__cause__` is that error. `.report` has the rest. The flow run ends Failed.
    """
    policy = StalePolicy(max_cancellations=max(len(run_ids), 1))
    selector = NamedRuns(RunKind(kind), [run_id.strip() for run_id in run_ids], policy)
    ending: SweepReport = await run_sweep(credentials, selector)
    return ending
