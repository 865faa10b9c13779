"""Runs and reports as markdown and table rows for Prefect artifacts.

Pure functions. Text from outside (ids, names, reasons, links, the run objects themselves) is data: it cannot break
out of a table or a code fence, nor become a link, an image or HTML.
"""

from prefect_extend_ai.rendering.inert import address, escape, fence, link, unmarked, visible
from prefect_extend_ai.rendering.json_text import pretty_json
from prefect_extend_ai.rendering.names import name_at_end, name_at_start
from prefect_extend_ai.rendering.records import part_pages, record_page, record_title, shared_record_page
from prefect_extend_ai.rendering.reports import report_page, report_table

__all__ = [
    "address",
    "escape",
    "fence",
    "link",
    "name_at_end",
    "name_at_start",
    "part_pages",
    "pretty_json",
    "record_page",
    "record_title",
    "report_page",
    "report_table",
    "shared_record_page",
    "unmarked",
    "visible",
]
