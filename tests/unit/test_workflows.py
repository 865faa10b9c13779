"""What runs on public hosting and before a commit is what the Makefile says, for each Python that is promised."""

from __future__ import annotations

import re
import runpy
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
    assert run == {"test": ["test", "check"], "releases": ["matrix"], "night": ["test-all"], "prove": ["prove"]}
    assert {name for name, job in jobs().items() if "schedule" in job.get("if", "")} == {"night", "prove"}


def matrix():
    return runpy.run_path(str(ROOT / "scripts" / "matrix.py"))


def test_the_matrix_has_each_python_and_the_oldest_prefect():
    names = [cell.name for cell in matrix()["cells"]()]
    pythons = {python for job in jobs().values() for python, _ in variants(job)}
    assert names[:2] == ["lowest", "newest"]
    assert {name for name in names if name.startswith("python-")} == {f"python-{python}" for python in pythons}
    assert {f"prefect-{prefect[2:]}" for job in jobs().values() for _, prefect in variants(job) if "==" in prefect} == {
        name for name in names if name.startswith("prefect-")
    }


def test_the_matrix_says_what_it_leaves_out_and_fails_if_all(capsys, tmp_path):
    main = matrix()["main"]
    main.__globals__.update({"interpreter": lambda _: None, "HOME": tmp_path, "TOOLS": tmp_path / "tools.txt"})
    assert main(["newest", "python-3.14"]) == 1
    said = capsys.readouterr().out
    assert said.count("left out: this machine has no such Python") == 2


def test_the_matrix_knows_its_names(capsys):
    assert matrix()["main"](["oldest"]) == 2
    assert "unknown: oldest; known: lowest, newest, " in capsys.readouterr().out


def test_everyday_tests_leave_the_night_out_and_all_do_not():
    text = (ROOT / "Makefile").read_text()
    addopts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["addopts"]
    assert addopts[addopts.index("-m") + 1] == "not nightly"
    assert re.search(r'^test-all:.*\n\tHYPOTHESIS_PROFILE=night \$\(BIN\)/pytest -m "" ', text, re.MULTILINE)


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
    assert called == ["test", "matrix", "check", "docs"]
