"""Prefect flows: sweep what is stale, cancel runs by their ids, or say which limit is right."""

from prefect_extend_ai.flows.advise import advise_limits
from prefect_extend_ai.flows.by_id import cancel_runs
from prefect_extend_ai.flows.stale import cancel_stale_runs

__all__ = ["advise_limits", "cancel_runs", "cancel_stale_runs"]
