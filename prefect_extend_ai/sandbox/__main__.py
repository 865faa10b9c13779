"""`python -m prefect_extend_ai.sandbox`: the same as `prefect-extend-ai sandbox`."""

from __future__ import annotations

import sys

from prefect_extend_ai.cli import main

if __name__ == "__main__":
    main(["sandbox", *sys.argv[1:]])
