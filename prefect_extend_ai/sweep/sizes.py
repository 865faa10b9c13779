"""How many runs one intent announces, and how many share a record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prefect_extend_ai.sweep.scan import Target

__all__ = ["BATCH", "ONE_RECORD_EACH", "batches", "runs_a_record"]

ONE_RECORD_EACH = 200
"""Runs in a sweep up to which each has its own record; beyond, the runs of a batch share one."""

BATCH = 50
"""Runs in a batch: what one intent announces."""

SHARED_BATCH = 200
"""Runs in a batch where they share records: each batch costs Prefect three writes beside them, whatever its size."""

SHARED_RECORD = 50
"""Runs that share a record at least: more pages would cost more time, and longer ones are hard to read."""


def runs_a_record(runs: int) -> int:
    """How many runs share a record, so that a sweep of `runs` writes no more than about ONE_RECORD_EACH."""
    return 1 if runs <= ONE_RECORD_EACH else max(SHARED_RECORD, -(-runs // (ONE_RECORD_EACH - BATCH)))


def batches(targets: Sequence[Target]) -> Iterator[Sequence[Target]]:
    """Cut the targets into batches, whole records each."""
    shared = runs_a_record(len(targets))
    size = BATCH if shared == 1 else shared * max(1, SHARED_BATCH // shared)
    return (targets[start : start + size] for start in range(0, len(targets), size))
