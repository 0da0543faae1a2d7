from collections import Counter
from pathlib import Path

import pytest

from runner.gateway.asking import MOST_BROKEN
from runner.options import DEFAULT_IMAGE
from runner.records.layout import Layout
from runner.records.progress import read_attempts
from tests.conftest import Place
from tests.provider import KEY, provider
from tests.run.test_verify_real_docker import MATCH, evalset

pytestmark = pytest.mark.docker


def test_oaieval_does_not_pay_for_ever_for_answers_that_are_cut(
    tmp_path: Path, cache: Path
) -> None:
    """Left alone it asks without end. Its record names the request, and a next run goes on."""
    place = Place(tmp_path, cache, DEFAULT_IMAGE)
    names = "gpt-3.5-turbo", "test-basic"
    with provider(tmp_path, script=[{"way": "cut"}] * 50) as stub:
        variables = {
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": f"{stub.url}/v1",
            "EVALS_THREADS": "1",
        }
        line = ("run", *names, "--select", MATCH)
        ended = evalset(place, *line, progress=place.progress, **variables)
        assert ended.returncode == 1, ended
        billed = Counter(bill.key for bill in stub.bills())
        assert max(billed.values()) == MOST_BROKEN
        layout = Layout(root=place.progress, model=names[0], eval_set=names[1])
        (record,) = read_attempts(layout.attempts).records
        words = f"openai broke off {MOST_BROKEN} answers in a row to one request to {names[0]}"
        assert [line for line in record.warnings if words in line], record
        assert record.console_log
        assert words in (place.progress / record.console_log).read_text()
        stub.behave()
        ended = evalset(place, *line, progress=place.progress, **variables)
        assert ended.returncode == 0, ended
        assert len(stub.bills()) == billed.total() + 3
