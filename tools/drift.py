"""Compare what the installed `extend-ai` SDK knows of runs with what this project knows: `make drift`.

The vendor adds fields, statuses, failure reasons and endpoints without a new API version. Nothing here breaks on them,
but a new kind that can be cancelled, a new status or another word for "aborted" wants a person to look.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import typing
from collections.abc import Iterable, Iterator
from importlib.metadata import version

import httpx
from extend_ai import Extend

from prefect_extend_ai.errors import ExtendError
from prefect_extend_ai.runs import PROCESSED, RunKind
from prefect_extend_ai.runs.run import ABORTED
from prefect_extend_ai.sandbox import World

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
"""Failure reasons that were looked at; those that mean "aborted" are `prefect_extend_ai.runs.run.ABORTED`."""

UNUSED = {"source_id", "risk_level", "next_page_token", "max_page_size", "sort_dir", "status"}
"""Parameters of listings that were looked at, beyond those that a `RunKind` has a word on."""

EXPECTED = {
    "parse statuses: only ours: CANCELLED": "the vendor's changelog of 2026-06-09 has it, the SDK's enum does not",
}
"""Differences that are known, and why they stay."""


def differences() -> Iterator[str]:
    """Every difference, one line each, as `kind what: only ours|only theirs: names`."""
    theirs = {name.removesuffix("_runs") for name in dir(Extend) if name.endswith("_runs")}
    with_cancel = {name for name in theirs if hasattr(getattr(_sdk(), f"{name}_runs"), "cancel")}
    yield from _apart("kinds that can be cancelled", {kind.value for kind in RunKind}, with_cancel)
    for kind in RunKind:
        if kind.value in with_cancel:
            yield from (f"{kind} {line}" for line in _of(kind))


def _of(kind: RunKind) -> Iterator[str]:
    runs = getattr(_sdk(), f"{kind}_runs")
    whole = typing.get_type_hints(runs.cancel)["return"]
    (listed,) = typing.get_args(typing.get_type_hints(runs.list)["return"].model_fields["data"].annotation)
    world = World()
    run_id = world.add(kind, PROCESSED)
    yield from _apart("paths", {*_our_paths(kind)}, {*_their_paths(kind)})
    yield from _apart("fields", world.full(run_id).keys(), _fields(whole))
    yield from _apart("fields of a summary", world.listed(world.get(run_id)).keys(), _fields(listed))
    yield from _apart("timestamps", {"createdAt"} if kind.dated else set(), {"createdAt"} & _fields(whole))
    statuses = _statuses(whole) | _statuses(listed)
    ours = kind.terminal | kind.cancellable
    yield from _apart("statuses", ours | (WAITING & statuses), statuses)
    yield from _apart("failure reasons", REASONS[kind], _reasons(whole))
    yield from _apart(
        "words for aborted", ABORTED & REASONS[kind], {name for name in _reasons(whole) if "ABORT" in name}
    )
    asked = set(inspect.signature(runs.list).parameters)
    asked -= {"extend_workspace_id", "request_options"} | UNUSED
    filters = set(kind.filters) | ({f"{kind.processor}_id"} if kind.processor else set())
    yield from _apart("filters", filters | ({"sort_by"} if kind.sortable else set()), asked)


def _apart(what: str, ours: Iterable[str], theirs: Iterable[str]) -> Iterator[str]:
    if only := sorted(set(ours) - set(theirs)):
        yield f"{what}: only ours: {', '.join(only)}"
    if only := sorted(set(theirs) - set(ours)):
        yield f"{what}: only theirs: {', '.join(only)}"


def _fields(model: type[typing.Any]) -> set[str]:
    """Field names as they are on the wire."""
    return {field.alias or name for name, field in model.model_fields.items()}


def _statuses(model: type[typing.Any]) -> set[str]:
    enum = model.model_fields["status"].annotation
    return {member.value for member in enum if not member.name.startswith("_")}


def _reasons(model: type[typing.Any]) -> set[str]:
    """The failure reasons that the SDK's documentation of the field lists; they are no enum."""
    text = inspect.getsource(model).partition("failure_reason:")[2].partition("failure_message:")[0]
    return set(re.findall(r"^\s*\* `([A-Z_]+)`", text, re.MULTILINE))


def _our_paths(kind: RunKind) -> Iterator[str]:
    yield from (f"GET {kind.path}", f"GET {kind.path}/ID", f"POST {kind.path}/ID/cancel")


def _their_paths(kind: RunKind) -> Iterator[str]:
    """What the SDK really asks for, found out by asking."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url.path}")
        return httpx.Response(200, json={"object": "list", "data": []})

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        runs = getattr(_sdk(http), f"{kind}_runs")
        runs.list()
        runs.retrieve("ID")
        runs.cancel("ID")
    return iter(asked)


def _sdk(http: httpx.Client | None = None) -> Extend:
    return Extend(token="none", httpx_client=http)  # noqa: S106  # nothing is sent with it


def main() -> int:
    """Print what differs. 0, or with `--strict` 1 where something does that is not expected."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--strict", action="store_true", help="exit with 1 where there is unexpected drift")
    strict = parser.parse_args().strict
    found = list(differences())
    print(f"prefect-extend-ai {version('prefect-extend-ai')} (ours), extend-ai {version('extend-ai')} (theirs)")
    for line in found:
        print(f"  expected: {line}; {EXPECTED[line]}" if line in EXPECTED else f"  NEW: {line}")
    for line in EXPECTED.keys() - set(found):
        print(f"  gone: {line}; take it out of EXPECTED in tools/drift.py")
    news = set(found) ^ EXPECTED.keys()
    print(f"{len(news)} to look at." if news else "Nothing new.")
    return 1 if strict and news else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ExtendError as error:
        sys.exit(f"error: {error}")
