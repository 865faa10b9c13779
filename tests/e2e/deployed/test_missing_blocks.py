"""A block that a deployment names and that is not there: `check` says which, and what to do."""

from __future__ import annotations

import asyncio

from prefect_extend_ai import ExtendCredentials
from prefect_extend_ai.flows import cancel_runs, cancel_stale_runs


async def deploy(flow, name, credentials, **options):
    from prefect.types.entrypoint import EntrypointType

    parameters = {"credentials": credentials} if credentials else {}
    deployment = await flow.ato_deployment(
        name, parameters=parameters, entrypoint_type=EntrypointType.MODULE_PATH, **options
    )
    return await deployment.aapply()


async def save(name):
    return str(await ExtendCredentials(api_key="sk_1").asave(name, overwrite=True))


def by_slug(name):
    return {"$ref": {"block_document_slug": f"extend-credentials/{name}"}}


def by_id(block_id):
    return {"$ref": {"block_document_id": block_id}}


async def deploy_all():
    """Deployments whose blocks are there, and others whose are not."""
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import CronSchedule

    there, gone = await save("there"), await save("gone")
    await ExtendCredentials.adelete("gone")
    cron = CronSchedule(cron="0 0 29 2 *")
    schedules = [
        DeploymentScheduleCreate(schedule=cron, active=active, slug=slug, parameters={"credentials": by_slug("absent")})
        for slug, active in (("yearly", True), ("off", False))
    ]
    await deploy(cancel_stale_runs, "well", by_slug("there"))
    await deploy(cancel_runs, "well-by-id", by_id(there))
    await deploy(cancel_runs, "asks", None)
    await deploy(cancel_stale_runs, "by-slug", by_slug("never-saved"))
    await deploy(cancel_runs, "by-id", by_id(gone))
    await deploy(cancel_runs, "by-bare-id", {"$ref": gone})
    await deploy(cancel_stale_runs, "scheduled", by_slug("there"), schedules=schedules)
    return gone


def test_check_names_each_deployment_whose_block_is_missing(account):
    gone = asyncio.run(deploy_all())
    said = account.type("prefect-extend-ai", "check", "--name", "well").stdout
    lines = [line.split(maxsplit=2)[2] for line in said.splitlines() if line.startswith("fail  Deployment")]
    again = "save it again, prefect-extend-ai setup --block-only --name"
    choose = "choose a saved block in its parameters"
    expected = {
        'cancel-stale-runs/by-slug names the block "extend-credentials/never-saved"': f"{again} never-saved",
        f"cancel-runs/by-id names the block with the id {gone}": choose,
        f"cancel-runs/by-bare-id names the block with the id {gone}": choose,
        'cancel-stale-runs/scheduled (its schedule yearly) names the block "extend-credentials/absent"': (
            f"{again} absent"
        ),
    }
    assert len(lines) == len(expected), said
    for names, how in expected.items():
        assert any(line.startswith(f"{names}, which does not exist: {how}") for line in lines), said


def test_a_sweep_whose_block_is_missing_says_what_to_do(account):
    assert account.type("prefect-extend-ai", "setup").returncode == 0
    account.postpone("cancel-stale-runs/extend")
    (block,) = account.api.post("/block_documents/filter", json={}).json()
    account.api.delete(f"/block_documents/{block['id']}").raise_for_status()
    with account.worker():
        run = account.ended(account.run("cancel-stale-runs/extend"))
        assert "Failed to resolve block references" in run["state"]["message"], run["state"]
        said = account.type("prefect-extend-ai", "check").stdout
    assert 'fail  Block       "extend" is not saved: prefect-extend-ai setup --name extend' in said
    assert 'cancel-stale-runs/extend names the block "extend-credentials/extend", which does not exist' in said
    (last,) = [line for line in said.splitlines() if line.startswith("fail  Sweeps")]
    assert last.endswith("save it again, or name another in the deployment's parameters")
    # What is wrong with a deployment is said, and not that all is well with it.
    assert not [line for line in said.splitlines() if line.startswith("ok    Deployment")], said
