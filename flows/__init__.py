"""Prefect flows: sweep what is stale, or cancel runs by their ids."""

from prefect_extend_ai.flows.by_id import cancel_runs
from prefect_extend_ai.flows.stale import cancel_stale_runs

__all__ = ["cancel_runs", "cancel_stale_runs"]
