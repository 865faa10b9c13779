"""Writes the pages of docs/reference/ that come from the code: descriptions of models, help of commands.

    python scripts/reference.py

A test fails where the pages differ from what this writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from prefect_extend_ai import (
    Cancellation,
    ExtendCredentials,
    ExtendSettings,
    LimitAdvice,
    PendingCancel,
    StalePolicy,
    SweepReport,
    errors,
)
from prefect_extend_ai.cli.command_line import app
from prefect_extend_ai.cli.help_texts import COMMANDS

PAGES = Path(__file__).parents[1] / "docs" / "reference"


def pages() -> dict[str, str]:
    """The generated pages by file name."""
    return {
        "policy.md": policy(),
        "credentials.md": credentials(),
        "reports.md": reports(),
        "errors.md": error_tree(),
        "cli.md": command_line(),
    }


def policy() -> str:
    """The fields of StalePolicy."""
    return f"""# Policy

`StalePolicy` is the parameter `policy` of both flows: which runs are left alone, and how far one sweep may go. In the
Prefect UI it is a card of the run form; in a deployment's parameters an object. A policy given by hand replaces the
deployment's whole policy, so name every protection that you want to keep.

```python
from prefect_extend_ai import StalePolicy

policy = StalePolicy(except_processors=["cl_quarterly_reports"], max_cancellations=100)
```

{table(StalePolicy)}
"""


def credentials() -> str:
    """The fields of the block, and of the settings from the environment."""
    variables = "\n".join(
        f"| `{name.upper() if name.startswith('extend_') else f'EXTEND_{name.upper()}'}` | {meaning(field)} |"
        for name, field in ExtendSettings.model_fields.items()
    )
    return f"""# Block and settings

## Extend Credentials

The block type *Extend Credentials*, `extend-credentials`, stores the account. `prefect-extend-ai setup` saves it from
the environment.

```python
from prefect_extend_ai import ExtendCredentials

credentials = ExtendCredentials.load("extend")
```

{table(ExtendCredentials)}

::: prefect_extend_ai.ExtendCredentials
    options:
      heading_level: 3
      members: [get_client]
      show_docstring_attributes: false
      show_docstring_examples: false

## Environment variables

`ExtendSettings` reads them from the environment, or from a file `.env` in the working directory. The names are those of
the vendor's tools.

| Variable | Meaning |
|---|---|
{variables}

::: prefect_extend_ai.ExtendSettings
    options:
      heading_level: 3
      members: [credentials]
      show_docstring_attributes: false
"""


def reports() -> str:
    """The models that flows return, with their fields and properties."""
    return f"""# Reports and outcomes

{result(SweepReport)}

::: prefect_extend_ai.SweepReport.with_cancellations
    options:
      heading_level: 3

{result(Cancellation)}

{result(PendingCancel)}

::: prefect_extend_ai.Outcome

::: prefect_extend_ai.sweep_report

{result(LimitAdvice)}
"""


def result(model: type[BaseModel]) -> str:
    """A model that is read: its docstring, which mkdocstrings inserts, and what it has."""
    own = vars(model)
    members = [
        *((name, own["__annotations__"][name], field.description) for name, field in model.model_fields.items()),
        *(
            (name, each.fget.__annotations__["return"], each.__doc__.split("\n\n")[0].replace("\n        ", " "))
            for name, each in own.items()
            if isinstance(each, property) and not name.startswith("_")
        ),
    ]
    rows = "\n".join(
        f"| `{name}` | `{kind.replace(' | ', '` or `')}` | {cell(str(text))} |" for name, kind, text in members
    )
    return f"""::: prefect_extend_ai.{model.__name__}
    options:
      members: false

| Attribute | Type | Meaning |
|---|---|---|
{rows}"""


def cell(text: str) -> str:
    """A text as a cell of a table."""
    return text.replace("|", "\\|")


def error_tree() -> str:
    """The exception tree, and each error of it."""
    _, tree = str(errors.__doc__).strip().split("\n", 1)
    return f"""# Errors

Every error of this package is an `ExtendError`. Its message says what happened, to which run, and what to do; it never
contains the key.

```text
{tree.strip()}
```

::: prefect_extend_ai.errors
    options:
      show_root_heading: false
      show_root_toc_entry: false
      show_docstring_description: false
      members: [{", ".join(errors.__all__)}]
"""


def command_line() -> str:
    """Every command with its options, examples and exit codes."""
    text = app.generate_docs(heading_level=1, flatten_commands=True)
    head, *commands = re.split(r"^# prefect-extend-ai (?=\w)", text, flags=re.MULTILINE)
    parts = ["# Command line", head.split("## Table of Contents")[0].split("\n", 1)[1].strip()]
    for command in commands:
        name, body = command.split("\n", 1)
        details = COMMANDS[name]
        examples = "\n".join(details.examples)
        codes = "\n".join(f"| {code} | {meaning} |" for code, meaning in sorted(details.exit_codes.items()) if meaning)
        parts.append(
            f"## {name}\n\n{body.strip()}\n\n**Examples**:\n\n```bash\n{examples}\n```\n\n"
            f"| Exit code | Meaning |\n|---|---|\n{codes}"
        )
    return "\n\n".join(parts) + "\n"


def table(model: type[BaseModel]) -> str:
    """The fields of a model, as a table."""
    return "\n".join(["| Field | Default | Meaning |", "|---|---|---|", *rows(model)])


def rows(model: type[BaseModel]) -> Iterator[str]:
    """One row a field."""
    for name, field in model.model_fields.items():
        yield f"| `{name}` | {default(field)} | {cell(str(field.description))} |"


def meaning(field: FieldInfo) -> str:
    """What a variable means, without its name, which errors need in front of it."""
    text = re.sub(r"^EXTEND_[A-Z_]+: ", "", str(field.description))
    return text[0].upper() + text[1:]


def default(field: FieldInfo) -> str:
    """A field's default, as a person would type it."""
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "required"
    if value is None or isinstance(value, SecretStr):
        return "none"
    return f"`{getattr(value, 'value', value)}`"


if __name__ == "__main__":
    for page, content in pages().items():
        (PAGES / page).write_text(content)
