"""Seeds as people write them."""

from __future__ import annotations

import pytest

from robustkit.base.errors import UserError
from robustkit.base.options import seeds


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0-4", (0, 1, 2, 3, 4)), ("0,1,2", (0, 1, 2)), (7, (7,)), ([3, 1], (3, 1)), (" 5 , 0 - 1", (5, 0, 1))],
)
def test_ranges_and_lists(text: str | int | list[int], expected: tuple[int, ...]):
    assert seeds(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0-2,2", "name 2 twice"), ("1,1", "name 1 twice"), ([0, 0], "name 0 twice"), ("4-0", "like 0-4"),
        ("a", "like 0-4"), ("", "like 0-4"), ("-1", "like 0-4"), ("0-99999", "more than 1000"),
        ("99999999999999", "at most 2147483647"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(text: str, said: str):
    with pytest.raises(UserError, match=said):
        seeds(text)
