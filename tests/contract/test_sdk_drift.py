"""What the installed `extend-ai` SDK knows of runs is what this project knows, apart from what EXPECTED explains.

The vendor adds fields, statuses, failure reasons and endpoints without a new API version. Nothing here breaks on them,
but a new kind that can be cancelled, a new status or another word for "aborted" is for a maintainer to look at. The
SDK's version is pinned in `constraints.txt`: this fails after `make lock`, and not because of somebody's change.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterable, Iterator

import httpx
import pytest
from extend_ai import Extend

from prefect_extend_ai.runs import PROCESSED, RunKind
from prefect_extend_ai.runs.run import ABORTED
from prefect_extend_ai.sandbox import World

EXPECTED = {
    # The vendor's changelog of 2026-06-09 has it, the SDK's enum does not.
    RunKind.PARSE: {"statuses: only ours: CANCELLED"},
}
"""Differences that are known, and why they stay."""

WAITING = {"PENDING", "NEEDS_REVIEW", "CANCELLING"}
"""Statuses that are neither an end nor, but for a workflow's PENDING, to be cancelled."""

_PROCESSOR_REASONS = {
    *("ABORTED", "INTERNAL_ERROR", "FAILED_TO_PROCESS_FILE", "INVALID_PROCESSOR", "INVALID_CONFIGURATION"),
    *("PARSING_ERROR", "PRE_PROCESSING_FAILURE", "POST_PROCESSING_FAILURE", "OUT_OF_CREDITS"),
}
REASONS = {
    RunKind.CLASSIFY: _PROCESSOR_REASONS,
    RunKind.EXTRACT: _PROCESSOR_REASONS | {"SCHEMA_GENERATION_FAILED"},
    RunKind.SPLIT: _PROCESSOR_REASONS,
    RunKind.PARSE: {
        *("UNABLE_TO_DOWNLOAD_FILE", "FILE_TYPE_NOT_SUPPORTED", "FILE_SIZE_TOO_LARGE", "CORRUPT_FILE", "OCR_ERROR"),
        *("PASSWORD_PROTECTED_FILE", "FAILED_TO_CONVERT_TO_PDF", "FAILED_TO_CONVERT_TO_JPEG", "CHUNKING_ERROR"),
        *("FAILED_TO_GENERATE_TARGET_FORMAT", "INTERNAL_ERROR", "INVALID_CONFIG_OPTIONS", "OUT_OF_CREDITS"),
    },
    RunKind.VERIFY: {
        *("FILE_TYPE_NOT_SUPPORTED", "NO_APPLICABLE_SIGNALS", "PARSE_FAILED", "REQUEST_ABORTED", "INTERNAL_ERROR"),
    },
    RunKind.WORKFLOW: set(),
}
"""Failure reasons that were reviewed; those that mean "aborted" are `prefect_extend_ai.runs.run.ABORTED`."""

UNUSED = {"source_id", "risk_level", "next_page_token", "max_page_size", "sort_dir", "status"}
"""Parameters of listings that were reviewed, beyond those that a `RunKind` names."""


def test_the_sdk_cancels_the_kinds_that_we_do():
    assert set(compare("kinds", RunKind, kinds_of_sdk())) == set()


def test_the_sdk_knows_the_facts_that_we_do(kind):
    assert set(differences(kind)) == EXPECTED.get(kind, set())


def test_a_kind_that_we_do_not_know_is_named():
    known = [kind for kind in RunKind if kind is not RunKind.SPLIT]
    assert list(compare("kinds", known, kinds_of_sdk())) == ["kinds: only theirs: split"]


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        (
            "REASONS",
            {RunKind.VERIFY: REASONS[RunKind.VERIFY] - {"PARSE_FAILED"} | {"OUR_OWN"}},
            {"failure reasons: only ours: OUR_OWN", "failure reasons: only theirs: PARSE_FAILED"},
        ),
        ("UNUSED", UNUSED - {"risk_level"}, {"filters: only theirs: risk_level"}),
        ("ABORTED", frozenset(), {"words for aborted: only theirs: REQUEST_ABORTED"}),
    ],
)
def test_a_fact_that_only_one_side_knows_is_named(monkeypatch, name, value, found):
    monkeypatch.setitem(globals(), name, value)
    assert set(differences(RunKind.VERIFY)) == found


