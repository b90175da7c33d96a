"""A slice of what ``make fuzz`` does: damage ends in a result or a sentence, never in another error."""

import pytest

from tests.fuzz import fuzz, targets


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", targets())
def test_a_damaged_input_is_read_or_refused_in_a_sentence(name: str) -> None:
    fuzz(name, 10)
