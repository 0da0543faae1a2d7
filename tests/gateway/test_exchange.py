"""Which answer an attempt is given, against a model of it."""

import io
from collections import defaultdict
from collections.abc import Sequence

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runner.gateway.exchange import Exchange
from runner.records.answers import Answer, AnswersLine, Failed, Given, Kept, Request, Returned, Sent
from runner.records.answers_index import Index, index_of
from tests.answered import kept_in

KEYS = st.sampled_from(["k1", "k2", "k3"])
ATTEMPTS = st.sampled_from(["a1", "a2", "a3"])
OTHERS = st.sampled_from(["b1", "a1"])
SAMPLES = st.sampled_from(["", "s.1", "s.2", "s.3"])


def exchange_of(kept: Sequence[Kept] = ()) -> Exchange:
    """One with these answers on record."""
    by_key: defaultdict[str, list[Kept]] = defaultdict(list)
    for each in kept:
        by_key[each.key].append(each)
    return Exchange(lambda key: list(by_key[key]))


class Paid(msgspec.Struct, frozen=True):
    """An answer as the model knows it."""

    id: str
    key: str
    sample: str


class Gateway(RuleBasedStateMachine):
    """Requests, answers, clients that leave, crashes, and files of other hosts.

    The model: all answers in the order of the file, and for each attempt those that it has.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[bytes] = []
        self.exchange = exchange_of()
        self.known = Index()
        self.covered = b""
        self.paid: list[Paid] = []
        self.has: dict[str, set[str]] = {}
        self.copy: list[bytes] = []
        self.number = 0

    def _write(self, *lines: AnswersLine) -> None:
        self.lines += map(msgspec.json.encode, lines)

    def _now(self) -> str:
        self.number += 1
        return str(self.number)

    def _pay(self, key: str, sample: str, attempt: str) -> list[AnswersLine]:
        """What a request and its answer leave in a file."""
        self.number += 1
        name = f"i{self.number}"
        return [
            Request(key=key, route="openai", method="POST", path="/v1/completions"),
            Sent(id=name, key=key, attempt=attempt, sample=sample),
            Answer(id=name, key=key, attempt=attempt, sample=sample, body="{}"),
        ]

    def _record(self, key: str, sample: str, attempt: str) -> Kept:
        self._write(*self._pay(key, sample, attempt))
        name = f"i{self.number}"
        self.paid.append(Paid(name, key, sample))
        kept = Kept(status=200, id=name, key=key, sample=sample, start=0, size=0)
        self.exchange.add(kept)
        return kept

    def _left(self, key: str, attempt: str) -> list[Paid]:
        has = self.has.get(attempt, set())
        return [each for each in self.paid if each.key == key and each.id not in has]

    def _give(self, attempt: str, name: str) -> None:
        assert name not in self.has.get(attempt, set()), "it had it"
        self.has.setdefault(attempt, set()).add(name)

    @rule(key=KEYS, attempt=ATTEMPTS, sample=SAMPLES)
    def ask(self, key: str, attempt: str, sample: str) -> None:
        """The sample's own answer is given, else the oldest, else one is paid for."""
        left = self._left(key, attempt)
        own = [each for each in left if sample and each.sample == sample]
        taken = self.exchange.take(key, attempt, sample)
        if taken is None:
            assert not left
            kept = self._record(key, sample, attempt)
            self.exchange.was_given(attempt, [kept.id])
        else:
            assert taken.id == (own or left)[0].id
            self._write(Given(id=taken.id, attempt=attempt, at=self._now()))
            kept = taken
        self._give(attempt, kept.id)

    @rule(key=KEYS, sample=SAMPLES)
    def finish_for_nobody(self, key: str, sample: str) -> None:
        """An answer comes for which nobody waits any more."""
        self._record(key, sample, "")

    @rule(key=KEYS, attempt=ATTEMPTS)
    def fail(self, key: str, attempt: str) -> None:
        """A request that comes to nothing leaves nothing to give."""
        sent = self._pay(key, "", attempt)[1]
        self._write(sent, Failed(id=f"i{self.number}", status=500))

    @precondition(lambda self: any(self.has.values()))
    @rule(data=st.data())
    def disconnect(self, data: st.DataObject) -> None:
        """An answer that an attempt was given did not reach it."""
        pairs = sorted((attempt, name) for attempt, names in self.has.items() for name in names)
        attempt, name = data.draw(st.sampled_from(pairs))
        (one,) = (each for each in self.paid if each.id == name)
        kept = Kept(status=200, id=name, key=one.key, sample=one.sample, start=0, size=0)
        self.exchange.give_back(kept, attempt)
        self._write(Returned(id=name, attempt=attempt, at=self._now()))
        self.has[attempt].remove(name)

    @rule(torn=st.booleans(), indexed=st.booleans())
    def crash(self, *, torn: bool, indexed: bool) -> None:
        """All is built anew from the file, whose last line may be torn, and the last index."""
        content = b"".join(line + b"\n" for line in self.lines)
        tail = b'{"version":1,"kind":"answer","id":"torn","key":"k1"' if torn else b""
        known = self.known if indexed and content.startswith(self.covered) else Index()
        found = index_of(io.BytesIO(content + tail), known)
        kept = kept_in(content + tail, known)
        assert found.damaged == []
        assert [each.id for each in kept] == [each.id for each in self.paid]
        for each in kept:
            line = msgspec.json.decode(content[each.start : each.start + each.size], type=Answer)
            assert (line.id, line.key, line.sample) == (each.id, each.key, each.sample)
        self.known, self.covered = found, content
        self.exchange = exchange_of(kept)
        for attempt in found.given:
            self.exchange.was_given(attempt, found.given_to(attempt))

    @rule(key=KEYS, sample=SAMPLES, attempt=OTHERS)
    def pay_elsewhere(self, key: str, sample: str, attempt: str) -> None:
        """Another host has a file, too, which does not know of this one's answers."""
        self.copy += map(msgspec.json.encode, self._pay(key, sample, attempt))

    @rule(twice=st.booleans())
    def merge(self, *, twice: bool) -> None:
        """The union of both files' lines, however often; then all is built anew."""
        known = {each.id for each in self.paid}
        for line in map(msgspec.json.Decoder(AnswersLine).decode, self.copy):
            if isinstance(line, Answer) and line.id not in known:
                self.paid.append(Paid(line.id, line.key, line.sample))
                self._give(line.attempt, line.id)
        union = [*self.lines, *self.copy, *(self.lines if twice else [])]
        self.lines = list(dict.fromkeys(union))
        self.copy = []
        self.crash(torn=False, indexed=True)

    @invariant()
    def whoever_is_new_gets_all(self) -> None:
        """Each answer once, in the order of the file; then nothing is left."""
        for key in ("k1", "k2", "k3"):
            new = exchange_of(
                [
                    Kept(status=200, id=p.id, key=p.key, sample=p.sample, start=0, size=0)
                    for p in self.paid
                ]
            )
            wanted = [each.id for each in self.paid if each.key == key]
            taken = [new.take(key, "new") for _ in range(len(wanted) + 1)]
            assert [each and each.id for each in taken] == [*wanted, None]

    def teardown(self) -> None:
        """Each attempt can still get what it has not had, and no more."""
        for attempt in ("a1", "a2", "a3", "b1"):
            for key in ("k1", "k2", "k3"):
                wanted = {each.id for each in self._left(key, attempt)}
                taken = [self.exchange.take(key, attempt) for _ in range(len(wanted) + 1)]
                assert {each.id for each in taken if each} == wanted
                assert taken[-1] is None


TestGateway = Gateway.TestCase
TestGateway.settings = settings(stateful_step_count=30, max_examples=150)
