"""What semantic versioning covers is what `public_api.txt` lists, and docs/changelog.md says so in one sentence.

A line that disappears or changes breaks somebody's code, automation or script: it needs a line in the changelog that
says what to type instead. To renew the list on purpose: `.venv/bin/python tests/unit/test_public_api.py`.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import importlib
import inspect
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from prefect import Flow, Task
from pydantic import BaseModel

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("public_api.txt")
MODULES = ["", ".errors", ".flows", ".sandbox", ".tasks"]
SIMPLE = (bool, int, float, str, type(None))
METADATA_KEY = re.compile(r"prefect_(hold|max_[a-z_]+|extend_(?!ai\b)[a-z_]+)")
STATES = {"Completed", "Failed", "Cancelled", "State"}


def test_public_names_change_only_on_purpose():
    listed, found = LIST.read_text().splitlines(), public_api()
    assert {"gone": sorted({*listed} - {*found}), "new": sorted({*found} - {*listed})} == {"gone": [], "new": []}, (
        f"If that is meant: write it into CHANGELOG.md, then `.venv/bin/python {Path(__file__).relative_to(ROOT)}`"
    )
    assert listed == found


def test_the_list_has_names_of_every_sort():
    heads = {line.partition(" ")[0] for line in LIST.read_text().splitlines()}
    assert {"command", "environment", "event", "metadata", "state", "block"} <= heads
    assert {
        "command prefect-extend-ai check --kind",
        "environment EXTEND_API_KEY",
        "event extend.sweep.refused",
        "event extend.verify_run.cancelled",
        "metadata prefect_hold",
        "prefect_extend_ai.Outcome.FINISHED_FIRST = 'finished_first'",
        "prefect_extend_ai.StalePolicy.max_cancellations = 500",
        "prefect_extend_ai.errors.ExtendAuthError(ExtendAccountError)",
        "state Refused",
        "state StillPending",
    } <= set(LIST.read_text().splitlines())


def test_the_docs_say_what_versioning_covers():
    section = (ROOT / "docs" / "changelog.md").read_text().partition("versioning covers\n")[2]
    modules = [f"`prefect_extend_ai{name}`" for name in MODULES]
    words = ["events", "end states", "metadata keys", "commands", "options", "`EXTEND_*`", "block", LIST.name]
    assert [each for each in [*modules, *words] if each not in section] == []


def public_api() -> list[str]:
    """Everything that a user may type or match, one line each, sorted."""
    lines = {line for name in MODULES for line in of_module(importlib.import_module(f"prefect_extend_ai{name}"))}
    return sorted(lines | {*of_block()} | {*of_settings()} | {*events()} | {*commands()} | {*in_sources()})


def of_module(module: ModuleType) -> Iterator[str]:
    for name in module.__all__:
        value = getattr(module, name)
        value = value.fn if isinstance(value, Flow | Task) else value
        full = f"{module.__name__}.{name}"
        if isinstance(value, type):
            yield from of_class(full, value)
        elif inspect.isfunction(value):
            yield f"{full}{parameters(value)}"
        else:
            yield f"{full} = {value!r}" if isinstance(value, SIMPLE) else full


def of_class(full: str, cls: type[Any]) -> Iterator[str]:
    if issubclass(cls, enum.Enum):
        yield full
        yield from (f"{full}.{member.name} = {member.value!r}" for member in cls)
    elif issubclass(cls, BaseModel):
        yield full
        yield from (f"{full}.{name}{default(field.default)}" for name, field in cls.model_fields.items())
    elif issubclass(cls, Exception):
        yield f"{full}({', '.join(base.__name__ for base in cls.__bases__)})"
    else:
        yield f"{full}{parameters(cls)}"
        yield from (f"{full}.{field.name}" for field in fields(cls) if not field.name.startswith("_"))
    for ours in (each for each in cls.__mro__ if each.__module__.startswith("prefect_extend_ai")):
        for name, value in vars(ours).items():
            inner = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            # `model_...` are pydantic's own.
            if isinstance(inner, FunctionType | property) and not name.startswith(("_", "model_")):
                yield f"{full}.{name}{'' if isinstance(inner, property) else parameters(inner)}"


def fields(cls: type[Any]) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()


def parameters(function: Any) -> str:
    """Names, kinds and defaults; the types are held by tests/typing/api.py."""
    shown = [
        each.replace(
            annotation=inspect.Parameter.empty,
            default=each.default if each.default is inspect.Parameter.empty else Default(each.default),
        )
        for each in inspect.signature(function).parameters.values()
        if each.name not in ("self", "cls")
    ]
    return str(inspect.Signature(shown))


def default(value: Any) -> str:
    return f" = {Default(value)!r}" if isinstance(value, SIMPLE) else ""


@dataclasses.dataclass(repr=False)
class Default:
    """A default as the list shows it."""

    value: Any

    def __repr__(self) -> str:
        value = self.value.value if isinstance(self.value, enum.Enum) else self.value
        return repr(value) if isinstance(value, SIMPLE) else "..."


def of_block() -> Iterator[str]:
    from prefect_extend_ai import ExtendCredentials

    yield f"block {ExtendCredentials.get_block_type_slug()}"


def of_settings() -> Iterator[str]:
    from prefect_extend_ai import ExtendSettings

    prefix = ExtendSettings.model_config["env_prefix"]
    yield from (f"environment {prefix}{name.upper()}" for name in ExtendSettings.model_fields)


def events() -> Iterator[str]:
    """The names that automations match, from what is really emitted."""
    from prefect_extend_ai import Cancellation, Outcome, PendingCancel, RunKind, SweepReport
    from prefect_extend_ai.prefect_io import events
    from prefect_extend_ai.sweep.resubmission.plan import RESUBMITTABLE

    emitted: list[str] = []
    original = events.emit_event
    events.emit_event = lambda event, **_: emitted.append(event)
    try:
        for kind in RunKind:
            cancelled = Cancellation(run_id="x", outcome=Outcome.CANCELLED, reason="")
            again = ("submitted", "given_up") if kind in RESUBMITTABLE else (None,)
            for resubmission in again:
                events.emit_cancelled(kind, cancelled.model_copy(update={"resubmission": resubmission}))
        pending = PendingCancel(run_id="x", since=datetime(2026, 1, 1, tzinfo=UTC), is_news=True)
        for report in ({}, {"refusal": "no"}, {"pending": [pending], "limit_minutes": 60}):
            events.emit_sweep(SweepReport(**report))
    finally:
        events.emit_event = original
    return (f"event {name}" for name in emitted)


def commands() -> Iterator[str]:
    from prefect_extend_ai.cli.command_line import app

    for name in app:
        if not name.startswith("-"):
            command = f"command {app.name[0]} {name}"
            yield command
            for argument in app[name].assemble_argument_collection():
                yield from (f"{command} {option}" for option in argument.names)


def in_sources() -> Iterator[str]:
    """Metadata keys and names of end states, which are literals of the code."""
    folders = [ROOT / name for name in ("prefect_extend_ai", "tasks", "flows")]
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and METADATA_KEY.fullmatch(node.value):
                yield f"metadata {node.value}"
            elif isinstance(node, ast.Call) and getattr(node.func, "id", None) in STATES:
                yield from (f"state {name}" for name in names_of_state(node, tree))


def names_of_state(call: ast.Call, tree: ast.Module) -> Iterator[str]:
    for value in (keyword.value for keyword in call.keywords if keyword.arg == "name"):
        assigned = [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(value, ast.Name) and ast.unparse(node.targets[0]) == value.id
        ]
        for node in [value, *assigned]:
            yield from (each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and each.value)


if __name__ == "__main__":
    LIST.write_text("\n".join(public_api()) + "\n")
