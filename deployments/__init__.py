"""How the flows are run on a schedule: prefect.yaml and automations.yaml for work pools, `serve` without one."""
