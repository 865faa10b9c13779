"""Cancel runs by their ids, whatever their age."""

# No `from __future__ import annotations` here: Prefect pickles a flow that is served from __main__ and loses the names.
from prefect import flow
from prefect.logging import get_run_logger

from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.flows.naming import sweep_name
from prefect_extend_ai.flows.runner import run_sweep
from prefect_extend_ai.runs import KindChoice, RunKind
from prefect_extend_ai.runs.ids import guess_kind, split_run_ids, without_known_prefix
from prefect_extend_ai.sweep import NamedRuns
from prefect_extend_ai.sweep.report import SweepReport
from prefect_extend_ai.sweep.rules.staleness import StalePolicy

__all__ = ["cancel_runs"]


@flow(name="cancel-runs", flow_run_name=sweep_name)
async def cancel_runs(
    credentials: ExtendCredentials, run_ids: list[str], kind: KindChoice = None, resubmit: bool = False
) -> SweepReport:
    """Cancel these Extend runs, whatever their age, and record how each ended.

    Each is checked right before its cancel and confirmed after it. A run whose metadata has `prefect_hold` set to
    something true is spared. An empty list is bad input, and a list of which Extend knows no run ends Failed too.

    Args:
        credentials: The saved Extend Credentials block to work with. A run form in which none is picked takes the
            one that the deployment names.
        run_ids: Ids of the runs to cancel, such as clr_Xj8mK2pL9nR4vT7qY5wZ. Several pasted into one item, separated
            by commas, blanks or line ends, and addresses of runs in Extend's dashboard are understood.
        kind: The kind of run that all of them are. None is the one that their prefixes say; ids of another kind are
            refused before anything is sent.
        resubmit: Submit the document of each run that this cancels again, once. For classify, extract and split runs
            that were created over the API; the report says which were not, and why.

    Returns:
        The report: the outcome of each run.

    Raises:
        SweepFailed: A run is unconfirmed, refused or in error, or nothing could be done at all (an impossible id, wrong
            key): then its `__cause__` is that error. `.report` has the rest. The flow run ends Failed.
    """
    ids = split_run_ids(run_ids)
    found = RunKind(kind) if kind else guess_kind(ids)
    if kind is None and (unknown := without_known_prefix(ids)):
        get_run_logger().warning(
            "%s of the ids look like no kind that is known, %r the first. Without a kind, they are taken for classify "
            "runs: name the kind if they are of another.",
            f"{len(unknown):,}",
            unknown[0][:60],
        )
    policy = StalePolicy(max_cancellations=max(len(ids), 1))
    ending: SweepReport = await run_sweep(
        credentials, NamedRuns(found, ids, policy, kind_is_named=kind is not None, resubmit=resubmit)
    )
    return ending
