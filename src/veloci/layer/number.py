"""Numbers as tar writes them: octal, base 256, decimal; anything else is an error."""

from __future__ import annotations

from veloci.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

LARGEST = 2**63
KNOWN = 1024  # fields that are remembered, of a kind


def number(field: bytes, what: str) -> int:
    """A header's number: octal digits, or base 256 in two's complement if the first bit is set. Empty is 0."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big")
        bits = 8 * len(field)
        # the first bit is the mark, the second the sign
        value = value - (1 << bits) if field[0] & 0x40 else value - (1 << (bits - 1))
        if -LARGEST <= value < LARGEST:
            return value
        raise InvalidInput(f"the {what} is out of range", where="tar")
    text = field.strip(b" \0")
    try:
        return int(text, 8) if text.isdigit() else _empty(text)
    except ValueError:
        raise InvalidInput(f"the {what} is {text!r}, not an octal number", where="tar") from None


class Known(dict[bytes, int]):
    """The numbers of a kind of field in which few stand, by its bytes: a layer has a hundred thousand fields.

    Raises InvalidInput, as `number` does.
    """

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what

    def __missing__(self, field: bytes) -> int:
        if len(self) >= KNOWN:
            self.clear()
        value = self[field] = number(field, self._what)
        return value


def _empty(text: bytes) -> int:
    if text:
        raise ValueError(text)
    return 0


def numbers(fields: Sequence[bytes]) -> list[int]:
    """Decimal numbers, not negative, below 2**63."""
    if not all(field.isdigit() and len(field) <= 19 for field in fields):
        raise InvalidInput("a malformed number in a PAX record", where="tar")
    return [int(field) for field in fields]


def decimal_ns(value: bytes) -> int:
    """Seconds, maybe with a fraction and a sign, as nanoseconds; further digits are cut off."""
    digits, _, fraction = value.removeprefix(b"-").partition(b".")
    seconds = numbers([digits or b"0"])[0]
    nanoseconds = numbers([fraction[:9].ljust(9, b"0")])[0]
    if fraction and not fraction.isdigit():
        raise InvalidInput("a malformed time in a PAX record", where="tar")
    total = seconds * 1_000_000_000 + nanoseconds
    return -total if value.startswith(b"-") else total
