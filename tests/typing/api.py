"""Only has to type-check: every public name, as a user would write it. `make check` runs mypy over it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import assert_type
from uuid import UUID

from prefect_extend_ai import (
    Cancellation,
    ExtendClient,
    ExtendCredentials,
    ExtendError,
    ExtendSettings,
    LimitAdvice,
    Outcome,
    Run,
    RunKind,
    StalePolicy,
    SweepFailed,
    SweepRefused,
    SweepReport,
)
from prefect_extend_ai.deployments.examples import inform_owner, raise_alarm
from prefect_extend_ai.errors import (
    ExtendAPIError,
    ExtendAuthError,
    ExtendInputError,
    ExtendNotFoundError,
    ExtendNotSentError,
    ExtendPermissionError,
    ExtendRateLimitError,
    ExtendRefusedError,
    ExtendServerError,
    ExtendTransportError,
    ExtendUnexpectedResponseError,
    ExtendUsageBlockedError,
    RecordError,
    RecordRefusedError,
    SharedLimitError,
)
from prefect_extend_ai.flows import advise_limits, cancel_runs, cancel_stale_runs
from prefect_extend_ai.sandbox import Behaviour, Served, Trouble, World, serve
from prefect_extend_ai.tasks import cancel_run, find_stale_runs, get_run, resubmit_run, wait_for_run


def account() -> ExtendCredentials:
    """Credentials by every way there is."""
    ExtendCredentials(
        api_key="sk_...",
        workspace_id="ws_...",
        region="eu",
        base_url="https://extend.example.com",
        api_version="2026-02-09",
        requests_per_second=25,
    )
    assert_type(ExtendSettings().credentials(), ExtendCredentials)
    credentials = ExtendCredentials(api_key="sk_...")
    assert_type(credentials.api_key.get_secret_value(), str)
    assert_type(credentials.api_url, str)
    credentials.ensure_usable()
    return credentials


def policy() -> StalePolicy:
    """A policy with everything in it."""
    return StalePolicy(
        max_total_minutes=240,
        minutes_by_processor={"cl_invoices": 120},
        only_processors=["cl_invoices"],
        except_processors=["cl_quarterly_reports"],
        except_runs=["clr_..."],
        source="API",
        batch_id="bpr_...",
        file_name_contains="invoice",
        hold_key="hold",
        max_cancellations=100,
        refuse_above=1000,
        outage_guard=False,
        confirm_seconds=30,
        max_sweep_minutes=10,
        resubmit=2,
    )


async def client() -> None:
    """The client alone."""
    async with account().get_client() as extend:
        assert_type(extend, ExtendClient)
        run = await extend.get_run("clr_...")
        assert_type(run, Run)
        assert_type(await extend.cancel_run(run.id, kind="classify"), Run)
        async for page in extend.iter_pages(RunKind.PARSE, status=None, page_size=1000, source="API"):
            assert_type(page.runs, list[Run])
            assert_type(page.unreadable, int)
            assert_type(page.read_at, datetime | None)
            assert_type(page.date, datetime | None)
            assert_type(page.received_at, datetime | None)
        extend.iter_pages("workflow", sort_by="createdAt", sort_dir="desc", batch_id="batch_...")


def a_run(run: Run) -> None:
    """What a run tells."""
    assert_type(run.kind, RunKind)
    assert_type(run.id, str)
    assert_type(run.status, str | None)
    assert_type(run.text, str)
    assert_type(run.raw["output"] is None, bool)
    assert_type(run.is_terminal, bool)
    assert_type(run.created_at, datetime | None)
    assert_type(run.updated_at, datetime | None)
    assert_type(run.read_at, datetime | None)
    assert_type(run.request_id, str | None)
    assert_type(run.processor_id, str | None)
    assert_type(run.file_names, list[str])
    assert_type(run.failure_reason, str | None)
    assert_type(run.was_aborted, bool)
    assert_type(run.was_reviewed, bool)
    assert_type(run.date, datetime | None)
    assert_type(run.dashboard_url, str | None)
    assert_type(run.metadata.get("customer") is None, bool)
    metadata: Mapping[str, object] = run.metadata
    assert metadata is not None
    assert_type(Run.from_text("classify", "{}"), Run)


def a_kind(kind: RunKind) -> None:
    """What sets the kinds apart."""
    assert_type(kind.path, str)
    assert_type(kind.object_name, str)
    assert_type(kind.id_prefix, str)
    assert_type(kind.processor, str | None)
    assert_type(kind.cancellable, frozenset[str])
    assert_type(kind.terminal, frozenset[str])
    assert_type(kind.sortable, bool)
    assert_type(kind.filters, frozenset[str])
    assert_type(kind.dated, bool)
    assert_type(kind.worked, tuple[str, ...])
    assert_type(kind.stopped, tuple[str, ...])


async def tasks() -> None:
    """The tasks, awaited from a flow of one's own."""
    credentials = account()
    assert_type(await get_run(credentials, "clr_..."), Run)
    found = await find_stale_runs(credentials, max_processing_minutes=30, kind=RunKind.EXTRACT, policy=policy())
    assert_type(found, list[Run])
    cancellation = await cancel_run(credentials, "exr_...", kind="extract")
    assert_type(await wait_for_run(credentials, "clr_...", timeout_seconds=60, on_timeout="leave"), Run)
    assert_type(await resubmit_run(credentials, "clr_...", kind="classify"), Run)
    resubmission: str | None = cancellation.resubmission
    assert_type(cancellation.resubmitted_as, str | None)
    assert resubmission is None
    cancellation = await cancel_run(credentials, "exr_...")
    assert_type(cancellation, Cancellation)
    assert_type(cancellation.outcome, Outcome)
    assert_type(cancellation.reason, str)
    assert_type(cancellation.record, UUID | None)
    assert_type(cancellation.request_ids, list[str])
    if cancellation.outcome is Outcome.FINISHED_FIRST or cancellation.outcome.needs_attention:
        return


