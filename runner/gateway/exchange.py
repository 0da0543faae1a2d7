"""Which answer is given to whom; without input or output."""

from collections import defaultdict
from collections.abc import Callable, Iterable

from runner.records.answers import Kept


class Exchange:
    """The answers of one eval, and the attempts that were given them.

    An attempt is given each answer at most once, so that equal requests get different answers, as
    many as were paid for.

    Args:
        look: finds the answers to a key that were on record before, in their order; it is asked
            once for each key.
    """

    def __init__(self, look: Callable[[str], list[Kept]]) -> None:
        self._look = look
        self._by_key: dict[str, list[Kept]] = {}
        self._given: defaultdict[str, set[str]] = defaultdict(set)
        # Where to start searching: answers before that were given to the attempt.
        self._from: defaultdict[tuple[str, str], int] = defaultdict(int)

    def _answers(self, key: str) -> list[Kept]:
        if (found := self._by_key.get(key)) is None:
            self._by_key[key] = found = self._look(key)
        return found

    def add(self, answer: Kept) -> None:
        """Add an answer that is on record."""
        self._answers(answer.key).append(answer)

    def was_given(self, attempt: str, ids: Iterable[str]) -> None:
        """Note the answers that an attempt was given, according to the record."""
        self._given[attempt].update(ids)

    def take(self, key: str, attempt: str, sample: str = "") -> Kept | None:
        """Give an attempt an answer, that of the same sample if there is one, else the oldest."""
        answers = self._answers(key)
        given = self._given[attempt]
        start = self._from[attempt, key]
        while start < len(answers) and answers[start].id in given:
            start += 1
        self._from[attempt, key] = start
        left = [answer for answer in answers[start:] if answer.id not in given]
        if not left:
            return None
        own = (answer for answer in left if sample and answer.sample == sample)
        chosen = next(own, left[0])
        given.add(chosen.id)
        return chosen

    def give_back(self, answer: Kept, attempt: str) -> None:
        """Take back an answer that did not reach the attempt."""
        self._given[attempt].discard(answer.id)
        self._from.pop((attempt, answer.key), None)
