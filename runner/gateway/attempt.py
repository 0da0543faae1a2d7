import asyncio

from aiohttp import web

from runner.gateway.flight import Cost, Reply, sum_of
from runner.gateway.messages import Account, Admission
from runner.gateway.store import Store
from runner.model import Spending

# Requests of one attempt under way, whether its clients wait for them or have gone.
MOST_AT_ONCE = 1024


class AskingAttempt:
    """One attempt that may ask, and what it has asked so far.

    Attributes:
        held: bytes of its requests' bodies that are in memory.
    """

    def __init__(
        self,
        admission: Admission,
        store: Store,
        listening: asyncio.Server,
        web_server: web.Server,
    ) -> None:
        self.id = admission.attempt
        self.store = store
        self.held = 0
        self._listening = listening
        self._web = web_server
        self.room = asyncio.Semaphore(MOST_AT_ONCE)
        self.requests = 0
        self.replayed = 0
        self._paid: list[Cost] = []
        self._saved: list[Cost] = []
        self.refused: list[str] = []
        self.kind, self.stopped = store.stopped.get(self.id, ("", ""))

    def paid(self, reply: Reply) -> None:
        """It was given an answer of its provider's."""
        self._paid = [sum_of([*self._paid, reply.cost])]
        if reply.stopped and not self.stopped:
            self.stopped, self.kind = reply.text, reply.stopped

    def saved(self, cost: Cost) -> None:
        """It was given an answer on record."""
        self.replayed += 1
        self._saved = [sum_of([*self._saved, cost])]

    def close(self) -> None:
        """Serve it no more; what it has sent is for the next who asks the same."""
        self._listening.close()
        for connection in self._web.connections:
            connection.force_close()

    def account(self, waited: float) -> Account:
        """All of it; `waited` are seconds."""
        paid, saved = sum_of(self._paid), sum_of(self._saved)
        return Account(
            spending=Spending(
                requests=self.requests,
                replayed=self.replayed,
                tokens=paid.tokens,
                saved_tokens=saved.tokens,
                usd=paid.usd,
                saved_usd=saved.usd,
            ),
            refused=self.refused,
            stopped=self.stopped,
            kind=self.kind,
            waited=waited,
        )
