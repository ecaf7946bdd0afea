"""zstd streams cut where their blocks end: none holds more than 128 KiB, be it four bytes long.

RFC 8878, section 3.1. The decompressor has no limit for what it gives at once, so it is fed block by block.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FRAME = b"\x28\xb5\x2f\xfd"
SKIPPABLE = b"\x2a\x4d\x18"  # after a byte of 0x50 to 0x5f


class _Buffer:
    """What came, and is not given on yet."""

    def __init__(self, data: bytes, source: Iterator[bytes]) -> None:
        self._source, self.data = source, bytearray(data)

    def have(self, count: int) -> bool:
        """Whether there are so many bytes."""
        while len(self.data) < count:
            more = next(self._source, None)
            if more is None:
                return False
            self.data += more
        return True

    def take(self, count: int) -> bytes:
        """Up to so many bytes."""
        taken = bytes(self.data[:count])
        del self.data[:count]
        return taken


def blocks(data: bytes, source: Iterator[bytes]) -> Iterator[bytes]:
    """The stream `data` and then `source`, in pieces that hold one block each, or none; all of a piece is one frame's.

    What is malformed is given on as it is, a piece at a time: who decompresses says what is wrong with it.
    """
    buffer = _Buffer(data, source)
    while buffer.have(1):
        whole = buffer.have(8)
        if whole and buffer.data[0] & 0xF0 == 0x50 and buffer.data[1:4] == SKIPPABLE:
            yield from _skipped(buffer)
        elif whole and buffer.data[:4] == FRAME:
            yield from _frame(buffer)
        else:
            yield buffer.take(8)


def _skipped(buffer: _Buffer) -> Iterator[bytes]:
    """A frame of which only its length matters."""
    left = 8 + int.from_bytes(buffer.data[4:8], "little")
    while left and buffer.have(1):
        piece = buffer.take(min(left, 1 << 20))
        left -= len(piece)
        yield piece


def _frame(buffer: _Buffer) -> Iterator[bytes]:
    """A frame: its header, its blocks, its checksum."""
    described = buffer.data[4]
    alone, checked = described & 0x20, described & 4
    size = 5 + (0 if alone else 1) + (0, 1, 2, 4)[described & 3] + (1 if alone else 0, 2, 4, 8)[described >> 6]
    buffer.have(size)
    yield buffer.take(size)
    last = 0
    while not last and buffer.have(3):
        header = int.from_bytes(buffer.data[:3], "little")
        last, repeated = header & 1, header >> 1 & 3 == 1
        size = 3 + (1 if repeated else header >> 3)
        buffer.have(size)
        yield buffer.take(size)
    if checked and buffer.have(1):
        buffer.have(4)
        yield buffer.take(4)
