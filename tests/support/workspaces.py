"""Workspaces of a sandbox that no other test sweeps, and what sweeps of them leave in Prefect."""

from __future__ import annotations

from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow_async

from prefect_extend_ai import ExtendCredentials
from prefect_extend_ai.sandbox import World, serve

COUNT = iter(range(10**6))


class Workspace:
    """A workspace that no other test sweeps."""

    def __init__(self, artifacts):
        number = next(COUNT)
        self.workspace = f"ws_history_{number}"
        # Ids of Extend's are its own in every workspace.
        self.world = World(seed=number, keys={"sk_sandbox": self.workspace})
        self.artifacts = artifacts
        self.block_name = self.workspace.replace("_", "-")

    def add(self, runs=1, **facts):
        self.world.add(status="PROCESSED", age_minutes=1, workspace=self.workspace, kind=facts.get("kind", "classify"))
        return [self.world.add(**{"age_minutes": 120, "workspace": self.workspace} | facts) for _ in range(runs)]

    def serve(self):
        return serve(self.world)

    def credentials(self, sandbox, **more):
        facts = {"api_key": "sk_sandbox", "base_url": sandbox.url, "workspace_id": self.workspace}
        return ExtendCredentials(**facts | {"requests_per_second": 100} | more)

    def written(self, what, kind="classify"):
        """The artifacts under a key of this workspace, oldest first."""
        found = self.artifacts.all(key={"like_": f"extend-{what}-{kind}-ws-history-{self.workspace[11:]}-%"})
        return sorted((each for each in found if not each["key"].endswith("-runs")), key=lambda each: each["created"])


async def begin(flow, credentials, name=None, deployment=None, **parameters):
    """A flow run that was made before it begins, of a deployment or not: its end, and how it is called then."""
    async with get_client() as client:
        if deployment is None:
            made = await client.create_flow_run(flow, name=name)
        else:
            made = await client.create_flow_run_from_deployment(deployment)
        state = await run_flow_async(
            flow, flow_run=made, parameters={"credentials": credentials, **parameters}, return_type="state"
        )
        return state, (await client.read_flow_run(made.id)).name
