"""`prefect-extend-ai sandbox`: serves the sandbox on a port."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from cyclopts import Parameter, validators
from pydantic import ValidationError
from rich.console import Console

from prefect_extend_ai.errors import ExtendInputError
from prefect_extend_ai.runs import KindName
from prefect_extend_ai.sandbox.behaviour import Behaviour
from prefect_extend_ai.sandbox.gateway import API_VERSION
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


def _readable(read: Callable[[Sequence[str]], object]) -> Parameter:
    """A validator that reports an unreadable value as an error of the command line."""

    def validate(_: object, words: Sequence[str]) -> None:
        try:
            read(words)
        except ExtendInputError as error:
            raise ValueError(str(error)) from None

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
    seed: int = 1,
    kind: Annotated[tuple[KindName, ...], _MANY] = ("classify",),
    requests_per_second: Annotated[float | None, Parameter(validator=validators.Number(gt=0))] = None,
    api_key: str = API_KEY,
    workspace: str = WORKSPACE,
    organization_key: Annotated[bool, Parameter(negative="")] = False,
    clock_ahead: Annotated[float, Parameter(validator=_within_a_year)] = 0,
    behave: Annotated[tuple[str, ...], _MANY, _readable(_behaviour)] = (),
    trouble: Annotated[tuple[str, ...], _MANY, _readable(_troubles)] = (),
    chaos: int | None = None,
) -> None:
    """Serve a look-alike of Extend's API with made-up runs on this machine, until Ctrl-C.

    Args:
        port: Port to listen on; 0 for any free one.
        host: Address to listen on.
        runs: Number of runs of each kind.
        stuck: Number of these that have been PROCESSING for 65 minutes to three days; 12, or all if there are fewer.
        seed: Seed of the made-up runs.
        kind: Kind of run to make, classify if none is given; may be given several times.
            All six kinds are served in any case.
        requests_per_second: Rate limit of each category (GET, WRITE, RUN); none by default.
        api_key: The key that is accepted.
        workspace: The workspace of the runs.
        organization_key: The key belongs to an organization: each request must name the workspace.
        clock_ahead: Minutes that the sandbox's clock is ahead of this machine's; negative for behind.
        behave: A switch of the sandbox's behaviour, NAME=VALUE, for what the vendor does not document:
            cancel, cancel_seconds, refusal_status, errors, second_cancel, retry_after, list_lag_seconds, paging, ...
        trouble: A fault rule, WHERE:WHICH:WHAT; may be given several times.
        chaos: Seed for random faults.

    Raises:
        ExtendInputError: for a behaviour or a trouble that cannot be read, more stuck runs than runs, a port that
            is taken.
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
    # A key that is not the default one is not shown.
    key = api_key if api_key == API_KEY else "$KEY"
    named = f" -H 'x-extend-workspace-id: {workspace}'" if workspace else ""
    path = f"{kinds[0] if kinds else 'classify'}_runs"
    console.print("\nLook at the runs in progress, the oldest first:")
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