def kinds_of_sdk() -> set[str]:
    """The kinds of run that the SDK can cancel."""
    names = {name.removesuffix("_runs") for name in dir(Extend) if name.endswith("_runs")}
    return {name for name in names if hasattr(getattr(sdk(), f"{name}_runs"), "cancel")}


def differences(kind: RunKind) -> Iterator[str]:
    """Every difference, one line each, as `what: only ours|only theirs: names`."""
    runs = getattr(sdk(), f"{kind}_runs")
    full = typing.get_type_hints(runs.cancel)["return"]
    (summary,) = typing.get_args(typing.get_type_hints(runs.list)["return"].model_fields["data"].annotation)
    world = World()
    run_id = world.add(kind, PROCESSED)
    yield from compare("paths", our_paths(kind), paths_of_sdk(kind))
    yield from compare("fields", world.full(run_id), fields(full))
    yield from compare("fields of a summary", world.listed(world.get(run_id)), fields(summary))
    yield from compare("timestamps", {"createdAt"} if kind.dated else set(), {"createdAt"} & fields(full))
    known = statuses(full) | statuses(summary)
    yield from compare("statuses", kind.terminal | kind.cancellable | (WAITING & known), known)
    yield from compare("failure reasons", REASONS[kind], reasons(full))
    aborted = {name for name in reasons(full) if "ABORT" in name}
    yield from compare("words for aborted", ABORTED & REASONS[kind], aborted)
    parameters = set(inspect.signature(runs.list).parameters) - {"extend_workspace_id", "request_options"} - UNUSED
    filters = set(kind.filters) | ({f"{kind.processor}_id"} if kind.processor else set())
    yield from compare("filters", filters | ({"sort_by"} if kind.sortable else set()), parameters)


def compare(what: str, ours: Iterable[str], theirs: Iterable[str]) -> Iterator[str]:
    ours, theirs = set(map(str, ours)), set(map(str, theirs))
    for side, names in (("ours", ours - theirs), ("theirs", theirs - ours)):
        if names:
            yield f"{what}: only {side}: {', '.join(sorted(names))}"


def fields(model: type[typing.Any]) -> set[str]:
    """Field names as they are on the wire."""
    return {field.alias or name for name, field in model.model_fields.items()}


def statuses(model: type[typing.Any]) -> set[str]:
    enum = model.model_fields["status"].annotation
    return {member.value for member in enum if not member.name.startswith("_")}


def reasons(model: type[typing.Any]) -> set[str]:
    """The failure reasons that the SDK's documentation of the field lists; no enum has them."""
    text = inspect.getsource(model).partition("failure_reason:")[2].partition("failure_message:")[0]
    return set(re.findall(r"^\s*\* `([A-Z_]+)`", text, re.MULTILINE))


def our_paths(kind: RunKind) -> set[str]:
    return {f"GET {kind.path}", f"GET {kind.path}/ID", f"POST {kind.path}/ID/cancel"}


def paths_of_sdk(kind: RunKind) -> set[str]:
    """What the SDK really requests, found out by calling it."""
    requested: set[str] = set()

    def respond(request: httpx.Request) -> httpx.Response:
        requested.add(f"{request.method} {request.url.path}")
        return httpx.Response(200, json={"object": "list", "data": []})

    with httpx.Client(transport=httpx.MockTransport(respond)) as http:
        runs = getattr(sdk(http), f"{kind}_runs")
        runs.list()
        runs.retrieve("ID")
        runs.cancel("ID")
    return requested


def sdk(http: httpx.Client | None = None) -> Extend:
    return Extend(token="none", httpx_client=http)
