"""Which runs a sweep is about: those that are stale, or those that somebody named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from prefect_extend_ai.client import ExtendClient
from prefect_extend_ai.errors import ExtendInputError
from prefect_extend_ai.runs import Run, RunKind, check_run_id
from prefect_extend_ai.runs.ids import check_kind
from prefect_extend_ai.sweep.resubmission.eligibility import plan_named, plan_stale
from prefect_extend_ai.sweep.resubmission.plan import check_resubmit
from prefect_extend_ai.sweep.rules.policy import DEFAULT_POLICY, StalePolicy
from prefect_extend_ai.sweep.rules.staleness import (
    AGE_BANDS,
    check_filters,
    check_limit,
    describe_limit,
    skip_reason,
    skip_reason_when_named,
)
from prefect_extend_ai.sweep.scan import Target, guarded_scan
from prefect_extend_ai.sweep.stop import Stop
from prefect_extend_ai.sweep.witness import ListingWitness

__all__ = ["NamedRuns", "Selection", "Selector", "StaleRuns"]


@dataclass(frozen=True, slots=True)
class Selection:
    """The runs to cancel, and what the report learns from how they were found.

    Attributes:
        targets: the runs, oldest first.
        facts: values of `SweepReport` fields, by name.
    """

    targets: list[Target]
    facts: Mapping[str, Any] = field(default_factory=dict)


class Selector(Protocol):
    """Selects the runs of a sweep, and says for each whether it still has to be cancelled right before its cancel."""

    @property
    def kind(self) -> RunKind:
        """The kind of run."""

    @property
    def policy(self) -> StalePolicy:
        """The rules."""

    @property
    def is_named(self) -> bool:
        """Whether somebody named the runs: then each is asked for, whatever earlier sweeps know of it."""

    @property
    def limit_minutes(self) -> int | None:
        """The limit by which runs are stale; None where they are named."""

    def validate(self) -> None:
        """Raise ExtendInputError for bad input; nothing is sent."""

    def describe(self) -> str:
        """What selects the runs, for people."""

    async def select(self, client: ExtendClient, stop: Stop) -> Selection:
        """The runs. Raises ExtendError where they cannot be found."""

    def recheck(self, run: Run, target: Target) -> str | None:
        """Why a run must not be cancelled as it was just read; None where it must still be."""

    def witness(self, client: ExtendClient) -> ListingWitness | None:
        """Who vouches for the age of runs whose single read tells no times; None where no age is asked for."""


@dataclass(frozen=True, slots=True)
class StaleRuns:
    """Runs of a kind that have been in progress for too long: a `Selector`."""

    kind: RunKind
    limit_minutes: int
    policy: StalePolicy = DEFAULT_POLICY
    is_named: bool = field(default=False, init=False)

    def validate(self) -> None:
        """Raise ExtendInputError for a limit that is none, or a filter that this kind cannot be listed by."""
        check_limit(self.limit_minutes)
        check_filters(self.kind, self.policy)
        check_resubmit(self.kind, resubmit=self.policy.resubmit > 0)

    def describe(self) -> str:
        """The limit, in words."""
        return describe_limit(self.limit_minutes, self.policy)

    async def select(self, client: ExtendClient, stop: Stop) -> Selection:
        """List what is in progress, and ask the guards; then which documents may be submitted again."""
        found = await guarded_scan(client, self.kind, self.limit_minutes, self.policy, stop=stop)
        facts = {
            "looked_at": found.now,
            "listed": found.listed,
            "exempt": {why.value: count for why, count in sorted(found.exempt.items())},
            "ages": {band: found.ages[band] for band in AGE_BANDS if found.listed},
            "clock_difference_seconds": found.clocks.seconds if found.clocks else None,
            "clock_suspect": found.clocks.suspect if found.clocks else None,
            "looks_held": found.looks_held,
            "learned_limits": found.learned,
            "not_learned": found.not_learned,
            "ignored_limits": found.ignored_limits,
            "refusal": found.refusal,
            "trouble": f"the listing was not read to its end: {found.unfinished}" if found.unfinished else None,
        }
        if found.refusal is not None or found.unfinished:
            return Selection(found.stale, facts)
        targets = await plan_stale(
            client, self.kind, found.stale, limit_minutes=self.limit_minutes, policy=self.policy, stop=stop
        )
        return Selection(targets, facts)

    def recheck(self, run: Run, target: Target) -> str | None:
        """Why the run must not be cancelled: no longer stale, held, excepted."""
        return skip_reason(run, target, self.limit_minutes, self.policy)

    def witness(self, client: ExtendClient) -> ListingWitness | None:
        """The listing, for kinds whose single read tells no times."""
        return None if self.kind.dated else ListingWitness(client, self.kind, self.policy)


@dataclass(frozen=True, slots=True)
class NamedRuns:
    """Runs that somebody named by their ids, whatever their age: a `Selector`.

    Attributes:
        kind: the kind of run.
        run_ids: the ids.
        policy: the rules.
        kind_is_named: whether somebody named the kind too; else it is what the ids look like.
        resubmit: whether each document is submitted again, however often it was before.
    """

    kind: RunKind
    run_ids: Sequence[str]
    policy: StalePolicy = DEFAULT_POLICY
    kind_is_named: bool = True
    resubmit: bool = False
    is_named: bool = field(default=True, init=False)
    limit_minutes: int | None = field(default=None, init=False)

    def validate(self) -> None:
        """Raise ExtendInputError where no ids are given, one that is not a run's, or one of another kind."""
        if not self.run_ids:
            raise ExtendInputError("no run ids were given: name the runs to cancel")
        for run_id in self.run_ids:
            check_run_id(run_id)
        check_kind(self.run_ids, self.kind, named=self.kind_is_named)
        check_resubmit(self.kind, resubmit=self.resubmit)

    def describe(self) -> str:
        """That they are named."""
        return "named by their ids"

    async def select(self, client: ExtendClient, stop: Stop) -> Selection:
        """The runs, each once. Nothing is looked up, unless their documents are to be submitted again."""
        targets = [Target(run_id) for run_id in dict.fromkeys(self.run_ids)]
        return Selection(await plan_named(client, self.kind, targets, stop) if self.resubmit else targets)

    def recheck(self, run: Run, target: Target) -> str | None:  # noqa: ARG002  # whatever its age
        """Why the run cannot be cancelled at all, is held, or is excepted."""
        return skip_reason_when_named(run, self.policy)

    def witness(self, client: ExtendClient) -> ListingWitness | None:  # noqa: ARG002  # no age is asked for
        """Nobody: no age is asked for."""
        return None
