"""Which protections of a deployment's policy a policy lacks that was given by hand, and replaces it: pure."""

from __future__ import annotations

from collections.abc import Iterator

from prefect_extend_ai.sweep.rules.policy import StalePolicy

__all__ = ["missing_protections"]

EXCEPTIONS = ("except_processors", "except_runs")
SELECTED_BY = ("source", "batch_id", "file_name_contains", "hold_key")
CAPS = ("max_cancellations", "refuse_above", "max_sweep_minutes")
GUARDS = ("outage_guard", "learn_limits")


def missing_protections(policy: StalePolicy, deployed: StalePolicy, limit_minutes: int) -> dict[str, str]:
    """What the deployment's policy protects from, and this one does not: by field, what the deployment has.

    Args:
        policy: the policy of the run.
        deployed: the policy of its deployment.
        limit_minutes: the limit of the run.
    """
    return {name: had for name, had in _compared(policy, deployed, limit_minutes) if had}


def _compared(policy: StalePolicy, deployed: StalePolicy, limit_minutes: int) -> Iterator[tuple[str, str]]:
    """Each protection, and what the deployment has of it that this policy lacks; empty where that is nothing."""
    for name in EXCEPTIONS:
        yield name, ", ".join(each for each in getattr(deployed, name) if each not in getattr(policy, name))
    only = set(deployed.only_processors)
    wider = not policy.only_processors or not only.issuperset(policy.only_processors)
    yield "only_processors", ", ".join(deployed.only_processors) if wider else ""
    for name in SELECTED_BY:
        value = getattr(deployed, name)
        yield name, value or "" if getattr(policy, name) != value else ""
    here = policy.minutes_by_processor
    longer = {each: has for each, has in deployed.minutes_by_processor.items() if here.get(each, limit_minutes) < has}
    yield "minutes_by_processor", ", ".join(f"{processor}: {minutes}" for processor, minutes in longer.items())
    for name in CAPS:
        value, ours = getattr(deployed, name), getattr(policy, name)
        yield name, f"{value:,}, here {ours:,}" if ours > value else ""
    for name in GUARDS:
        yield name, "on" if getattr(deployed, name, False) and not getattr(policy, name) else ""
