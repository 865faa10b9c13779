"""Submit the documents of cancelled runs again: look for a successor, claim, create once, and look again.

The claim is what makes a create happen once: it is written before the create is sent, and of several claims for a run
the earliest counts, for ever. What was claimed by a process that died is looked for, and never created again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from prefect_extend_ai.client import ExtendClient
from prefect_extend_ai.errors import ExtendAccountError, ExtendError, ExtendNotSentError, RecordError
from prefect_extend_ai.runs import Run, RunKind
from prefect_extend_ai.sweep.chains import ChainedRun
from prefect_extend_ai.sweep.journal import CancelIntent, Journal
from prefect_extend_ai.sweep.plans import Request, ResubmitPlan
from prefect_extend_ai.sweep.report import Outcome, PendingCancel
from prefect_extend_ai.sweep.resubmission.plan import Sent, config_digest, place_of, request_for, what_was_sent
from prefect_extend_ai.sweep.resubmission.results import (
    HANDLED,
    LATER,
    MAYBE_OURS,
    ResubmitResult,
    later,
    new_runs,
    plans_left,
    unknown,
)
from prefect_extend_ai.sweep.resubmission.successors import LookedTooFar, find_successors
from prefect_extend_ai.sweep.result import Result
from prefect_extend_ai.sweep.stop import Stop
from prefect_extend_ai.sweep.targets import Target

__all__ = ["LOOK_AGAIN", "TOGETHER", "Resubmitter"]

logger = logging.getLogger(__name__)

TOGETHER = 10
"""Creates that share a claim: the fewer, the less is unknown where a process dies between claim and create."""

LOOK_AGAIN = 5.0
"""Seconds between the two looks for a run whose creation was not answered."""

LONGEST_CHAIN = 20
"""Earlier runs of a document that a report names."""

BY_ID = (
    "an earlier sweep was to submit it again, and its cancel by id was asked for without that. "
    "resubmit_run submits it again"
)
NOT_OURS = "Extend did not accept our cancel, so somebody else may have cancelled it"
DIFFERS = "its configuration differs from the old run's: an override, which cannot be read back, or another version"


@dataclass(slots=True)
class Resubmitter:
    """Submits documents again, for one sweep.

    Attributes:
        client: an open client.
        journal: where claims are kept.
        stop: once set, no further create goes out.
        by_hand: whether somebody asked for this document.
    """

    client: ExtendClient
    journal: Journal
    stop: Stop
    by_hand: bool = False
    _why_not_now: str | None = field(default=None, init=False)

    def now(self) -> datetime:
        """The time, by the clock of this machine."""
        return self.client.now().time

    @property
    def kind(self) -> RunKind:
        """The kind of run."""
        return self.journal.scope.kind

    async def decide(self, result: Result, plan: ResubmitPlan | None) -> Result:
        """What is to be done about the document of a run that has ended, before the run is recorded."""
        run, cancellation = result.final, result.cancellation
        if plan is None or run is None or cancellation.outcome is not Outcome.CANCELLED:
            return result
        chain = await self._chain(plan)
        known = cancellation.model_copy(update={"chain": chain, "attempt": plan.attempt})
        if plan.gives_up:
            times = "once" if plan.attempt == 2 else f"{plan.attempt - 1} times"
            given_up = ResubmitResult("given_up", f"given up: it was submitted again {times}")
            return replace(result, cancellation=given_up.added_to(known))
        why_not = plan.why_not or (None if result.may_be_ours else NOT_OURS)
        request = why_not or request_for(run, plan, self.now())
        if isinstance(request, str):
            return replace(
                result, cancellation=ResubmitResult("ineligible", f"not submitted again: {request}").added_to(known)
            )
        return replace(result, cancellation=known, request=request)

    def plans(
        self, targets: Sequence[Target], earlier: Mapping[str, ResubmitPlan], *, named: bool = False
    ) -> dict[str, ResubmitPlan]:
        """The plan for each target whose document may have to be submitted again; one that was made before stays.

        Not where somebody `named` the runs: they say whether it is submitted again, and a plan that this ends is kept
        as one that says so.
        """
        made = {target.run_id: target.plan for target in targets if target.plan is not None}
        if named:
            ended = {id_: plan.model_copy(update={"why_not": plan.why_not or BY_ID}) for id_, plan in earlier.items()}
            made = ended | made
        else:
            made |= earlier
        return {
            run_id: plan if plan.planned_at is not None else plan.model_copy(update={"planned_at": self.now()})
            for run_id, plan in made.items()
        }

    async def submit_batch(
        self,
        intent: CancelIntent,
        results: Sequence[Result],
        still_open: Mapping[str, PendingCancel | None],
        recorded: Collection[str],
        adopted: Collection[str],
    ) -> dict[str, ResubmitResult]:
        """Submit the documents of a batch's recorded runs again, where that is to be; the result of each."""
        outcomes = {each.cancellation.run_id: each.cancellation.outcome for each in results}
        found = {run_id for run_id in adopted if outcomes.get(run_id) is Outcome.ALREADY_CANCELLED}
        requests = [each.request for each in results if each.request and each.cancellation.run_id in recorded]
        submitted = await self.submit(intent, requests, still_open, recorded) if requests else {}
        return submitted | dict.fromkeys(found & intent.resubmit.keys(), MAYBE_OURS)

    async def submit(
        self,
        intent: CancelIntent,
        requests: Sequence[Request],
        still_open: Mapping[str, PendingCancel | None] | None = None,
        recorded: Collection[str] = (),
    ) -> dict[str, ResubmitResult]:
        """Submit these, each once; what came of each. The caller then completes the intent with `plans_left`.

        Args:
            intent: an intent of this sweep.
            requests: what to submit, for runs of the intent.
            still_open: the intent's runs that have not ended.
            recorded: those whose final object is recorded.
        """
        still_open = still_open or {}
        to_do = intent.model_copy(
            update={"resubmit": intent.resubmit | {request.run_id: request.plan for request in requests}}
        )
        results: dict[str, ResubmitResult] = {}
        for start in range(0, len(requests), TOGETHER):
            some = requests[start : start + TOGETHER]
            narrowed = to_do.narrowed(still_open, recorded, plans=plans_left(to_do, still_open, results, requests))
            results |= await self._submit_some(narrowed.model_copy(update={"until": intent.until}), some)
        return results

    async def look_for(self, plans: Mapping[str, ResubmitPlan], *, twice: bool) -> dict[str, str]:
        """The runs that replace these, where there are any: creates of earlier sweeps that were not answered.

        Raises ExtendError where the listing cannot be read.
        """
        requests = [Request(run_id, plan, {}, None, plan.planned_at) for run_id, plan in plans.items()]
        found = await self._look(requests)
        if twice and len(found) < len(requests):
            await asyncio.sleep(LOOK_AGAIN)
            found |= await self._look(requests)
        return found

    async def _submit_some(self, intent: CancelIntent, requests: Sequence[Request]) -> dict[str, ResubmitResult]:
        if (reason := self.stop.reason or self._why_not_now) is not None:
            return later(requests, reason)
        try:
            found = await self._look(requests)
        except LookedTooFar as error:
            return {each.run_id: ResubmitResult("ineligible", f"not submitted again: {error}") for each in requests}
        except ExtendError as error:
            self._why_not_now = str(error)
            return later(requests, str(error))
        results = {
            run_id: ResubmitResult("submitted", f"submitted again as {new} before", new)
            for run_id, new in found.items()
        }
        missing = [each for each in requests if each.run_id not in found]
        if not missing:
            return results
        sending = {each.run_id: each.plan.now("sending", self.now()) for each in missing}
        claim = intent.model_copy(
            update={"resubmit": intent.resubmit | sending, "resubmitted": intent.resubmitted | new_runs(results)}
        )
        try:
            taken = await self.journal.claim(claim, by_hand=self.by_hand)
        except RecordError as error:
            self.stop.set(f"nothing was submitted again, because it could not be written down first: {error}", error)
            return results | later(missing, str(error))
        results |= {run_id: ResubmitResult(None, HANDLED) for run_id in taken}
        ours = [each for each in missing if each.run_id not in taken]
        sent = list(zip(ours, await asyncio.gather(*(self._create(each) for each in ours)), strict=True))
        lost = [each for each, again in sent if again is None]
        results |= {each.run_id: again for each, again in sent if again is not None}
        return results | await self._look_for_lost(lost, sending) if lost else results

    async def _create(self, request: Request) -> ResubmitResult | None:
        """Create one run; None where it may or may not have been created."""
        try:
            run = await self.client.create_run(request.body, self.kind, before_send=self._before_send)
        except ExtendError as error:
            return await self._not_created(request, error)
        if run.id == request.run_id:
            return None
        said = f"submitted again as {run.id}{_compared(request, run)}"
        return ResubmitResult("submitted", said, run.id, created=run)

    async def _not_created(self, request: Request, error: ExtendError) -> ResubmitResult | None:
        match what_was_sent(error):
            case Sent.NOT_SENT:
                return ResubmitResult(None, f"{LATER}: {error}", plan=request.plan)
            case Sent.REFUSED:
                if isinstance(error, ExtendAccountError):
                    self._why_not_now = str(error)
                # A refusal is not trusted: a gateway that sends a request twice shows that of the second.
                try:
                    found = await self.look_for({request.run_id: request.plan}, twice=False)
                except ExtendError:
                    found = {}
                if new := found.get(request.run_id):
                    return ResubmitResult("submitted", f"submitted again as {new}", new)
                return ResubmitResult("ineligible", f"not submitted again: Extend refuses it: {error}", in_vain=True)
            case _:
                logger.warning("Whether %s was submitted again is not known yet: %s", request.run_id, error)
                return None

    async def _look_for_lost(
        self, lost: Sequence[Request], sending: Mapping[str, ResubmitPlan]
    ) -> dict[str, ResubmitResult]:
        """Look twice, with a pause, for runs whose creation was not answered."""
        try:
            found = await self.look_for({each.run_id: each.plan for each in lost}, twice=True)
        except ExtendError as error:
            logger.warning("Runs whose creation was not answered cannot be looked for: %s", error)
            found = {}
        return {
            each.run_id: ResubmitResult("submitted", f"submitted again as {new}; its response did not say so", new)
            if (new := found.get(each.run_id))
            else unknown(each.run_id, sending[each.run_id])
            for each in lost
        }

    async def _look(self, requests: Sequence[Request]) -> dict[str, str]:
        since = {each.run_id: each.created_after for each in requests}
        return await find_successors(self.client, self.kind, since)

    def _before_send(self) -> None:
        if self.stop.reason is not None:
            raise ExtendNotSentError("not sent: the sweep was stopped")

    async def _chain(self, plan: ResubmitPlan) -> list[ChainedRun]:
        """The earlier runs of a document, the first run first, and how each ended as far as that can be read."""
        chain: list[ChainedRun] = []
        run_id = plan.replaces
        while run_id is not None and len(chain) < LONGEST_CHAIN and run_id not in {each.run_id for each in chain}:
            try:
                run = await self.client.get_run(run_id, self.kind)
            except ExtendError:
                chain.append(ChainedRun(run_id=run_id))
                break
            chain.append(ChainedRun(run_id=run_id, status=run.status))
            place = place_of(run.id, run.metadata)
            run_id = place.replaces if place else None
        if plan.replaces is not None and plan.first_run not in {each.run_id for each in chain}:
            chain.append(ChainedRun(run_id=plan.first_run))
        return chain[::-1]


def _compared(request: Request, run: Run) -> str:
    new = config_digest(run.raw)
    return f"; {DIFFERS}" if None not in (new, request.config) and new != request.config else ""
