"""Runs of Extend: kinds, statuses, the JSON from the API, and when it was read."""

from prefect_extend_ai.runs.kinds import (
    CANCELLED,
    CANCELLING,
    FAILED,
    PROCESSED,
    PROCESSING,
    KindChoice,
    KindName,
    RunKind,
)
from prefect_extend_ai.runs.moments import FRESH, Moment, duration, loop_time
from prefect_extend_ai.runs.run import LONGEST_ID, Run, check_run_id, parse_timestamp

__all__ = [
    "CANCELLED",
    "CANCELLING",
    "FAILED",
    "FRESH",
    "LONGEST_ID",
    "PROCESSED",
    "PROCESSING",
    "KindChoice",
    "KindName",
    "Moment",
    "Run",
    "RunKind",
    "check_run_id",
    "duration",
    "loop_time",
    "parse_timestamp",
]
