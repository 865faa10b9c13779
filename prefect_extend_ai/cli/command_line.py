"""The command line: `prefect-extend-ai`."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from cyclopts import App, CycloptsError
from rich.console import Console
from rich.text import Text

from prefect_extend_ai.cli.help_texts import COMMANDS, FAILED, INTERRUPTED, PROGRAM, USAGE
from prefect_extend_ai.cli.versions import require_prefect
from prefect_extend_ai.errors import ExtendError
from prefect_extend_ai.prefect_io.addresses import without_password

__all__ = ["app", "main"]

app = App(
    name="prefect-extend-ai",
    help=PROGRAM.description,
    help_epilogue=PROGRAM.epilogue,
    help_format="plaintext",
    group_parameters="Options",
    version=lambda: version("prefect-extend-ai"),
)
for _name, _function in {
    "demo": "prefect_extend_ai.cli.demo:run_demo",
    "setup": "prefect_extend_ai.cli.setup:run_setup",
    "check": "prefect_extend_ai.cli.check:run_check",
    "serve": "prefect_extend_ai.cli.serve:run_serve",
    "advise": "prefect_extend_ai.cli.advise:run_advise",
    "explain": "prefect_extend_ai.cli.explain:run_explain",
    "purge": "prefect_extend_ai.cli.purge:run_purge",
    "sandbox": "prefect_extend_ai.sandbox.command:sandbox",
}.items():
    # By name, so that `--help` does not wait for what the commands import.
    _help = COMMANDS[_name]
    app.command(_function, name=_name, help=_help.description, help_epilogue=_help.epilogue)


def main(words: Sequence[str] | None = None, *, commands: App = app) -> None:
    """Run the command line and exit; a user's mistake is answered with one sentence, never a traceback.

    Args:
        words: The arguments after the program's name; None for those of this process.
        commands: The app that the arguments are for.
    """
    # A retry is not worth a line in a terminal; a final failure is printed below.
    logging.getLogger("stamina").addHandler(logging.NullHandler())
    # Prefect's sender of events warns at the end that it is not quite done.
    logging.getLogger("EventsWorker").setLevel(logging.ERROR)
    try:
        require_prefect()
        try:
            commands(sys.argv[1:] if words is None else words, exit_on_error=False)
        finally:
            sys.stdout.flush()
    except CycloptsError:
        sys.exit(USAGE)  # cyclopts has printed what is wrong
    except ExtendError as error:
        # Not folded: the text may contain a command or an address, to be copied.
        Console(stderr=True).print(Text.assemble(("Error: ", "bold red"), without_password(error)), soft_wrap=True)
        sys.exit(FAILED)
    except BrokenPipeError:
        # Nobody reads on (`| head`). Ends as Rich's console does, and Python's own flush at the exit finds no pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
