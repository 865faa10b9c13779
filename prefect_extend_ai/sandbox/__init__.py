"""An embedded look-alike of Extend's API: for demonstrations, tests and your own dry runs.

    from prefect_extend_ai.sandbox import World, serve

    with serve(World.populated(runs=60, stuck=12)) as sandbox:
        print(sandbox.url)          # for ExtendCredentials(base_url=...)

It behaves as the vendor documents. `Behaviour` has a switch for each thing that the vendor does not document, and a
`Trouble` is a rule that injects a fault.
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
