"""Cancels Extend (extend.ai) document runs that have been processing too long, and records how each ended.

Tasks are in `prefect_extend_ai.tasks`, flows in `prefect_extend_ai.flows`.
"""

from prefect_extend_ai.client import ExtendClient
from prefect_extend_ai.credentials import ExtendCredentials
from prefect_extend_ai.errors import ExtendError
from prefect_extend_ai.prefect_io.saved_reports import sweep_report
from prefect_extend_ai.runs import Run, RunKind
from prefect_extend_ai.settings import ExtendSettings
from prefect_extend_ai.sweep.report import Cancellation, Outcome, PendingCancel, SweepFailed, SweepRefused, SweepReport
from prefect_extend_ai.sweep.rules.advice import LimitAdvice
from prefect_extend_ai.sweep.rules.staleness import StalePolicy

__all__ = [
    "Cancellation",
    "ExtendClient",
    "ExtendCredentials",
    "ExtendError",
    "ExtendSettings",
    "LimitAdvice",
    "Outcome",
    "PendingCancel",
    "Run",
    "RunKind",
    "StalePolicy",
    "SweepFailed",
    "SweepRefused",
    "SweepReport",
    "sweep_report",
]
