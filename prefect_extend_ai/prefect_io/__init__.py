"""Prefect as seen from here: the journal in its artifacts, events, and which sweeps are at work."""

from prefect_extend_ai.prefect_io.artifacts import ArtifactStore, record_url
from prefect_extend_ai.prefect_io.events import emit_cancelled, emit_sweep
from prefect_extend_ai.prefect_io.intents import pending_intents
from prefect_extend_ai.prefect_io.journal import PrefectJournal, prefect_journal

__all__ = [
    "ArtifactStore",
    "PrefectJournal",
    "emit_cancelled",
    "emit_sweep",
    "pending_intents",
    "prefect_journal",
    "record_url",
]
