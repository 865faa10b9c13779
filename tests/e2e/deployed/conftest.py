"""The command line on the tests' own Prefect, and a sandbox to sweep."""

from __future__ import annotations

import pytest

from support.account import KEY, Account, clear
from support.patience import Patient


@pytest.fixture
def account(prefect_server, tmp_path, measured):
    """An account with 3 stale runs, and nothing of it in Prefect yet; afterwards nothing is left there."""
    from prefect_extend_ai.sandbox import WORKSPACE, World, serve

    world = World(keys={KEY: WORKSPACE})
    for age in (70, 80, 90):
        world.add(age_minutes=age, metadata={"owner": "Ada"})
    with serve(world) as sandbox:
        account = Account(prefect_server, sandbox, tmp_path, Patient(), measured)
        clear(account.api)  # what the browser's tests have saved there
        try:
            yield account
        finally:
            clear(account.api)
            account.api.close()
