"""A slice of what ``make fuzz`` does: damage ends in a result or a sentence, never in another error."""

import pytest

from tests.fuzz import Target, fuzz, fuzz_apart, targets
from tests.picture_files import further_seeds

#: Those of which others of the same decoder are tried each time.
FURTHER = {f"picture: {name}" for name in further_seeds() if "with a box" not in name}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.exhaustive] * (name in FURTHER)) for name in targets()]
)
def test_a_damaged_input_is_read_or_refused_in_a_sentence(name: str) -> None:
    fuzz(name, 10)


def test_an_input_that_does_not_end_is_a_finding(monkeypatch: pytest.MonkeyPatch):
    def spin(data: bytes) -> None:
        while data.startswith(b"s"):
            pass

    monkeypatch.setattr("tests.fuzz.BUSY", 0.02)
    monkeypatch.setattr("tests.fuzz.STUCK", 2000)
    monkeypatch.setitem(targets(), "spinning", Target(b"spinning", spin))
    assert "data=b'spinning'" in fuzz_apart("spinning", 20)
