"""What earlier sweeps left open: read again, recorded, and reported as news once."""

from prefect_extend_ai.sweep.recovery.recovery import Recovery

__all__ = ["Recovery"]
