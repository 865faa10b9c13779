"""Tasks that look: one run, or the stale ones."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.errors import ExtendUnexpectedResponseError
from prefect_extend_ai.runs import KindName, Run, RunKind
from prefect_extend_ai.runs.ids import kind_of_run
from prefect_extend_ai.sweep.rules.staleness import DEFAULT_POLICY, StalePolicy
from prefect_extend_ai.sweep.scan import learned_scan

__all__ = ["find_stale_runs", "get_run"]


@task(name="get-extend-run", cache_policy=NO_CACHE)
async def get_run(credentials: ExtendCredentials, run_id: str, kind: RunKind | KindName | None = None) -> Run:
    """Read one run, fresh.

    Args:
        credentials: The Extend account.
        run_id: The run's id.
        kind: The kind of run. None is the one that the id's prefix says, or classify where that is not known.

    Raises:
        ExtendInputError: The id or the kind cannot be right, or the id is of another kind; nothing was sent.
        ExtendNotFoundError: No such run in this workspace and environment.
        ExtendError: It could not be read for another reason.
    """
    found = kind_of_run(run_id, kind)
    async with credentials.get_client() as client:
        return await client.get_run(run_id, found)


@task(name="find-stale-extend-runs", cache_policy=NO_CACHE)
async def find_stale_runs(
    credentials: ExtendCredentials,
    max_processing_minutes: int = 60,
    kind: RunKind | KindName = "classify",
    policy: StalePolicy = DEFAULT_POLICY,
) -> list[Run]:
    """The runs that a sweep would select, as the listing shows them, oldest first. Cancels nothing.

    Args:
        credentials: The Extend account.
        max_processing_minutes: Minutes since its last change after which a run is stale.
        kind: The kind of run.
        policy: The rest of the rules. The guards and the cap are the sweep's and do not shorten this list.

    Raises:
        ExtendInputError: The policy filters by something that this kind cannot be listed by; nothing was sent.
        ExtendUnexpectedResponseError: Extend ignores a filter of the policy, so that the runs may be anybody's.
        ExtendError: The listing could not be read to its end.
    """
    found: dict[str, Run] = {}
    async with credentials.get_client() as client:
        survey = await learned_scan(
            client, RunKind(kind), max_processing_minutes, policy, keep=lambda run: found.setdefault(run.id, run)
        )
    if survey.refusal is not None:
        raise ExtendUnexpectedResponseError(survey.refusal)
    return [found[target.run_id] for target in survey.stale]