async def one_call(extend: ExtendClient) -> str:
    """What may go wrong with one, the narrow errors before the wide ones."""
    try:
        return (await extend.cancel_run("clr_...")).text
    except ExtendInputError as error:
        root: ValueError = error
        raise root from None
    except (ExtendAuthError, ExtendPermissionError, ExtendUsageBlockedError) as error:
        raise SystemExit(str(error)) from None
    except (ExtendNotFoundError, ExtendRefusedError, ExtendRateLimitError, ExtendServerError) as error:
        assert_type(error.status, int | None)
        assert_type(error.code, str | None)
        assert_type(error.request_id, str | None)
        assert_type(error.retryable, bool | None)
        api_error: ExtendAPIError = error
        return api_error.message
    except ExtendUnexpectedResponseError as error:
        return error.body
    except (ExtendNotSentError, SharedLimitError):
        return "nothing was sent"
    except ExtendTransportError:
        return "it may have taken effect"
    except (RecordRefusedError, RecordError) as error:
        wide: ExtendError = error
        raise wide from None


async def flows() -> SweepReport:
    """The flows, called."""
    credentials = await ExtendCredentials.aload("extend")
    try:
        report = await cancel_stale_runs(
            credentials, max_processing_minutes=45, dry_run=True, kind="split", policy=policy()
        )
        report = await cancel_runs(credentials, run_ids=["clr_..."], kind="classify", resubmit=True)
        report = await cancel_runs(credentials, run_ids=["exr_..., exr_..."])
    except SweepRefused as refused:
        return refused.report
    except SweepFailed as failed:
        assert_type(failed.report.trouble, str | None)
        if isinstance(failed.__cause__, ExtendAuthError):
            raise SystemExit(str(failed.__cause__)) from None
        return failed.report
    assert_type(report, SweepReport)
    counts: dict[Outcome, int] = report.counts
    assert_type(counts[Outcome.ERROR], int)
    assert_type(report.cancellations, list[Cancellation])
    assert_type(report.exempt, dict[str, int])
    assert_type(report.clock_difference_seconds, float | None)
    assert_type(report.looks_held, list[str])
    assert_type(report.selected, int)
    assert_type(report.headline, str)
    assert_type(report.needs_attention, bool)
    return report


def deployed() -> None:
    """Flows are Prefect flows, and errors say what came instead."""
    cancel_stale_runs.with_options(retries=1)
    inform_owner.with_options(name="tell them")
    raise_alarm.with_options(name="tell me")
    assert_type(ExtendUnexpectedResponseError("HTML", body="<html>").body, str)


def rehearse() -> None:
    """The sandbox."""
    world = World.populated(runs=60, stuck=12, behaviour=Behaviour(cancel="later"), troubles=["cancel:*:reset"])
    world.troubles.add(Trouble.parse("get:*:503=2@1-3"))
    run_id = world.add("classify", age_minutes=90, metadata={"prefect_hold": True})
    world.advance(minutes=5)
    with serve(world) as served:
        assert_type(served, Served)
        assert_type(served.url, str)
        assert_type(world.get(run_id).status, str)
        assert_type(world.stale(60), list[str])


async def advice(credentials: ExtendCredentials) -> None:
    """Which limit is right, and what a report says of the limits that a sweep learned."""
    found = await advise_limits(credentials, kind="extract", max_runs=1000, max_processing_minutes=30)
    assert_type(found, LimitAdvice)
    assert_type(found.headline, str)
    assert_type(found.minutes_by_processor, dict[str, int])
    assert_type(found.all.suggested_minutes, int | None)
    assert_type(found.processors[0].processor, str | None)
    assert_type(found.processors[0].would_have_cancelled, dict[int, int | None])
    report = await cancel_stale_runs(credentials, policy=StalePolicy(learn_limits=False))
    assert_type(report.learned_limits[0].minutes, int)
    assert_type(report.ignored_limits, list[str])
    limit = report.cancellations[0].limit
    assert_type(limit.minutes if limit else None, int | None)
