"""`prefect-extend-ai sandbox`: the sandbox on a port."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from cyclopts import CycloptsError, Parameter, validators
from pydantic import ValidationError
from rich.console import Console

from prefect_extend_ai.errors import ExtendInputError
from prefect_extend_ai.runs import KindName
from prefect_extend_ai.sandbox.behaviour import Behaviour
from prefect_extend_ai.sandbox.gateway import API_VERSION
from prefect_extend_ai.sandbox.lifetimes import SPEEDS, Speed
from prefect_extend_ai.sandbox.server import serve
from prefect_extend_ai.sandbox.troubles import Trouble
from prefect_extend_ai.sandbox.world import API_KEY, WORKSPACE, World

__all__ = ["sandbox"]

_MANY = Parameter(negative="", show_default=False)
_YEAR = 365 * 24 * 60


def _behaviour(switches: Sequence[str]) -> Behaviour:
    values: dict[str, Any] = {}
    for switch in switches:
        name, equals, value = switch.partition("=")
        if not equals or name not in Behaviour.model_fields:
            raise ExtendInputError(
                f"--behave {switch}: not NAME=VALUE with a NAME of {', '.join(Behaviour.model_fields)}"
            )
        values[name] = int(value) if name.endswith("_status") and value.isdecimal() else value
    try:
        return Behaviour.model_validate({name: None if value == "none" else value for name, value in values.items()})
    except ValidationError as error:
        first = error.errors()[0]
        raise ExtendInputError(f"--behave {first['loc'][0]}: {first['msg']}") from None


def _troubles(words: Sequence[str]) -> list[Trouble]:
    return [Trouble.parse(each) for each in words]


def _speeds(words: Sequence[str]) -> list[Speed]:
    return [Speed.parse(each) for each in words]


def _outage(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        begins, ends = (float(part) for part in text.split("-"))
    except ValueError:
        begins, ends = 0.0, 0.0
    if not _YEAR >= begins > ends >= 0:
        raise ExtendInputError(f"--outage {text}: not FROM-TO in minutes ago, such as 600-360")
    return begins, ends


def _readable(read: Callable[[Sequence[str]], object]) -> Parameter:
    """A parameter whose words are checked while the command line is parsed, so that a wrong one is a usage error."""

    def validate(_: object, words: Sequence[str]) -> None:
        try:
            read(words)
        except ExtendInputError as error:
            raise CycloptsError(msg=str(error)) from None

    return Parameter(validator=validate)


def _within_a_year(_: object, minutes: float) -> None:
    if not abs(minutes) <= _YEAR:
        raise ValueError("A year at most, either way.")


def sandbox(
    *,
    port: Annotated[int, Parameter(validator=validators.Number(gte=0, lte=65535))] = 8765,
    host: str = "127.0.0.1",
    runs: Annotated[int, Parameter(validator=validators.Number(gte=0))] = 60,
    stuck: Annotated[int | None, Parameter(validator=validators.Number(gte=0))] = None,
    past: Annotated[int, Parameter(validator=validators.Number(gte=0))] = 0,
    speed: Annotated[tuple[str, ...], _MANY, _readable(_speeds)] = (),
    outage: str | None = None,
    seed: int = 1,
    kind: Annotated[tuple[KindName, ...], _MANY] = ("classify",),
    requests_per_second: Annotated[float | None, Parameter(validator=validators.Number(gt=0))] = None,
    api_key: str = API_KEY,
    workspace: str = WORKSPACE,
    organization_key: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    clock_ahead: Annotated[float, Parameter(validator=_within_a_year)] = 0,
    behave: Annotated[tuple[str, ...], _MANY, _readable(_behaviour)] = (),
    trouble: Annotated[tuple[str, ...], _MANY, _readable(_troubles)] = (),
    chaos: int | None = None,
) -> None:
    """Serve a sandbox of Extend's API on this machine, filled with generated runs, until Ctrl-C.

    Args:
        port: Port to listen on; 0 for any free one.
        host: Address to listen on.
        runs: Number of runs of each kind.
        stuck: Number of runs that have been PROCESSING for 65 minutes to three days; by default 12, or all if fewer.
        past: Number of runs of each kind that were submitted over the last week, beside the others.
        speed: How long past runs of one processor take, MEDIAN~SPREAD~SHARE, the last two optional; repeatable.
        outage: When nothing was processed, FROM-TO in minutes ago.
        seed: Seed of the generated runs: the same seed, the same runs.
        kind: Kind of run to generate, by default classify; repeatable.
        requests_per_second: Rate limit of each category (GET, WRITE, RUN); no limit by default.
        api_key: The key that is accepted.
        workspace: The workspace of the runs.
        organization_key: The key is an organization's, and each request has to name the workspace.
        clock_ahead: Minutes by which the sandbox's clock is ahead of this machine's; negative for behind.
        behave: An assumption about undocumented behaviour, NAME=VALUE; repeatable.
        trouble: A fault rule, WHERE:WHICH:WHAT or WHERE:WHICH:WHAT@TIMES; repeatable.
        chaos: Seed of random faults.

    Raises:
        ExtendInputError: for a switch or a fault rule that cannot be read, more stuck runs than runs, or a port in use.
    """
    world = World(
        clock=lambda: datetime.now(UTC) + timedelta(minutes=clock_ahead),
        behaviour=_behaviour(behave),
        keys={api_key: None if organization_key else workspace},
        requests_per_second=requests_per_second,
        troubles=_troubles(trouble),
        chaos=chaos,
        seed=seed,
    )
    for each in dict.fromkeys(kind):
        world.populate(
            runs=runs, stuck=min(12, runs) if stuck is None else stuck, seed=seed, kind=each, workspace=workspace
        )
        speeds = _speeds(speed) or SPEEDS
        world.live(each, workspace=workspace, runs=past, speeds=speeds, outage=_outage(outage), seed=seed)
    try:
        with serve(world, port, host) as served:
            _announce(served.url, world, kind, api_key, workspace if organization_key else None)
            threading.Event().wait()
    except KeyboardInterrupt:
        Console().print(f"\nStopped after {len(world.journal)} requests.")
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ExtendInputError(
            f"Cannot listen on {host}:{port} ({reason}): choose another --port, or 0 for any free one"
        ) from None


def _announce(url: str, world: World, kinds: Sequence[KindName], api_key: str, workspace: str | None) -> None:
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"[bold]Extend sandbox[/bold] at [bold]{url}[/bold]")
    for kind in dict.fromkeys(kinds):
        served = sum(record.kind == kind for record in world.runs.values())
        console.print(f"  {kind}: {served} runs, {len(world.stale(kind=kind))} stuck for more than an hour")
    # A key of your own is not repeated on the screen.
    key = api_key if api_key == API_KEY else "$KEY"
    named = f" -H 'x-extend-workspace-id: {workspace}'" if workspace else ""
    path = f"{kinds[0] if kinds else 'classify'}_runs"
    console.print("\nList the runs in progress, the oldest first:")
    console.print(
        f"  curl -s '{url}/{path}?status=PROCESSING&sortDir=asc' -H \"Authorization: Bearer {key}\""
        f" -H 'x-extend-api-version: {API_VERSION}'{named}",
        markup=False,
    )
    console.print("\nPoint prefect-extend-ai (and the vendor's tools) at it:")
    console.print(f"  export EXTEND_BASE_URL={url} EXTEND_API_KEY={key}", markup=False)
    if workspace:
        console.print(f"  export EXTEND_WORKSPACE_ID={workspace}", markup=False)
    console.print("\nCtrl-C stops it.")
