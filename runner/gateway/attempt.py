import asyncio

from aiohttp import web

from runner.gateway.flight import Cost, Reply, sum_of
from runner.gateway.messages import Account, Admission
from runner.gateway.store import Store
from runner.model import Spending

# Requests of one attempt that may be under way, including those whose clients have gone.
MOST_AT_ONCE = 1024


class AskingAttempt:
    """An attempt that may send requests, and what it has done so far.

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
        """Count an answer that its provider gave."""
        self._paid = [sum_of([*self._paid, reply.cost])]
        if reply.stopped and not self.stopped:
            self.stopped, self.kind = reply.text, reply.stopped

    def saved(self, cost: Cost) -> None:
        """Count an answer on record that it was given."""
        self.replayed += 1
        self._saved = [sum_of([*self._saved, cost])]

    def close(self) -> None:
        """Stop serving it; a later attempt that asks the same gets the answers to what it sent."""
        self._listening.close()
        for connection in self._web.connections:
            connection.force_close()

    def account(self, waited: float) -> Account:
        """Everything that it has done; `waited` is in seconds."""
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
