import gzip
import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from runner.image.build import Recipe
from runner.image.image import Image
from runner.image.prepare import DATA, take_data


def test_of_a_wheel_only_one_folder_is_taken(tmp_path: Path) -> None:
    """Its files alone, unpacked where they are packed."""
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("a/data/plain", "one")
        archive.writestr("a/data/packed.txt.gz", gzip.compress(b"two"))
        archive.writestr("a/data/below/other", "three")
        archive.writestr("a/code.py", "four")
    take_data(tmp_path / "a.whl", "a/data/", tmp_path / "b/c")
    found = {path.name: path.read_text() for path in (tmp_path / "b/c").iterdir()}
    assert found == {"plain": "one", "packed.txt": "two"}


def test_every_locked_wheel_of_data_is_used() -> None:
    """And none that is not locked."""
    names = re.findall(r"^([\w-]+)==", Recipe().data_lock.decode(), re.MULTILINE)
    assert sorted(name.replace("-", "_") for name in names) == sorted(DATA)


LOOK = """
import os, tiktoken
from nltk import WordNetLemmatizer, word_tokenize
from nltk.corpus import wordnet

files = [f"data.{part}" for part in ("noun", "verb", "adj", "adv")]
print(wordnet.get_version(), sum(line[0] != " " for file in files for line in wordnet.open(file)))
words = word_tokenize("Mr. Doe saw geese. He fled.")
print(*map(WordNetLemmatizer().lemmatize, words))
print(*(tiktoken.get_encoding(name).n_vocab for name in ("cl100k_base", "o200k_base")))
print(os.path.exists("/tmp/data-gym-cache"))
"""


@pytest.mark.docker
def test_the_image_has_data_that_evals_would_fetch(eval_image: Image) -> None:
    """The whole of WordNet 3.0, sentences, encodings: in a container of a run, with no network."""
    locked = ("--network=none", "--read-only", "--tmpfs=/tmp")
    done = subprocess.run(
        ["docker", "run", "--rm", *locked, eval_image.id, "python", "-c", LOOK],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "3.0 117659",
        "Mr. Doe saw goose . He fled .",
        "100277 200019",
        "False",
    ]
