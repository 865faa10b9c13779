"""The command line: `prefect-extend-ai`."""

from prefect_extend_ai.cli.command_line import main

__all__ = ["main"]
