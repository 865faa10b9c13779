"""What runs on public hosting and before a commit is what the Makefile says, for each Python that is promised."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))


def jobs():
    return {name: job for path in WORKFLOWS for name, job in yaml.safe_load(path.read_text())["jobs"].items()}


def commands(job):
    return [line.strip() for step in job["steps"] for line in step.get("run", "").splitlines() if line.strip()]


def variants(job):
    """Python and Prefect of each run of a job, as GitHub combines them; "" is the Prefect of constraints.txt."""
    matrix = job.get("strategy", {}).get("matrix", {})
    combined = [(python, prefect) for python in matrix.get("python", []) for prefect in matrix.get("prefect", [])]
    return combined + [(each["python"], each["prefect"]) for each in matrix.get("include", [])]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_calls_only_make_targets(path):
    called = [line for job in yaml.safe_load(path.read_text())["jobs"].values() for line in commands(job)]
    targets = {line.split()[1] for line in called if line.startswith("make ")}
    assert targets
    assert targets - TARGETS == set()
    assert [line for line in called if not line.startswith(("make ", "sudo apt-get "))] == []


def test_each_python_that_is_promised_has_a_job_and_no_other():
    classified = {each.rpartition(" ")[2] for each in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", each)}
    assert {python for job in jobs().values() for python, _ in variants(job)} == classified
    assert f">={min(classified, key=lambda each: int(each[2:]))}" == PROJECT["requires-python"]


def test_the_oldest_and_the_newest_prefect_have_a_job():
    [required] = [each for each in map(Requirement, PROJECT["dependencies"]) if each.name == "prefect"]
    bounds = {each.operator: each.version for each in required.specifier}
    prefects = {prefect for job in jobs().values() for _, prefect in variants(job)}
    assert prefects == {"", f"=={bounds['>=']}.0", f"<{bounds['<']}"}


def test_tests_checks_and_promises_are_run():
    run = {
        name: [line.split()[1] for line in commands(job) if line.startswith("make ")] for name, job in jobs().items()
    }
    assert run == {"test": ["test", "check"], "prove": ["prove"]}
    assert "schedule" in jobs()["prove"]["if"]


def test_the_variables_that_a_job_sets_are_those_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    files = [yaml.safe_load(path.read_text()) for path in WORKFLOWS]
    names = {name for each in [*files, *jobs().values()] for name in each.get("env", {})}
    assert names == set(re.findall(r"^(\w+) \?=", makefile, re.MULTILINE))


def test_the_hook_before_a_commit_is_make_check():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert [hook["entry"].split() for hook in hooks] == [["make", "check"]]
    assert not hooks[0]["pass_filenames"]


def test_the_scripts_of_ci_call_make_targets():
    called = re.findall(r"^make ([a-z-]+)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert called == ["test", "check"]
