"""What is deployed to Prefect: prefect.yaml and automations.yaml for work pools, and example flows."""
