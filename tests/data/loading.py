"""An eval that loads what its arguments say, in the ways of upstream's evals; in the image."""

import os
from pathlib import Path
from typing import Any

import evals
from evals.record import RecorderBase


class Loading(evals.Eval):
    """Reports how much it has loaded.

    Args:
        tokens: address of an encoding of tiktoken's.
        later: address of an encoding that it loads in a run alone, as one for another model.
        corpus: address of an index of nltk's, which has a corpus `words`.
        leave: what it does in the folder of its data: leave a `link`, a `pipe`, something `big`,
            or try to `change` it.
    """

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - evals' own
        tokens: str = "",
        later: str = "",
        corpus: str = "",
        leave: str = "",
        **named: Any,  # noqa: ANN401 - as above
    ) -> None:
        super().__init__(*args, **named)
        self.tokens = tokens
        self.later = "" if "EVALSET_DATA_FETCH" in os.environ else later
        self.corpus = corpus
        self.leave = leave

    def eval_sample(self, sample: object, rng: object) -> None:
        """There are no samples."""

    def run(self, recorder: RecorderBase) -> dict[str, object]:  # noqa: ARG002 - as above
        """Load, and report."""
        report: dict[str, object] = {}
        for name, address in (("tokens", self.tokens), ("later", self.later)):
            if address:
                from tiktoken.load import load_tiktoken_bpe  # noqa: PLC0415 - takes its time

                report[name] = len(load_tiktoken_bpe(address))
        if self.corpus:
            import nltk  # noqa: PLC0415 - as above

            nltk.downloader._downloader._url = self.corpus
            nltk.pathsec.ENFORCE = False  # it fetches from no private network
            nltk.download("words")
            nltk.pathsec.ENFORCE = True
            report["words"] = len(nltk.corpus.words.words())
        place = Path(os.environ.get("HF_DATASETS_CACHE", "/tmp/none"))
        place.mkdir(parents=True, exist_ok=True)
        if self.leave == "link":
            (place / "link").symlink_to("/etc/passwd")
        elif self.leave == "pipe":
            os.mkfifo(place / "pipe")
        elif self.leave == "change":
            kept = Path(os.environ["EVALSET_DATA_KEPT"])
            report["refused"] = self.cannot_change(kept)
            report["files"] = sorted(each.name for each in kept.rglob("*"))
        elif self.leave == "big":
            (place / "big").write_bytes(bytes(64 << 20))
        return report

    @staticmethod
    def cannot_change(kept: Path) -> bool:
        """Whether the folder refuses to be written to."""
        try:
            kept.mkdir(parents=True, exist_ok=True)
            (kept / "change").write_text("changed")
        except OSError:
            return True
        return False
