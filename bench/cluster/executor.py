"""What the executors of a cluster share: a queue of cells, and their progress."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from bench.cluster.progress import ClusterProgress
from bench.matrix.expand import Matrix
from bench.matrix.heartbeat import read_heartbeat
from bench.matrix.store import Store
from bench.matrix.tasks import LOCKED, CellTask, TaskQueue
from bench.matrix.worker import WorkerConfig


class ClusterExecutor(ABC):
    """Runs matrices, each cell as one task of a scheduler, once the cells that it builds on are done."""

    def __init__(
        self,
        matrices: Sequence[Matrix],
        store: Store,
        config: WorkerConfig,
        progress: ClusterProgress,
        stop: Callable[[], bool],
    ) -> None:
        self.store = store
        self.config = config
        self.progress = progress
        self.stop = stop
        self._queue = TaskQueue(matrices, store, config.retry_failed)
        self._running: dict[Any, CellTask] = {}

    def run(self) -> Counter[str]:
        """Finish every cell; returns numbers of done, cached, failed and unsupported cells.

        A failed cell does not stop the others. Raises UserError for bad input.
        """
        outcomes: Counter[str] = Counter()
        for task, outcome, message in self._queue.skip_finished():
            outcomes[outcome] += 1
            self.progress.cell_ended(task.cell, outcome, message)
        try:
            return outcomes + self._queue.run(self._send, self._finished, self.stop)
        finally:
            self._cancel()

    @abstractmethod
    def _send(self, task: CellTask) -> bool:
        """Hand a cell to the scheduler; returns False if it takes none now."""

    @abstractmethod
    def _ended(self) -> Iterable[tuple[CellTask, str]]:
        """Remove from `_running` the cells that ended, with their outcomes, waiting briefly for the first."""

    @abstractmethod
    def _cancel(self) -> None:
        """Have running cells write a checkpoint and stop."""

    def _finished(self) -> Iterator[tuple[CellTask, str]]:
        for task, outcome in self._ended():
            if outcome != LOCKED:
                failure = self.store.failure(task.cell.key) if outcome == "failed" else None
                message = f"FAILED {failure.stage}: {failure.error}" if failure else ""
                self.progress.cell_ended(task.cell, outcome, message)
            yield task, outcome
        self._show()

    def _show(self) -> None:
        running = [task.cell for task in self._running.values()]
        beats = ((cell, read_heartbeat(self.store, cell.key)) for cell in running)
        self.progress.show([(cell, beat) for cell, beat in beats if beat])
