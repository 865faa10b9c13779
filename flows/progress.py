"""How far a long sweep has come: in the log, and as a bar on the flow run's page."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from prefect.logging import get_run_logger

from prefect_extend_ai.prefect_io.journal import PrefectJournal
from prefect_extend_ai.prefect_io.progress import progress_bar
from prefect_extend_ai.sweep.progress import Progress
from prefect_extend_ai.sweep.report import SweepReport

__all__ = ["telling_progress"]


@asynccontextmanager
async def telling_progress(
    journal: PrefectJournal, report: SweepReport, *, total: int, stale: int, rate: float
) -> AsyncIterator[Callable[[], None]]:
    """What is to be called for each run that is done. Of a sweep that takes some seconds only, it tells nothing.

    Args:
        journal: the journal of the sweep.
        report: what its scan found.
        total: how many runs it asks for.
        stale: how many it found stale.
        rate: requests a second.
    """
    loop = asyncio.get_running_loop()
    progress = Progress(total, stale, report.listed, rate, loop.time())
    if not progress.is_long:
        yield lambda: None
        return
    logger = get_run_logger()
    logger.info(progress.announcement())
    async with progress_bar(journal, progress.announcement()) as bar:

        def done() -> None:
            if (words := progress.settle(loop.time())) is not None:
                logger.info(words)
                if bar is not None:
                    bar.show(progress.percent, words)

        yield done
