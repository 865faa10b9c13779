"""Prefect tasks for Extend's runs: short wrappers, to be awaited from flows of your own."""

from prefect_extend_ai.tasks.cancelling import cancel_run
from prefect_extend_ai.tasks.reading import find_stale_runs, get_run
from prefect_extend_ai.tasks.waiting import resubmit_run, wait_for_run

__all__ = ["cancel_run", "find_stale_runs", "get_run", "resubmit_run", "wait_for_run"]
