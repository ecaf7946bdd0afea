"""Requests that were not answered, or not to the end: what became of the connection."""

from __future__ import annotations


class Failure(Exception):
    """A request without a whole answer; the text says why, in small letters."""


class Cut(Failure):
    """The connection ended too early, or what came is no HTTP: another try may help."""


class Silent(Failure):
    """Nothing came, or too little, for too long: another try may help."""


class Gone(Failure):
    """Nobody is there to connect to."""


class ByProxy(Failure):
    """The proxy is not there, or does not lead on."""


class Untrusted(Failure):
    """TLS did not come about, or ended. plain: as it does where plain HTTP is spoken; not for a certificate's sake."""

    def __init__(self, reason: str, *, plain: bool = False) -> None:
        super().__init__(reason)
        self.plain = plain


def text(error: OSError) -> str:
    """What a system's error says, in small letters."""
    return (error.strerror or str(error)).lower()
