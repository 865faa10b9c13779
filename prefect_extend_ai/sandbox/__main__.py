"""`python -m prefect_extend_ai.sandbox`: the same as `prefect-extend-ai sandbox`."""

from __future__ import annotations

import sys

from cyclopts import run

from prefect_extend_ai.errors import ExtendError
from prefect_extend_ai.sandbox.command import sandbox

if __name__ == "__main__":
    try:
        run(sandbox)
    except ExtendError as error:
        sys.exit(f"Error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
