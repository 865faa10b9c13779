"""Decides and acts for a whole sweep; knows neither HTTP nor Prefect."""

from prefect_extend_ai.sweep.division import Division
from prefect_extend_ai.sweep.engine import Sweep
from prefect_extend_ai.sweep.selectors import NamedRuns, Selection, Selector, StaleRuns
from prefect_extend_ai.sweep.sizes import batches, runs_a_record

__all__ = ["Division", "NamedRuns", "Selection", "Selector", "StaleRuns", "Sweep", "batches", "runs_a_record"]
