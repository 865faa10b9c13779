"""A bar on the flow run's page: a progress artifact without a key, so that no list of reports shows it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from uuid import UUID

from prefect_extend_ai.errors import RecordError
from prefect_extend_ai.prefect_io.journal import PrefectJournal

__all__ = ["ProgressBar", "progress_bar"]

logger = logging.getLogger(__name__)

DRAW_SECONDS = 10.0
"""How long Prefect may take to draw the bar: the sweep does not wait for it, but for the last."""


class ProgressBar:
    """Shows the latest percentage. Nothing waits for it, and a bar that cannot be drawn stops nothing."""

    def __init__(self, journal: PrefectJournal, artifact_id: UUID) -> None:
        self._journal = journal
        self._id = artifact_id
        self._latest: tuple[float, str] | None = None
        self._drawing: asyncio.Task[None] | None = None

    def show(self, percent: float, words: str) -> None:
        """Draw this soon, with these words beside it; of several that come while one is drawn, the last."""
        self._latest = percent, words
        if self._drawing is None or self._drawing.done():
            self._drawing = asyncio.create_task(self._draw())

    async def finish(self) -> None:
        """Return when the last one is drawn."""
        if self._drawing is not None:
            await self._drawing

    async def _draw(self) -> None:
        while self._latest is not None:
            (percent, words), self._latest = self._latest, None
            try:
                async with asyncio.timeout(DRAW_SECONDS):
                    await self._journal.store.update(self._id, data=percent, description=words)
            except (RecordError, TimeoutError) as error:
                logger.warning("The progress of this sweep cannot be shown: %s", str(error) or "Prefect is slow")


@contextlib.asynccontextmanager
async def progress_bar(journal: PrefectJournal, description: str) -> AsyncIterator[ProgressBar | None]:
    """A bar at 0 percent; None where Prefect does not take one.

    Args:
        journal: the journal of the sweep.
        description: what is under way.
    """
    try:
        async with asyncio.timeout(DRAW_SECONDS):
            artifact = await journal.write(type="progress", description=description, data=0.0)
    except (RecordError, TimeoutError) as error:
        logger.warning("The progress of this sweep cannot be shown: %s", str(error) or "Prefect is slow")
        yield None
        return
    bar = ProgressBar(journal, artifact.id)
    try:
        yield bar
    finally:
        await bar.finish()
