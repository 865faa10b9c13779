"""An environment that cannot work is reported in one sentence, with the command that repairs it."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement

from prefect_extend_ai.cli import main, versions
from prefect_extend_ai.cli.local_prefect import run_local_prefect
from prefect_extend_ai.errors import ExtendError

OURS = [Requirement("httpx>=0.27"), Requirement("prefect>=3.8,<4")]
EXTRA = [Requirement("fastapi<0.151"), Requirement("sqlalchemy<2.1")]
PREFECTS = {
    "3.8.8": [Requirement("fastapi<1.0.0,>=0.139.0"), Requirement("sqlalchemy[asyncio]<3.0.0,>=2.0")],
    "3.9.1": [Requirement("fastapi<0.151,>=0.139.0"), Requirement("sqlalchemy[asyncio]<3.0.0,>=2.0")],
}
"""What these releases of Prefect say of themselves."""


def server(prefect, fastapi="0.150.0", sqlalchemy="2.0.58"):
    there = {"prefect": prefect, "fastapi": fastapi, "sqlalchemy": sqlalchemy}
    return versions.unfit_server(there.get, PREFECTS[prefect], EXTRA)


@pytest.mark.parametrize("prefect", PREFECTS)
def test_a_server_runs_with_what_the_extra_installs(prefect):
    assert server(prefect) is None


@pytest.mark.parametrize("prefect", PREFECTS)
def test_a_server_with_a_later_fastapi_is_refused(prefect):
    problem = server(prefect, fastapi="0.165.0")
    assert problem.startswith(f"a server of Prefect {prefect} needs fastapi<0.151")
    assert ", and FastAPI 0.165.0 is installed: " in problem
    assert "pip install 'prefect-extend-ai[server]'" in problem


def test_sqlalchemy_2_1_is_refused_before_prefect_3_9_only():
    assert "needs sqlalchemy<2.1, and SQLAlchemy 2.1.9 is installed" in server("3.8.8", sqlalchemy="2.1.9")
    assert server("3.9.1", sqlalchemy="2.1.9") is None


def test_prefect_client_is_no_server():
    there = {"prefect-client": "3.9.0", "fastapi": "0.150.0"}
    problem = versions.unfit_server(there.get, [], EXTRA)
    assert problem.startswith("no Prefect server is installed here")
    assert "prefect-extend-ai[server]" in problem


@pytest.mark.parametrize("release", ["3.8.0", "3.9.1", "3.10.0rc1"])
def test_a_supported_prefect_is_not_mentioned(release):
    assert versions.unfit_prefect({"prefect": release}.get, OURS) is None


@pytest.mark.parametrize("name", ["prefect", "prefect-client"])
@pytest.mark.parametrize("release", ["3.7.8", "2.20.27", "4.0.0"])
def test_another_prefect_is_named_with_the_command(name, release):
    problem = versions.unfit_prefect({name: release}.get, OURS)
    assert problem.startswith(f"Prefect {release} is installed, and prefect-extend-ai needs ")
    assert f"pip install --upgrade '{name}<4,>=3.8'" in problem


def test_the_installed_metadata_is_what_is_compared(monkeypatch):
    versions.require_prefect()
    versions.require_server()
    there = {"prefect": "3.7.8", "fastapi": "0.165.0"}
    monkeypatch.setattr(versions, "version", there.__getitem__)
    with pytest.raises(ExtendError, match=r"Prefect 3\.7\.8 is installed"):
        versions.require_prefect()
    there["prefect"] = "3.8.8"
    monkeypatch.setattr(versions, "_installed", there.get)
    with pytest.raises(ExtendError, match=r"FastAPI 0\.165\.0"):
        versions.require_server()


def test_setup_says_that_prefect_client_cannot_deploy(monkeypatch, capsys):
    monkeypatch.setattr(versions, "_installed", {"prefect-client": "3.9.0"}.get)
    with pytest.raises(SystemExit, match="1"):
        main(["setup"])
    said = capsys.readouterr()
    assert said.err.startswith("Error: prefect-client is installed, which cannot deploy: ")
    assert (said.out, said.err.count("\n")) == ("", 1)


@pytest.mark.parametrize("words", [["setup"], ["check"], ["serve"], ["demo"]], ids=" ".join)
def test_each_command_names_an_older_prefect_first(words, monkeypatch, capsys):
    monkeypatch.setattr(versions, "_installed", {"prefect": "3.7.8"}.get)
    with pytest.raises(SystemExit, match="1"):
        main(words)
    said = capsys.readouterr()
    assert said.err.startswith("Error: Prefect 3.7.8 is installed, and prefect-extend-ai needs prefect<4,>=3.8: ")
    assert (said.out, said.err.count("\n")) == ("", 1)


def test_no_server_is_started_where_none_can_run(tmp_path, monkeypatch):
    monkeypatch.setattr(versions, "_installed", {"prefect": "3.8.8", "fastapi": "0.165.0"}.get)
    with pytest.raises(ExtendError, match=r"prefect-extend-ai\[server\]"), run_local_prefect(tmp_path / "home"):
        pytest.fail("it says that it runs")
    assert not (tmp_path / "home").exists()
