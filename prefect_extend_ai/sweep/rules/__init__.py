"""Which runs are stale, by which limit, and when none may be cancelled: policy, limits, learning, guards."""

from prefect_extend_ai.sweep.rules.staleness import DEFAULT_POLICY, StalePolicy

__all__ = ["DEFAULT_POLICY", "StalePolicy"]
