"""Made-up runs like those of a working day: every status and age, several processors, files and customers."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Any, Protocol

from prefect_extend_ai.errors import ExtendInputError
from prefect_extend_ai.runs import FAILED, PROCESSED, PROCESSING, RunKind
from prefect_extend_ai.sandbox.dice import dice_of, new_id
from prefect_extend_ai.sandbox.record import Processor

__all__ = ["Addable", "describe_run", "populate", "processors"]

_PROCESSOR_PREFIXES = {"classifier": "cl_", "extractor": "ex_", "splitter": "spl_", "workflow": "workflow_"}
_DESKS = ("Invoices", "Freight", "Payroll")
_FILES = (
    "invoice_{n}.pdf",
    "Rechnung {n}.pdf",
    "bill_of_lading_{n}.pdf",
    "scan{n}.tiff",
    "PO-{n} (signed).pdf",
    "bank statement {n}.pdf",
    "payslip_{n}.docx",
    "contract-{n}-final.pdf",
)
_SOURCES = ("API", "API", "WORKFLOW_RUN", "BATCH_PROCESSOR_RUN", "STUDIO")
"""The sources of runs, the most common one more than once. Verify runs come from API and STUDIO only."""
_REASONS = {
    RunKind.PARSE: ("OCR_ERROR", "CORRUPT_FILE", "PASSWORD_PROTECTED_FILE"),
    RunKind.VERIFY: ("PARSE_FAILED", "FILE_TYPE_NOT_SUPPORTED"),
}
_COMMON_REASONS = ("INTERNAL_ERROR", "FAILED_TO_PROCESS_FILE", "OUT_OF_CREDITS")
_HELD = "held"
_DAY = (PROCESSED, PROCESSING, FAILED, "PENDING", PROCESSED, "CANCELLED", PROCESSING, _HELD, PROCESSED, PROCESSING)
"""The other runs cycle through this, so that even a small population has some of each."""
_WORKFLOW_DAY = (*_DAY, "NEEDS_REVIEW", "REJECTED", "CANCELLING")


class Addable(Protocol):
    """An object to which runs can be added, see `World.add`."""

    def add(self, kind: RunKind, status: str, **facts: Any) -> str:
        """Add a run and return its id."""


@functools.cache
def processors(kind: RunKind) -> tuple[Processor, ...]:
    """The classifiers (extractors, ...) that every sandbox has; none for a kind without."""
    if kind.processor is None:
        return ()
    rng = dice_of(kind.value)
    prefix = _PROCESSOR_PREFIXES[kind.processor]
    return tuple(Processor(new_id(prefix, rng), f"{desk} {kind.processor}") for desk in _DESKS)


def populate(world: Addable, *, runs: int, stuck: int, seed: int, kind: RunKind, workspace: str) -> None:
    """Add `runs` runs of a kind, `stuck` of them PROCESSING without a change for 65 minutes to three days.

    The others will end, have ended (some within the last hour), or are stuck but have `"prefect_hold": true`
    in their metadata. Raises ExtendInputError for more stuck runs than runs.
    """
    if not 0 <= stuck <= runs:
        raise ExtendInputError(f"stuck must lie between 0 and the number of runs ({runs}), not {stuck}")
    rng = dice_of(f"{seed}/{kind}")
    add = functools.partial(world.add, kind, workspace=workspace)
    for number in range(stuck):
        updated = 65 * (4320 / 65) ** ((number + rng.random() * 0.9) / stuck)
        _stuck(add, kind, rng, updated)
    day = _WORKFLOW_DAY if kind is RunKind.WORKFLOW else _DAY
    for number in range(runs - stuck):
        status = day[number % len(day)]
        if status == _HELD:
            _stuck(add, kind, rng, rng.uniform(70, 2000), held=True)
        elif status in (PROCESSING, "PENDING"):
            _live(add, kind, rng, PROCESSING if kind is RunKind.VERIFY else status)
        else:
            _ended(add, kind, rng, status, recent=number % 4 == 0)


def _stuck(add: Callable[..., str], kind: RunKind, rng: random.Random, updated: float, held: bool = False) -> None:
    facts = describe_run(kind, rng)
    if held:
        facts["metadata"] = {**(facts["metadata"] or {}), "prefect_hold": True}
    add(PROCESSING, updated_minutes=updated, created_minutes=updated + rng.uniform(0.1, 10), **facts)


def _live(add: Callable[..., str], kind: RunKind, rng: random.Random, status: str) -> None:
    end = FAILED if rng.random() < 0.1 else PROCESSED
    finish = rng.uniform(20, 900)
    plan = [(finish, end)] if status == PROCESSING else [(finish / 4, PROCESSING), (finish, end)]
    updated = rng.uniform(0.1, 25) if status == PROCESSING else rng.uniform(0.1, 8)
    created = updated + rng.uniform(0.1, 40) if status == PROCESSING else updated
    facts = describe_run(kind, rng)
    add(status, updated_minutes=updated, created_minutes=created, plan=plan, **facts)


def _ended(add: Callable[..., str], kind: RunKind, rng: random.Random, status: str, recent: bool) -> None:
    updated = rng.uniform(1, 50) if recent else rng.uniform(60, 4320)
    reason = rng.choice(_REASONS.get(kind, _COMMON_REASONS)) if status == FAILED else None
    facts = describe_run(kind, rng)
    created = updated + rng.uniform(0.2, 30)
    add(status, updated_minutes=updated, created_minutes=created, failure_reason=reason, **facts)


def describe_run(kind: RunKind, rng: random.Random) -> dict[str, Any]:
    """What a run is of: its file, metadata, source and processor."""
    number = rng.randrange(1000, 100000)
    source = rng.choice(_SOURCES)
    if kind is RunKind.VERIFY and source not in ("API", "STUDIO"):
        source = "API"
    elif kind is RunKind.PARSE and source == "BATCH_PROCESSOR_RUN":
        source = "BATCH_PARSER_RUN"
    batched = source.startswith("BATCH")
    known = processors(kind)
    return {
        "file_name": rng.choice(_FILES).format(n=number),
        "metadata": {"customer": f"c-{number % 97}", "order": number} if number % 3 == 0 else None,
        "source": source,
        "source_id": f"workflow_run_{number}" if source == "WORKFLOW_RUN" else None,
        "batch_id": f"{'bpar' if kind is RunKind.PARSE else 'bpr'}_{number % 5}" if batched else None,
        # One in seven has an inline config, and so no processor.
        "processor": known[number % len(known)] if known and (number % 7 or kind is RunKind.WORKFLOW) else None,
    }
