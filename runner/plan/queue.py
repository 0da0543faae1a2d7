from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush


class JobQueue:
    """Jobs that wait to be started, always the first of the plan first, and those due for a retry.

    Args:
        jobs: keys, in the order of the plan; all of them wait.
        fits: whether a job may start now, because enough time remains for it.
    """

    def __init__(self, jobs: Sequence[str], fits: Callable[[str], bool] = lambda _: True) -> None:
        self._keys = list(jobs)
        self._index = {key: index for index, key in enumerate(jobs)}
        self._fits = fits
        # Heaps; what has left the set or the dictionary beside one is passed over in it.
        self._heap = list(range(len(jobs)))
        self._waiting = set(self._heap)
        self._due: dict[int, float] = {}
        self._times: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._waiting) + len(self._due)

    def add(self, key: str) -> None:
        """A job waits."""
        index = self._index[key]
        self._due.pop(index, None)
        if index not in self._waiting:
            self._waiting.add(index)
            heappush(self._heap, index)

    def rest(self, key: str, until: float) -> None:
        """A job waits from a later time on."""
        index = self._index[key]
        self._due[index] = until
        heappush(self._times, (until, index))

    def remove(self, key: str) -> None:
        """A job waits no more."""
        self._waiting.discard(self._index[key])
        self._due.pop(self._index[key], None)

    def clear(self) -> None:
        """No job waits any more."""
        for each in (self._heap, self._waiting, self._due, self._times):
            each.clear()

    def next_due(self) -> float | None:
        """When the next retry is due; None if there is none."""
        while self._times:
            until, index = self._times[0]
            if self._due.get(index) == until:
                return until
            heappop(self._times)
        return None

    def wake(self, now: float) -> None:
        """Let those wait that are due."""
        while (until := self.next_due()) is not None and until <= now:
            _, index = heappop(self._times)
            del self._due[index]
            self.add(self._keys[index])

    def take(self) -> str | None:
        """The first job that may start, which waits no more; None if there is none."""
        passed_over = []
        found = None
        while self._heap and found is None:
            index = heappop(self._heap)
            if index not in self._waiting:
                continue
            if self._fits(self._keys[index]):
                self._waiting.discard(index)
                found = self._keys[index]
            else:
                passed_over.append(index)
        self._heap += passed_over
        if passed_over:
            heapify(self._heap)
        return found

    def leave_out(self) -> int:
        """Forget the jobs that wait, but not those due for a retry; return how many they were."""
        left_out = len(self._waiting)
        self._waiting.clear()
        self._heap.clear()
        return left_out
