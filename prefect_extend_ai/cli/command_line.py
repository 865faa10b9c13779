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
from prefect_extend_ai.prefect_io.addresses import without_password

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

Exit codes: 0 done, {FAILED} it went wrong, {USAGE} the command line was wrong, {INTERRUPTED} Ctrl-C."""

SETUP_EXAMPLES = """\
The account comes from EXTEND_API_KEY and its kin, or from .env. What is there already is kept, so that setup can be
called again at any time: parameters, schedules and pauses of the deployments too. A block that differs is overwritten
only after asking.

Examples:

    prefect-extend-ai setup
    prefect-extend-ai setup --name acme --pool documents --yes
    EXTEND_WORKSPACE_ID=ws_2 prefect-extend-ai setup --name other-workspace --block-only

Exit codes: 0 done, 1 it went wrong, 2 the command line was wrong."""

CHECK_EXAMPLES = """\
Asks Extend with the saved block, which is what sweeps use, or else with EXTEND_API_KEY and its kin.
Changes nothing and cancels nothing.

Examples:

    prefect-extend-ai check
    prefect-extend-ai check --name acme --kind extract
    prefect-extend-ai check || echo "the watchdog needs a person"

Exit codes: 0 all is well, 1 something is to be mended, 2 the command line was wrong."""

SANDBOX_EXAMPLES = """\
Nothing leaves the machine, and no real run is touched. Ctrl-C stops it.

--trouble WHERE:WHICH:WHAT is something that goes wrong: once, or with @FROM-TO
behind it as often as that says.

    WHERE   list, get, cancel, create, delete or any
    WHICH   a run id, or a pattern like *
    WHAT    reset, slow=SECONDS, a status like 503 or 503=RETRY_AFTER,
            empty, html, list, redirect; each of these also with -after:
            the request takes effect first
            outage=SECONDS
            finish, status=NAME, touch, cancel=MODE: the run itself changes

--behave NAME=VALUE settles what the vendor does not document;
docs/api-unknowns.md lists the names.

Examples:

    prefect-extend-ai sandbox --runs 900 --stuck 300 --requests-per-second 10
    prefect-extend-ai sandbox --trouble 'cancel:*:reset-after@1-3' --chaos 7
    prefect-extend-ai sandbox --behave cancel=later --behave refusal_status=409

Exit codes: 0 stopped, 1 it went wrong, 2 the command line was wrong."""

app = App(
    name="prefect-extend-ai",
    help="Cancels Extend document runs that have been processing too long, and keeps what became of them.",
    help_epilogue=EXAMPLES,
    help_format="plaintext",
    version=lambda: version("prefect-extend-ai"),
)
# By name, so that `--help` does not wait for what the commands import.
app.command(
    "prefect_extend_ai.cli.demo:run_demo",
    name="demo",
    help="Watch stale runs being found, cancelled and recorded: a look-alike of Extend, a real Prefect.",
)
app.command(
    "prefect_extend_ai.cli.setup:run_setup",
    name="setup",
    help="Save the account as a block of Prefect's, make a work pool, deploy the sweep with a schedule.",
    help_epilogue=SETUP_EXAMPLES,
)
app.command(
    "prefect_extend_ai.cli.check:run_check",
    name="check",
    help="Look whether everything is in place: key, workspace, clock, Prefect, block, last sweep.",
    help_epilogue=CHECK_EXAMPLES,
)
app.command(
    "prefect_extend_ai.sandbox.command:sandbox",
    name="sandbox",
    help="Serve a look-alike of Extend's API for dry runs and tests of your own.",
    help_epilogue=SANDBOX_EXAMPLES,
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
        # Not folded: there may be a command or an address in it, to be copied.
        Console(stderr=True).print(Text.assemble(("Error: ", "bold red"), without_password(error)), soft_wrap=True)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
