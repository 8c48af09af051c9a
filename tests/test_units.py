import pytest

from ngscale.errors import UsageError
from ngscale.units import MAX_WHOLE, parse_bytes, parse_count, parse_whole

BEYOND = (str(MAX_WHOLE + 1), 400 * "9", 5000 * "9", "9" * 19 + "T")


def test_amounts_and_counts_are_exact() -> None:
    assert parse_bytes("2.5GiB") == 5 * 2**29
    assert parse_count("31.4B") == 31_400_000_000
    assert parse_bytes(str(MAX_WHOLE)) == parse_count(str(MAX_WHOLE)) == MAX_WHOLE


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "1e3", ".5", "5\u212a", *BEYOND])
def test_what_is_no_amount_is_a_usage_error(text: str) -> None:
    for parse in (parse_bytes, parse_count):
        with pytest.raises(UsageError, match=r"^.*: is not "):
            parse(text)


def test_a_whole_number_is_in_plain_digits_and_within_its_bounds() -> None:
    assert [parse_whole(text, 64) for text in ("1", "064", "64")] == [1, 64, 64]
    for text in ("", "0", "65", "-1", " 1", "1.0", "1_0", "\u00b2", "\uff11", *BEYOND):
        assert parse_whole(text, 64) == 0
