"""What `prefect-extend-ai setup` and `prefect-extend-ai check` do, a module a command."""
