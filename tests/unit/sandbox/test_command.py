from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import httpx
import pytest

from prefect_extend_ai.cli.command_line import main
from prefect_extend_ai.errors import ExtendInputError
from prefect_extend_ai.sandbox import World
from prefect_extend_ai.sandbox.command import _announce, sandbox

MODULE = [sys.executable, "-m", "prefect_extend_ai.sandbox"]


@pytest.mark.slow
def test_the_sandbox_runs_on_a_port_and_stops_at_ctrl_c(measured):
    words = ["--port", "0", "--kind", "workflow", "--runs", "20", "--organization-key", "--workspace", "ws_mine"]
    words += ["--clock-ahead", "90", "--behave", "refusal_status=409", "--behave", "heartbeat_seconds=none"]
    words += ["--trouble", "get:*:500", "--requests-per-second", "50"]
    process = subprocess.Popen(
        [*MODULE, *words], stdout=subprocess.PIPE, text=True, env=os.environ | measured | {"PYTHONUNBUFFERED": "1"}
    )
    said = ""
    while "Ctrl-C" not in said:
        said += process.stdout.readline()
        assert process.poll() is None, said
    assert "workflow: 20 runs, 12 stuck" in said
    url = re.search(r"http://\S+?:\d+", said)[0]
    # The printed example is right as it stands.
    headers = dict(re.findall(r"-H ['\"]([^:]+): ([^'\"]+)['\"]", said))
    listed = httpx.get(re.search(r"curl -s '([^']+)'", said)[1], headers=headers).json()["data"]
    assert len(listed) == 10
    assert httpx.get(f"{url}/workflow_runs/{listed[0]['id']}", headers=headers).status_code == 500
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Stopped after 2 requests" in rest


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"behave": ["cancel"]}, "not NAME=VALUE"),
        ({"behave": ["colour=red"]}, "with a NAME of refusal_status"),
        ({"behave": ["cancel=maybe"]}, "--behave cancel: Input should be"),
        ({"behave": ["refusal_status=418"]}, "--behave refusal_status"),
        ({"trouble": ["everything"]}, "WHERE:WHICH:WHAT"),
        ({"runs": 3, "stuck": 5}, "between 0 and the number of runs"),
        ({"host": "192.0.2.1"}, "choose another --port"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(options, why):
    with pytest.raises(ExtendInputError, match=why) as error:
        sandbox(port=0, **options)
    assert "\n" not in str(error.value)


def test_a_key_of_ones_own_is_not_repeated(capsys):
    world = World.populated(runs=2, stuck=2)
    _announce("http://127.0.0.1:1", world, ["classify"], "sk_my_own_secret", None)
    said = capsys.readouterr().out
    assert "$KEY" in said
    assert "sk_my_own_secret" not in said
    assert "2 runs, 2 stuck" in said


def test_help_is_short_and_names_the_page_of_the_grammar(capsys):
    with pytest.raises(SystemExit):
        main(["sandbox", "--help"])
    said = capsys.readouterr().out
    for words in ("docs/sandbox.md", "--requests-per-second", "reset-after@1-3", "--chaos"):
        assert words in said
    assert "WHICH   a run id" not in said
