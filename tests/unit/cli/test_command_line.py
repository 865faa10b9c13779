"""The command line speaks to people and to scripts."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from cyclopts import App

from prefect_extend_ai.cli import command_line as cli
from prefect_extend_ai.cli.help_texts import COMMANDS
from prefect_extend_ai.errors import ExtendError


def exit_code(*words: str, commands: App = cli.app) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words, commands=commands)
    return ended.value.code


def raising(error: BaseException) -> App:
    """A command line whose one command `demo` goes wrong."""
    app = App(name="prefect-extend-ai")

    @app.command
    def demo() -> None:
        raise error

    return app


def test_help_shows_the_commands_and_examples(capsys: pytest.CaptureFixture[str]):
    assert exit_code("--help") == 0
    said = capsys.readouterr().out
    assert "prefect-extend-ai sandbox --port 8765" in said
    assert "prefect-extend-ai serve --every 15" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_the_same_form_of_help(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "120")
    assert exit_code(command, "--help") == 0
    said = capsys.readouterr().out
    parts = [
        f"Usage: prefect-extend-ai {command} [OPTIONS]",
        "Options",
        "Examples:\n\n    ",
        "Exit codes:\n\n    0    ",
    ]
    places = [said.find(part) for part in parts]
    assert places == sorted(places), said
    assert -1 not in places, said
    examples = said[places[2] : places[3]].splitlines()[2:-1]
    assert all(f"prefect-extend-ai {command}" in each for each in examples), examples


def test_each_command_has_its_own_help_and_no_other():
    assert set(COMMANDS) == {name for name in cli.app if not name.startswith("-")}


@pytest.mark.slow
def test_help_does_not_wait_for_what_the_commands_import():
    code = (
        "import sys; sys.argv = ['x', '--help']\n"
        "from prefect_extend_ai.cli.command_line import main\n"
        "try: main()\n"
        "except SystemExit: print('prefect_extend_ai.flows' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("words", [["bogus"], ["demo", "--bogus"], ["sandbox", "--port", "http"]])
def test_a_wrong_command_line_is_2_and_says_what_is_wrong(words: list[str], capsys: pytest.CaptureFixture[str]):
    assert exit_code(*words) == 2
    said = capsys.readouterr()
    assert words[-1].removeprefix("--") in said.out + said.err


def test_what_goes_wrong_is_1_and_one_sentence(capsys: pytest.CaptureFixture[str]):
    assert exit_code("demo", commands=raising(ExtendError("no [bold]luck[/bold]"))) == 1
    assert capsys.readouterr().err == "Error: no [bold]luck[/bold]\n"


def test_ctrl_c_exits_with_130_without_traceback(capsys: pytest.CaptureFixture[str]):
    assert exit_code("demo", commands=raising(KeyboardInterrupt())) == 130
    assert "Traceback" not in capsys.readouterr().err


PRINTING = """
import sys
from cyclopts import App
from rich.console import Console
from prefect_extend_ai.cli.command_line import app, main
commands = App(name="prefect-extend-ai")
commands.command(lambda: print("one line"), name="short")
commands.command(lambda: print("a line\\n" * 100_000), name="long")
commands.command(lambda: Console().print("a line\\n" * 1_000), name="rich")
main(commands=commands if sys.argv[1] in ("short", "long", "rich") else app)
"""


@pytest.mark.parametrize("words", [["short"], ["long"], ["rich"], ["--help"], ["--version"]], ids=" ".join)
def test_a_pipe_that_nobody_reads_ends_it_in_silence(words: list[str]):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        command = [sys.executable, "-c", PRINTING, *words]
        ran = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writing)
    assert (ran.returncode, ran.stderr) == (1, "")
