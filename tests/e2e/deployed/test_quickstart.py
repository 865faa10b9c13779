"""The quick start, typed as it stands: from an API key to sweeps of two kinds that their schedules start."""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "quickstart.md"
SWEEPS = ("cancel-stale-runs/extend", "cancel-stale-runs/extend-extract")


def typed():
    """The commands of the page's second half, one after the other."""
    text = PAGE.read_text().partition("\n## Schedule it\n")[2]
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]


def bring_forward(account, name):
    """Have the next flow run that a schedule has made begin now; its id."""

    def due():
        wanted = {
            "deployments": {"id": {"any_": [account.deployment(name)["id"]]}},
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
            "sort": "NEXT_SCHEDULED_START_TIME_ASC",
        }
        return [each for each in account.api.post("/flow_runs/filter", json=wanted).json() if each["auto_scheduled"]]

    run = account.eventually(due)[0]
    body = {"state": {"type": "SCHEDULED"}, "force": True}
    account.api.post(f"/flow_runs/{run['id']}/set_state", json=body).raise_for_status()
    return run["id"]


def test_the_quick_start_leads_to_scheduled_sweeps_of_two_kinds(account):
    account.world.add("extract", age_minutes=90)
    said = {}
    with contextlib.ExitStack() as terminals:
        for words in typed():
            match words:
                case ["pip" | "export", *_]:
                    continue  # the tests' own environment has both
                case ["prefect", "worker", *_]:
                    terminals.enter_context(account.running(*words))
                    continue
                case ["prefect-extend-ai", "check"]:
                    # Nothing was cancelled before the schedules were on, the dry run included.
                    assert len(account.world.stale()) == 3
                    ended = [account.ended(bring_forward(account, each)) for each in SWEEPS]
                    assert [each["state"]["message"] for each in ended] == [
                        "Cancelled 3 of 3 stale classify runs",
                        "Cancelled 1 of 1 stale extract run",
                    ]
            done = account.type(*words)
            assert done.returncode == 0, (words, done.stdout, done.stderr)
            said[" ".join(words)] = done.stdout
    assert "Completed" in said["prefect deployment run cancel-stale-runs/extend --param dry_run=true --watch"]
    for each in SWEEPS:
        assert f"Resumed     {each}" in said["prefect-extend-ai setup --resume"]
    assert "fail" not in said["prefect-extend-ai check"]
