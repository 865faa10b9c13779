"""The command line: `prefect-extend-ai`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from importlib.metadata import version

from cyclopts import App, CycloptsError
from rich.console import Console
from rich.text import Text

from prefect_extend_ai.errors import ExtendError

__all__ = ["app", "main"]

FAILED = 1
USAGE = 2
INTERRUPTED = 130

EXAMPLES = f"""\
Examples:

    prefect-extend-ai demo
    prefect-extend-ai demo --stay
    prefect-extend-ai setup
    prefect-extend-ai check
    prefect-extend-ai sandbox --port 8765 --runs 60 --stuck 12

Exit codes: 0 done, {FAILED} it went wrong, {USAGE} the command line was, {INTERRUPTED} Ctrl-C."""

SETUP_EXAMPLES = """\
The account comes from EXTEND_API_KEY and its kin, or from .env. What is there already is kept, so that setup can be
called again at any time; a block that differs is overwritten only after asking.

Examples:

    prefect-extend-ai setup
    prefect-extend-ai setup --name acme --pool documents --yes
    EXTEND_WORKSPACE_ID=ws_2 prefect-extend-ai setup --name other-workspace --block-only

Exit codes: 0 done, 1 it went wrong, 2 the command line was."""

CHECK_EXAMPLES = """\
Asks Extend with the saved block, which is what sweeps use, or else with EXTEND_API_KEY and its kin.
Changes nothing and cancels nothing.

Examples:

    prefect-extend-ai check
    prefect-extend-ai check --name acme --kind extract
    prefect-extend-ai check || echo "the watchdog needs a person"

Exit codes: 0 all is well, 1 something is to be mended, 2 the command line was wrong."""

app = App(
    name="prefect-extend-ai",
    help="Cancels Extend document runs that have been processing too long, and keeps what became of them.",
    help_epilogue=EXAMPLES,
    help_format="plaintext",
    version=lambda: version("prefect-extend-ai"),
)
# By name, so that `--help` does not wait for what the commands import.
app.command(
    "prefect_extend_ai.demo:demo",
    name="demo",
    help="Watch stale runs being found, cancelled and recorded: a look-alike of Extend, a real Prefect.",
)
app.command(
    "prefect_extend_ai.commands.setup:setup",
    name="setup",
    help="Save the account as a block of Prefect's, make a work pool, deploy the sweep with a schedule.",
    help_epilogue=SETUP_EXAMPLES,
)
app.command(
    "prefect_extend_ai.commands.check:check",
    name="check",
    help="Look whether everything is in place: key, workspace, clock, Prefect, block, last sweep.",
    help_epilogue=CHECK_EXAMPLES,
)
app.command(
    "prefect_extend_ai.sandbox.command:sandbox",
    name="sandbox",
    help="Serve a look-alike of Extend's API for dry runs and tests of your own.",
)


def main(words: Sequence[str] | None = None, *, commands: App = app) -> None:
    """Run the command line and exit; a user's mistake gets a sentence, never a traceback.

    Args:
        words: What stands behind the program's name; None for what the shell has given.
        commands: What the words are the command line of.
    """
    # What is retried is not worth a line in a terminal; what is given up on is said below.
    logging.getLogger("stamina").addHandler(logging.NullHandler())
    try:
        commands(sys.argv[1:] if words is None else words, exit_on_error=False)
    except CycloptsError:
        sys.exit(USAGE)  # cyclopts has said what was wrong
    except ExtendError as error:
        Console(stderr=True).print(Text.assemble(("Error: ", "bold red"), str(error)))
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
