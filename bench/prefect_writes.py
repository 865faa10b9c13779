"""What a measured flow left in Prefect, read from the server's database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Written", "count_before", "written_since"]


@dataclass(frozen=True, slots=True)
class Written:
    """What was written.

    Attributes:
        records: artifacts without a key.
        artifacts: all artifacts, those that were deleted again apart.
        largest_artifact: bytes of the largest artifact's data.
        largest_event: bytes of the largest event's payload.
    """

    records: int = 0
    artifacts: int = 0
    largest_artifact: int = 0
    largest_event: int = 0


def count_before(home: Path) -> str:
    """A mark from which on `written_since` counts."""
    with closing(_database(home)) as database:
        return str(database.execute("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')").fetchone()[0])


def written_since(home: Path, mark: str) -> Written:
    """What the server has written since the mark; events may take it some seconds more."""
    with closing(_database(home)) as database:
        records, artifacts, largest = database.execute(
            "SELECT count(*) FILTER (WHERE key IS NULL), count(*), max(length(CAST(data AS BLOB)))"
            " FROM artifact WHERE created >= ?",
            [mark],
        ).fetchone()
        (event,) = database.execute(
            "SELECT max(length(CAST(payload AS BLOB))) FROM events WHERE occurred >= ?", [mark]
        ).fetchone()
    return Written(records or 0, artifacts or 0, largest or 0, event or 0)


def _database(home: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{home / 'prefect.db'}?mode=ro", uri=True, timeout=60)
