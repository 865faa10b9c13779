"""Every module says what is public, and every public name says what it means."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import inspect
import pkgutil
from types import FunctionType

import pytest
from prefect import Flow, Task

import prefect_extend_ai

BELOW = pkgutil.walk_packages(prefect_extend_ai.__path__, "prefect_extend_ai.")
MODULES = ["prefect_extend_ai", *sorted(each.name for each in BELOW if not each.name.endswith("__main__"))]
ONLY_PARTS = {"prefect_extend_ai.deployments"}
"""Packages that only hold modules, and export nothing themselves."""


def public(module):
    """Each public class, function, task, flow, method and property that a module makes."""
    for name in getattr(module, "__all__", []):
        value = getattr(module, name)
        value = value.fn if isinstance(value, Flow | Task) else value
        if getattr(value, "__module__", None) != module.__name__ or not (
            inspect.isclass(value) or inspect.isfunction(value)
        ):
            continue
        yield name, value
        if inspect.isclass(value):
            yield from ((f"{name}.{inner}", member) for inner, member in members(value))


def members(cls):
    for name, value in vars(cls).items():
        member = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if not name.startswith("_") and isinstance(member, FunctionType | property) and not is_inherited(cls, name):
            yield name, member


def is_inherited(cls, name):
    """Whether a documented base says it already."""
    return any(inspect.getdoc(getattr(base, name, None)) for base in cls.__mro__[1:] if name in vars(base))


def complaint(name, value):
    """What is wrong with the docstring of a name; None where nothing is."""
    text = inspect.cleandoc(value.__doc__ or "")
    if not text:
        return "has none"
    if dataclasses.is_dataclass(value) and text.startswith(f"{name}("):
        return "is the one that dataclass made up"
    if isinstance(value, type) and issubclass(value, enum.Enum) and text == inspect.getdoc(enum.Enum):
        return "is that of Enum"
    first = text.partition("\n\n")[0]
    if not first.endswith((".", ":", "?")):
        return f"does not end with a full stop: {first!r}"
    words = {word.strip("`.,:").lower() for word in first.split()} - {"the", "a", "an", "of", "to", "its", "this"}
    of_name = {part.lower() for part in name.rpartition(".")[2].replace("-", "_").split("_")}
    return None if words - of_name else f"only repeats the name: {first!r}"


@pytest.mark.parametrize("name", MODULES)
def test_each_public_name_is_listed_and_documented(name):
    module = importlib.import_module(name)
    assert complaint(name, module) is None
    if name not in ONLY_PARTS:
        assert module.__all__
        assert [each for each in module.__all__ if not hasattr(module, each)] == []
        # Else one import would hide the other.
        assert name.rpartition(".")[2] not in module.__all__
    complaints = {each: said for each, value in public(module) if (said := complaint(each, value))}
    assert complaints == {}


def test_the_check_reaches_every_sort_of_public_name():
    reached = {f"{name}.{each}" for name in MODULES for each, _ in public(importlib.import_module(name))}
    assert reached >= {
        "prefect_extend_ai.runs.run.check_run_id",
        "prefect_extend_ai.client.api.ExtendClient.iter_pages",
        "prefect_extend_ai.runs.kinds.RunKind.terminal",
        "prefect_extend_ai.runs.run.Run.from_text",
        "prefect_extend_ai.tasks.cancelling.cancel_run",
        "prefect_extend_ai.flows.stale.cancel_stale_runs",
    }


def test_the_check_finds_what_it_looks_for():
    def run_id():
        """The run id."""

    def other():
        """Says something else"""

    def none():
        pass

    @dataclasses.dataclass
    class Made:
        x: int

    assert complaint("run_id", run_id).startswith("only repeats")
    assert complaint("other", other).startswith("does not end")
    assert complaint("none", none) == "has none"
    assert complaint("Made", Made).startswith("is the one")
