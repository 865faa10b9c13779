"""`make drift` says what the vendor's SDK knows that we do not, and the other way round."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from prefect_extend_ai.runs import RunKind

DRIFT = Path(__file__).parents[2] / "tools" / "drift.py"


@pytest.fixture
def drift(monkeypatch):
    spec = spec_from_file_location("drift", DRIFT)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["drift", "--strict"])
    return module


def test_it_runs_and_names_both_versions():
    ran = subprocess.run([sys.executable, str(DRIFT)], capture_output=True, text=True, check=True)
    assert "(ours), extend-ai 1." in ran.stdout
    assert ran.stderr == ""


def test_what_differs_on_either_side_is_named_and_fails_when_strict(drift, monkeypatch, capsys):
    before = set(drift.differences())
    monkeypatch.setitem(drift.REASONS, RunKind.VERIFY, drift.REASONS[RunKind.VERIFY] - {"PARSE_FAILED"} | {"OUR_OWN"})
    monkeypatch.setattr(drift, "UNUSED", drift.UNUSED - {"risk_level"})
    monkeypatch.setattr(drift, "ABORTED", frozenset())
    new = set(drift.differences()) - before
    assert new == {
        "verify failure reasons: only ours: OUR_OWN",
        "verify failure reasons: only theirs: PARSE_FAILED",
        "verify filters: only theirs: risk_level",
        "verify words for aborted: only theirs: REQUEST_ABORTED",
        "classify words for aborted: only theirs: ABORTED",
        "extract words for aborted: only theirs: ABORTED",
        "split words for aborted: only theirs: ABORTED",
    }
    assert drift.main() == 1
    assert "NEW: verify filters: only theirs: risk_level" in capsys.readouterr().out


def test_a_kind_that_can_be_cancelled_and_that_we_do_not_know_is_the_first_thing_said(drift, monkeypatch):
    monkeypatch.setattr(drift, "RunKind", [kind for kind in RunKind if kind is not RunKind.SPLIT])
    assert next(drift.differences()) == "kinds that can be cancelled: only theirs: split"


def test_what_is_expected_passes_and_what_is_no_longer_so_does_not(drift, monkeypatch, capsys):
    monkeypatch.setattr(drift, "EXPECTED", dict.fromkeys(drift.differences(), "so it is"))
    assert drift.main() == 0
    monkeypatch.setattr(drift, "EXPECTED", {**drift.EXPECTED, "parse fields: only ours: x": "it was once"})
    assert drift.main() == 1
    assert "gone: parse fields: only ours: x" in capsys.readouterr().out
