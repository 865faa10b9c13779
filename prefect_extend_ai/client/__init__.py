"""Talks to Extend over HTTP; has never heard of a sweep."""

from prefect_extend_ai.client.api import LARGEST_PAGE, ExtendClient, Page, ReservedCancel
from prefect_extend_ai.client.transport import Transport

__all__ = ["LARGEST_PAGE", "ExtendClient", "Page", "ReservedCancel", "Transport"]
