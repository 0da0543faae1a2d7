import threading


class Slots:
    """Room for so many evals at once.

    It can be closed for a while: who has a slot keeps it, and nobody gets one.

    Attributes:
        renewing: how many have lent theirs back for that while.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._taken = 0
        self._closed = False
        self._open_for_good = False
        self.renewing = 0
        self._changed = threading.Condition()

    def take(self) -> None:
        """Wait for a free slot, and take it."""
        with self._changed:
            self._changed.wait_for(lambda: self._taken < self._at_once and not self._closed)
            self._taken += 1

    def take_over(self) -> None:
        """Take a slot for what runs already, whether there is a free one or not."""
        with self._changed:
            self._taken += 1

    def give(self) -> None:
        """Give a slot back."""
        with self._changed:
            self._taken -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Give out no slots."""
        with self._changed:
            self._closed = not self._open_for_good

    def open(self) -> None:
        """Give out slots again."""
        with self._changed:
            self._closed = False
            self._changed.notify_all()

    def open_for_good(self) -> None:
        """Give out slots whatever comes: there is nothing left to start in them."""
        with self._changed:
            self._open_for_good = True
        self.open()

    def renew(self) -> None:
        """Give a slot back while none are given out, and take one again afterwards."""
        with self._changed:
            if not self._closed:
                return
            self.renewing += 1
        self.give()
        self.take()
        with self._changed:
            self.renewing -= 1

    @property
    def taken(self) -> int:
        """How many are in use."""
        with self._changed:
            return self._taken
