"""A sweep as people run it from code: `sweep_process.py sweep [POLICY]`, or served: `sweep_process.py serve NAME`."""

from __future__ import annotations

import asyncio
import os
import sys

from prefect import serve
from prefect.flows import EntrypointType

from prefect_extend_ai import ExtendError, ExtendSettings, StalePolicy
from prefect_extend_ai.flows import cancel_stale_runs
from prefect_extend_ai.sweep import recorder


def main(command, argument=None):
    # A test that takes Prefect away need not wait as long as people should.
    recorder.RECORD_PATIENCE = float(os.environ.get("RECORD_PATIENCE", recorder.RECORD_PATIENCE))
    if command == "serve":
        serve(cancel_stale_runs.to_deployment(argument, entrypoint_type=EntrypointType.MODULE_PATH))
        return
    policy = StalePolicy.model_validate_json(argument or "{}")
    try:
        report = asyncio.run(cancel_stale_runs(ExtendSettings().credentials(), policy=policy))
    except ExtendError as error:
        sys.exit(f"failed: {error}")
    print(f"done: {report.headline}")  # noqa: T201  # for the log that a failing test shows


if __name__ == "__main__":
    main(*sys.argv[1:])
