"""Documents of earlier sweeps that are still to be submitted again, or may have been: finish them, or look for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from prefect_extend_ai.errors import ExtendError, ExtendNotFoundError
from prefect_extend_ai.runs import CANCELLED
from prefect_extend_ai.sweep.chains import PendingResubmission
from prefect_extend_ai.sweep.journal import CancelIntent, Recorded
from prefect_extend_ai.sweep.plans import PlansLeft, ResubmitPlan
from prefect_extend_ai.sweep.recorder import Recorder
from prefect_extend_ai.sweep.recovery.open_runs import OpenRuns
from prefect_extend_ai.sweep.recovery.recovered import known_of
from prefect_extend_ai.sweep.report import Cancellation, Outcome
from prefect_extend_ai.sweep.resubmission.plan import LOOK_FOR, can_be_ours
from prefect_extend_ai.sweep.resubmission.results import ResubmitResult, plans_left, unknown
from prefect_extend_ai.sweep.resubmission.submitting import Resubmitter
from prefect_extend_ai.sweep.result import Result

__all__ = ["MAY_BE_SUBMITTED", "TO_BE_SUBMITTED", "Unfinished", "of_ended"]

TO_BE_SUBMITTED = "an earlier sweep was to submit it again; the next sweep that is not refused does"
MAY_BE_SUBMITTED = "an earlier sweep was interrupted while it submitted it again; later sweeps look for the new run"
LOOKED_IN_VAIN = (
    "no new run was found for 24 hours, and sweeps look for it no more. Where Extend shows none whose metadata has "
    "prefect_extend_resubmit_of {run_id} (first run {first_run}), resubmit_run submits it again"
)
NO_LONGER = "not submitted again: it is {status} now"


FOREIGN = "its cancel was logged for another workspace or address"
RECORD_SAYS = "not submitted again: its record says why"

Keep = Callable[[CancelIntent, Iterable[str], PlansLeft], Awaitable[object]]


@dataclass(slots=True)
class Unfinished:
    """What one sweep does about the plans of earlier sweeps whose runs have ended and are recorded.

    Attributes:
        runs: reads the runs.
        resubmitter: submits.
        known: what is known of each, for the report.
    """

    runs: OpenRuns
    resubmitter: Resubmitter
    known: dict[str, PendingResubmission] = field(default_factory=dict)

    def plans_of(
        self, intent: CancelIntent, plans: Mapping[str, ResubmitPlan], where: Mapping[str, Recorded]
    ) -> dict[str, ResubmitPlan]:
        """Those of an intent's plans that are still to be finished, given what is recorded of their runs.

        A document whose cancel was logged for another workspace or address is not submitted again.
        """
        left: dict[str, ResubmitPlan] = {}
        for run_id, plan in plans.items():
            found = None if plan.was_sent else where.get(run_id)
            if found is not None and found.resubmission == "ineligible":
                self.note(run_id, plan, ResubmitResult("ineligible", RECORD_SAYS))
            elif found is None or found.outcome in (None, Outcome.CANCELLED):
                is_foreign = intent.scope != self.resubmitter.journal.scope and not plan.was_sent
                left[run_id] = plan.model_copy(update={"why_not": plan.why_not or FOREIGN}) if is_foreign else plan
        return left

    async def decide(self, intent: CancelIntent, ended: Result, plans: Mapping[str, ResubmitPlan]) -> Result:
        """What is to be done about the document of a run that has ended since an intent was left open."""
        run_id = ended.cancellation.run_id
        if ended.final is None or run_id not in plans:
            return ended
        may_be_ours = can_be_ours(ended.final, plans[run_id], known_of(intent, run_id), self.runs.now())
        return await self.resubmitter.decide(replace(ended, may_be_ours=may_be_ours), plans[run_id])

    def plans_left(
        self, own: CancelIntent, ended: Sequence[Result], recorded: Collection[str], unrecorded: Collection[str]
    ) -> PlansLeft:
        """What is left of the plans for runs that have ended: those to be submitted, and what is not recorded yet."""
        to_do = {
            each.cancellation.run_id
            for each in ended
            if each.request is not None and each.cancellation.run_id in recorded
        }
        left = {run_id: plan for run_id, plan in own.resubmit.items() if run_id in to_do or run_id in unrecorded}
        self.note_known({run_id: plan for run_id, plan in left.items() if run_id in to_do})
        for each in ended:
            run_id, said = each.cancellation.run_id, each.cancellation.resubmission
            if said is not None and run_id in own.resubmit and run_id in recorded:
                self.note(run_id, own.resubmit[run_id], ResubmitResult(said, each.cancellation.reason))
        return PlansLeft(left)

    async def finish(self, left: CancelIntent, recorder: Recorder, keep: Keep) -> None:
        """Submit what an intent of an earlier sweep plans, and look for what may have been submitted.

        Raises RecordError when Prefect cannot be written to.

        Args:
            left: the intent.
            recorder: completes intents.
            keep: narrows the intent to these runs and plans.
        """
        plans = of_ended(left)
        sent = {run_id: plan for run_id, plan in plans.items() if plan.was_sent}
        planned = {run_id: plan for run_id, plan in plans.items() if not plan.was_sent}
        # An earlier attempt of this flow run reported it and ended Failed: so does this one, which takes its place.
        still = plans_left(left, (), await self.look(sent, are_news=recorder.journal.owns(left)))
        # Under an intent of this sweep's own, as for a record: of two sweeps at once, the claim lets one submit it.
        own = await recorder.journal.log([], planned) if planned else None
        if own is not None or still.left != sent:
            others = {run_id: plan for run_id, plan in left.resubmit.items() if run_id not in plans}
            await keep(left, left.run_ids, PlansLeft({**others, **still.left}, still.new_runs))
        if own is not None:
            await recorder.complete(own, {}, (), await self.submit(own))

    def note(self, run_id: str, plan: ResubmitPlan, again: ResubmitResult, *, is_news: bool = False) -> None:
        """Remember for the report what came of one."""
        self.known[run_id] = PendingResubmission(
            run_id=run_id,
            first_run=plan.first_run,
            attempt=plan.attempt,
            resubmission=again.resubmission,
            resubmitted_as=again.new_run,
            reason=again.reason,
            since=plan.planned_at or self.runs.now(),
            is_news=is_news,
            is_looked_for=again.resubmission == "unknown" and again.plan is not None,
        )

    def note_known(self, plans: Mapping[str, ResubmitPlan]) -> None:
        """Remember what is known of plans before anything is done about them."""
        for run_id, plan in plans.items():
            if plan.state == "unknown":
                self.note(run_id, plan, unknown(run_id, plan))
            else:
                why = MAY_BE_SUBMITTED if plan.was_sent else TO_BE_SUBMITTED
                self.note(run_id, plan, ResubmitResult(None, why, plan=plan))

    async def look(self, plans: Mapping[str, ResubmitPlan], *, are_news: bool) -> dict[str, ResubmitResult]:
        """Look for the new runs of creates that were not answered; what came of each.

        Args:
            plans: the plans of these runs.
            are_news: whether a create that an earlier look did not find either is news, too.
        """
        results: dict[str, ResubmitResult] = {}
        for twice in (True, False):
            some = {run_id: plan for run_id, plan in plans.items() if (plan.state == "sending") is twice}
            if not some:
                continue
            try:
                found = await self.resubmitter.look_for(some, twice=twice)
            except ExtendError as error:
                # Known as before, and looked for by the next sweep.
                results |= {
                    run_id: ResubmitResult(None, f"not looked for: {error}", plan=plan) for run_id, plan in some.items()
                }
                continue
            for run_id, plan in some.items():
                results[run_id] = self._after_look(run_id, plan, found.get(run_id))
                is_new = are_news or plan.state == "sending"
                self.note(run_id, plan, results[run_id], is_news=is_new and results[run_id].plan is not None)
        return results

    def _after_look(self, run_id: str, plan: ResubmitPlan, new: str | None) -> ResubmitResult:
        if new is not None:
            return ResubmitResult("submitted", f"submitted again as {new}; its response did not say so", new)
        since = plan.sent_at or plan.planned_at
        if since is not None and self.runs.now() - since > LOOK_FOR and plan.state == "unknown":
            return ResubmitResult("unknown", LOOKED_IN_VAIN.format(run_id=run_id, first_run=plan.first_run))
        return unknown(run_id, plan)

    async def submit(self, intent: CancelIntent) -> PlansLeft:
        """Submit what an intent of this sweep's own plans; what is left of its plans.

        Raises RecordError when Prefect cannot be written to.
        """
        results: dict[str, ResubmitResult] = {}
        requests = []
        for run_id, plan in intent.resubmit.items():
            result = await self._read(run_id, plan)
            if isinstance(result, ResubmitResult):
                results[run_id] = result
            elif result.request is not None:
                requests.append(result.request)
            else:
                results[run_id] = ResubmitResult(
                    result.cancellation.resubmission, result.cancellation.reason.lstrip("; ")
                )
        results |= await self.resubmitter.submit(intent, requests)
        for run_id, again in results.items():
            self.note(run_id, intent.resubmit[run_id], again, is_news=again.resubmission == "unknown")
            if again.resubmission is None and again.plan is None:
                self.known.pop(run_id)  # another sweep reports it
        return plans_left(intent, (), results)

    async def _read(self, run_id: str, plan: ResubmitPlan) -> Result | ResubmitResult:
        """Read a cancelled run once more, and decide."""
        try:
            run = await self.resubmitter.client.get_run(run_id, self.resubmitter.kind)
        except ExtendNotFoundError as error:
            return ResubmitResult("ineligible", f"not submitted again: {error}")
        except ExtendError as error:
            return ResubmitResult(None, f"the next sweep submits it again: {error}", plan=plan)
        if run.status != CANCELLED and not run.was_aborted:
            return ResubmitResult("ineligible", NO_LONGER.format(status=run.status))
        cancelled = Cancellation(run_id=run_id, outcome=Outcome.CANCELLED, reason="")
        return await self.resubmitter.decide(Result(cancelled, run, may_be_ours=True), plan)


def of_ended(intent: CancelIntent) -> dict[str, ResubmitPlan]:
    """The plans of an intent's runs that have ended and are recorded."""
    return {run_id: plan for run_id, plan in intent.resubmit.items() if run_id not in intent.run_ids}
