"""Which answer is given to whom; without input or output."""

from collections import defaultdict
from collections.abc import Iterable

from runner.records.answers_file import Kept


class Exchange:
    """The answers of one eval, and the attempts that were given them.

    An attempt is given each answer at most once, so that equal requests get different answers, as
    many as were paid for.
    """

    def __init__(self, kept: Iterable[Kept] = ()) -> None:
        self._by_key: defaultdict[str, list[Kept]] = defaultdict(list)
        self._given: defaultdict[str, set[str]] = defaultdict(set)
        # Where to start searching: answers before that were given to the attempt.
        self._from: defaultdict[tuple[str, str], int] = defaultdict(int)
        for answer in kept:
            self.add(answer)

    def add(self, answer: Kept) -> None:
        """Add an answer that is on record."""
        self._by_key[answer.key].append(answer)

    def was_given(self, attempt: str, ids: Iterable[str]) -> None:
        """Note the answers that an attempt was given, according to the record."""
        self._given[attempt].update(ids)

    def take(self, key: str, attempt: str, sample: str = "") -> Kept | None:
        """Give an attempt an answer, that of the same sample if there is one, else the oldest."""
        answers = self._by_key.get(key, [])
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
