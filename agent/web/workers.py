"""The threads that answer calls: Waitress's, as many as are needed."""

from __future__ import annotations

from typing import Any, Set

from waitress.task import ThreadedTaskDispatcher


class Workers(ThreadedTaskDispatcher):  # type: ignore[misc]
    """Waitress's dispatcher, whose number of threads follows the launches under way (lanes.py)."""

    threads: Set[int]
    _is_shut = False

    def resize(self, count: int) -> None:
        """So many threads from now on. RuntimeError when the host gives no more."""
        if not self._is_shut and count != len(self.threads) - self.stop_count:
            self.set_thread_count(count)

    def start_new_thread(self, target: Any, thread_no: int) -> None:
        try:
            super().start_new_thread(target, thread_no)
        except RuntimeError:
            self.threads.discard(thread_no)
            raise

    def shutdown(self, cancel_pending: bool = True, timeout: int = 5) -> bool:
        self._is_shut = True
        return bool(super().shutdown(cancel_pending, timeout))
