"""A work pool whose flow runs are containers: setup, and the shipped Dockerfile as far as no registry is needed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from support.image import Image

ROOT = Path(__file__).parents[3]
SWEEP = "cancel-stale-runs/extend"


def execute(account, image, run_id, **environment):
    """What a worker has a container do, with the environment that it gives it, in a separate folder."""
    home = image.root / "home"
    home.mkdir(exist_ok=True)
    given = {name: value for name, value in account.environment.items() if name.startswith("PREFECT_")}
    return subprocess.run(
        [image.bin / "prefect", "flow-run", "execute"],
        cwd=home,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "PREFECT__FLOW_RUN_ID": run_id} | given | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.nightly
def test_a_pool_of_containers_is_told_what_its_image_must_hold(account, tmp_path):
    pool = {"name": "cluster", "type": "kubernetes", "base_job_template": {}}
    account.api.post("/work_pools/", json=pool).raise_for_status()
    setup = ("prefect-extend-ai", "setup", "--pool", "cluster")
    without = account.type(*setup)
    assert without.returncode == 0, without.stderr
    notes = [line[12:] for line in without.stdout.splitlines() if line.startswith("Note ")]
    assert len(notes) == 3
    assert notes[0].startswith("flow runs of a kubernetes pool import the flows from their image, which must hold")
    assert notes[1].startswith(f"the block's address is {account.environment['EXTEND_BASE_URL']}, which in a container")
    assert notes[2].startswith("PREFECT_API_URL is http://127.0.0.1")

    image = ("--image", "registry.example.com/sweeps:1", "--job-variable", "namespace=documents")
    assert account.type(*setup, *image).returncode == 0
    again = account.type(*setup[:2], "--job-variable", "finished_job_ttl=60")
    assert "the image registry.example.com/sweeps:1 must hold" in again.stdout
    sweep = account.deployment(SWEEP)
    assert sweep["work_pool_name"] == "cluster"
    assert sweep["job_variables"] == {
        "image": "registry.example.com/sweeps:1",
        "namespace": "documents",
        "finished_job_ttl": 60,
    }
    refused = account.type("prefect-extend-ai", "setup", "--name", "acme", "--pool", "nowhere", "--image", "sweeps:1")
    assert refused.returncode == 1
    assert 'there is no work pool "nowhere" to run an image' in refused.stderr

    # The flow run is carried out where only the image is.
    account.postpone(SWEEP)
    run = account.run(SWEEP)
    built = Image(ROOT / "deployments" / "Dockerfile", ROOT, tmp_path / "image")
    where = "import prefect_extend_ai; print(prefect_extend_ai.__file__)"
    held = subprocess.run([built.bin / "python", "-c", where], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(held.stdout.strip()).is_relative_to(built.root)
    done = execute(account, built, run)
    ended = account.ended(run)
    assert ended["state"]["message"] == "Cancelled 3 of 3 stale classify runs", done.stdout + done.stderr
