"""Detach keys: what a user types to leave a container alone (docker's --detach-keys)."""

from __future__ import annotations

from veloci.errors import InvalidInput

DEFAULT = "ctrl-p,ctrl-q"


def parse(text: str) -> bytes:
    """`ctrl-p,ctrl-q` or `a,ctrl-@` as the bytes a terminal gives; "" is none. Raises InvalidInput."""
    found = b""
    for word in text.split(",") if text else ():
        key = word.removeprefix("ctrl-")
        value = ord(key) if len(key) == 1 and key.isascii() else -1
        if word != key:
            value = value & 0x1F if key.isalpha() or key in tuple("@[\\]^_") else -1
        if value < 0:
            raise InvalidInput(
                f"unknown key {word!r}",
                where="--detach-keys",
                hint="keys with commas between, as in ctrl-p,ctrl-q",
            )
        found += bytes((value,))
    return found


class Watch:
    """Looks for the keys in what is typed, and holds back what may be their beginning."""

    def __init__(self, keys: bytes) -> None:
        """keys: as `parse` gives them; b"" is never found."""
        self._keys = keys
        self._held = b""
        self.found = False  # all of them were typed

    def typed(self, data: bytes) -> bytes:
        """What of it, and of what was held back, is the container's."""
        if not self._keys:
            return data
        data, self._held = self._held + data, b""
        if self._keys in data:
            self.found = True
            return data.partition(self._keys)[0]
        for size in range(min(len(self._keys) - 1, len(data)), 0, -1):
            if data.endswith(self._keys[:size]):
                self._held = data[-size:]
                return data[:-size]
        return data
