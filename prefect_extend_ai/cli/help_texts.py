"""What `--help` says of each command, in one form: description, options, examples, exit codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["COMMANDS", "FAILED", "INTERRUPTED", "PROGRAM", "USAGE", "CommandHelp"]

FAILED = 1
USAGE = 2
INTERRUPTED = 130

COMMON_CODES = {FAILED: "Failed; the error says why.", USAGE: "The command line is wrong.", INTERRUPTED: "Ctrl-C."}


@dataclass(frozen=True, slots=True)
class CommandHelp:
    """The help of one command; its options are documented where the command is defined.

    Attributes:
        summary: one sentence, shown in the list of commands too.
        examples: command lines.
        details: what else to know before typing it, in short lines.
        codes: exit codes that mean something else than they usually do.
    """

    summary: str
    examples: Sequence[str]
    details: str = ""
    codes: Mapping[int, str] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """What is shown above the options."""
        return f"{self.summary}\n\n{self.details}" if self.details else self.summary

    @property
    def exit_codes(self) -> Mapping[int, str]:
        """Every exit code and what it means; an empty meaning where the command never ends so."""
        return {0: "Done."} | COMMON_CODES | dict(self.codes)

    @property
    def epilogue(self) -> str:
        """What is shown below the options."""
        examples = "\n".join(f"    {each}" for each in self.examples)
        meanings = "\n".join(f"    {code:<5}{meaning}" for code, meaning in sorted(self.exit_codes.items()) if meaning)
        return f"Examples:\n\n{examples}\n\nExit codes:\n\n{meanings}"


PROGRAM = CommandHelp(
    "Cancels Extend document runs that have been processing too long, and records how each ended.",
    (
        "prefect-extend-ai demo",
        "prefect-extend-ai setup",
        "prefect-extend-ai check",
        "prefect-extend-ai serve --every 15 --limit 60 --kind all",
        "prefect-extend-ai advise",
        "prefect-extend-ai sandbox --port 8765 --runs 60 --stuck 12",
    ),
)

COMMANDS = {
    "demo": CommandHelp(
        "Show a sweep on this machine: a sandbox of Extend's API and a real Prefect server.",
        ("prefect-extend-ai demo", "prefect-extend-ai demo --stay"),
        "Requires no account and no network, and takes about half a minute. At the end everything is stopped.",
    ),
    "setup": CommandHelp(
        "Save the account as a Prefect block, create a work pool, and deploy a scheduled sweep for each kind of run.",
        (
            "prefect-extend-ai setup --kind classify --kind extract",
            "EXTEND_WORKSPACE_ID=ws_2 prefect-extend-ai setup --name acme --kind all --paused",
            "prefect-extend-ai setup --pool cluster --image registry.example.com/prefect-extend-ai:1",
            "prefect-extend-ai setup --pool cluster --job-variable namespace=documents",
        ),
        "The account is read from EXTEND_API_KEY and the other EXTEND_* variables, or from .env. The deployments are "
        "cancel-stale-runs/NAME for classify runs, cancel-stale-runs/NAME-KIND for each other kind, and "
        "cancel-runs/NAME. It is safe to run again: parameters, schedules and pauses of existing deployments are kept, "
        "so are deployments of other kinds, and a block that differs is overwritten only after confirmation.",
    ),
    "check": CommandHelp(
        "Check every deployment of the sweep: key, workspace, clock, block, schedule, last and next sweep, worker.",
        (
            "prefect-extend-ai check",
            "prefect-extend-ai check --name acme --kind extract",
            'prefect-extend-ai check || echo "the watchdog does not run as intended"',
        ),
        "Prints one line for each finding, marked ok, warn or fail, with what to do. It finds every deployment of this "
        "package's flows, whatever its name, and says which kinds of run have stale runs that no deployment sweeps. "
        "Extend is asked with the saved blocks, which are what sweeps use, or else with the EXTEND_* variables. "
        "Changes nothing and cancels nothing.",
        {0: "No finding is marked fail.", FAILED: "At least one finding is marked fail."},
    ),
    "serve": CommandHelp(
        "Run sweeps on a schedule in this process: no work pool and no worker.",
        (
            "prefect-extend-ai serve",
            "prefect-extend-ai serve --every 5 --limit 30 --dry-run --name rehearsal",
            "prefect-extend-ai serve --kind classify --kind extract",
        ),
        "Deploys a sweep for each kind and the cancel by ids, named as setup names them, and executes their runs until "
        "Ctrl-C. The account is read from EXTEND_API_KEY and the "
        "other EXTEND_* variables, or from .env, and saved as a Prefect block; if the block is already saved, no "
        "variable is required. The deployments refer to the block and contain no key.",
        {0: "Stopped."},
    ),
    "advise": CommandHelp(
        "Say which limit is right, from how long the account's own runs took.",
        (
            "prefect-extend-ai advise",
            "prefect-extend-ai advise --kind extract --limit 30",
            "prefect-extend-ai advise --runs 20000 --json",
        ),
        "Reads the runs that finished last, a thousand a request. For each processor it prints how long they took, a "
        "suggested limit, and how many healthy runs a limit would have cancelled. The account is read from "
        "EXTEND_API_KEY and the other EXTEND_* variables, or from .env, or else from the saved block. Changes nothing.",
    ),
    "explain": CommandHelp(
        "Say what happened to single runs: what Extend has of them now, and what sweeps did, when and why.",
        (
            "prefect-extend-ai explain clr_Xj8mK2pL9nR4vT7qY5wZ",
            "prefect-extend-ai explain clr_Xj8mK2pL9nR4vT7qY5wZ --json",
            "prefect-extend-ai explain https://dashboard.extend.ai/runs/exr_Xj8mK2pL9nR4vT7qY5wZ",
        ),
        "Read from Prefect's events, the reports of sweeps and the entries that are still open; dry runs are left out. "
        "It says how far back the reports go. Changes nothing.",
    ),
    "purge": CommandHelp(
        "Delete records from Prefect: the final objects of single runs, or all that are old.",
        (
            "prefect-extend-ai purge --run clr_Xj8mK2pL9nR4vT7qY5wZ --dry-run",
            "prefect-extend-ai purge --run clr_Xj8mK2pL9nR4vT7qY5wZ exr_Xj8mK2pL9nR4vT7qY5wZ",
            "prefect-extend-ai purge --older-than 30",
        ),
        "Asks nothing before it deletes. A record of several runs is written again without those that are named. What "
        "is still open is kept until a sweep has finished it. Reports hold ids only and stay.",
        {FAILED: "Failed; or a run that was named is still open, and its record was kept."},
    ),
    "sandbox": CommandHelp(
        "Serve a sandbox of Extend's API for dry runs and tests.",
        (
            "prefect-extend-ai sandbox --runs 900 --stuck 300 --requests-per-second 10",
            "prefect-extend-ai sandbox --trouble 'cancel:*:reset-after@1-3' --chaos 7",
            "prefect-extend-ai sandbox --behave cancel=later --behave refusal_status=409",
        ),
        "Nothing leaves this machine, and no real run is affected. docs/sandbox.md describes every fault of --trouble "
        "and every switch of --behave.",
        {0: "Stopped with Ctrl-C.", INTERRUPTED: ""},
    ),
}
