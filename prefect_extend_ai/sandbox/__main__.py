"""`python -m prefect_extend_ai.sandbox`."""

from __future__ import annotations

import sys

from cyclopts import App

from prefect_extend_ai.errors import ExtendInputError
from prefect_extend_ai.sandbox.command import sandbox

app = App(name="python -m prefect_extend_ai.sandbox", help_format="markdown", version_flags=[])
app.default(sandbox)

if __name__ == "__main__":
    try:
        app()
    except ExtendInputError as error:
        sys.exit(f"error: {error}")
