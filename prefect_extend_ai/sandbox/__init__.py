"""An embedded sandbox of Extend's API: for demonstrations, tests and dry runs.

    from prefect_extend_ai.sandbox import World, serve

    with serve(World.populated(runs=60, stuck=12)) as sandbox:
        print(sandbox.url)          # for ExtendCredentials(base_url=...)

It behaves as the vendor documents; what the vendor does not document is a switch of `Behaviour`, and a fault is a
`Trouble`. docs/sandbox.md describes every one.
"""

from prefect_extend_ai.sandbox.app import create_app
from prefect_extend_ai.sandbox.behaviour import Behaviour, CancelMode
from prefect_extend_ai.sandbox.journal import Entry
from prefect_extend_ai.sandbox.record import Processor, Record, State
from prefect_extend_ai.sandbox.server import Served, serve
from prefect_extend_ai.sandbox.troubles import Trouble
from prefect_extend_ai.sandbox.world import API_KEY, WORKSPACE, World

__all__ = [
    "API_KEY",
    "WORKSPACE",
    "Behaviour",
    "CancelMode",
    "Entry",
    "Processor",
    "Record",
    "Served",
    "State",
    "Trouble",
    "World",
    "create_app",
    "serve",
]
