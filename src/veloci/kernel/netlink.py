"""Netlink: messages as bytes, and a socket that asks the kernel and hears its own words — netlink(7).

    with Netlink() as net:
        net.talk((RTM_DELLINK, 0, head + text(IFLA_IFNAME, "veth0")))

Used for rtnetlink here and in `veloci.network`, and for nftables by `veloci.kernel.nft`. The C
module `_socket` is enough and costs half a millisecond; `socket` imports enum and
selectors, which cost eight. The tests hold it against pyroute2 and `ip`.
"""

from __future__ import annotations

import os
import sys
from _socket import AF_INET, AF_INET6, AF_NETLINK, SOCK_RAW, inet_ntop, inet_pton, socket
from errno import EBADMSG
from struct import Struct, pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    Request = tuple[int, int, bytes]  # message type, NLM_F_* flags, payload

ROUTE, NETFILTER = 0, 12  # protocols of AF_NETLINK
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x1, 0x4, 0x10, 0x300
NLM_F_ACK_TLVS, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x200, 0x200, 0x400, 0x800
_ERROR, _DONE = 2, 3
_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _STRICT_CHECK = 270, 10, 11, 12
_ERROR_TEXT = 1  # NLMSGERR_ATTR_MSG
_RECEIVE = 1 << 16  # bytes; the kernel's dumps come in pieces of 32 KiB at most

_header = Struct("=IHHII")  # length, type, flags, sequence, port
_attribute = Struct("=HH")  # length with this header, type
_NESTED, _TYPE_MASK = 0x8000, 0x3FFF


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _attribute.pack(4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def text(kind: int, value: str) -> bytes:
    """An attribute that holds a string with its NUL."""
    return attribute(kind, value.encode() + b"\0")


def u32(kind: int, value: int) -> bytes:
    """An attribute that holds a 32-bit number in the host's byte order."""
    return attribute(kind, pack("=I", value))


def be32(kind: int, value: int) -> bytes:
    """An attribute that holds a 32-bit number in network byte order, as netfilter wants them."""
    return attribute(kind, pack(">i" if value < 0 else ">I", value))


def nested(kind: int, *values: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind | _NESTED, b"".join(values))


def attributes(data: bytes, start: int = 0) -> dict[int, bytes]:
    """The attributes in `data` from `start` on, by type; the last of a type wins. Stops at a damaged one."""
    return dict(each_attribute(data, start))


def each_attribute(data: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """The attributes in `data` from `start` on, in order, as (type, value)."""
    while start + 4 <= len(data):
        size, kind = _attribute.unpack_from(data, start)
        if size < 4 or start + size > len(data):
            return
        yield kind & _TYPE_MASK, data[start + 4 : start + size]
        start += (size + 3) & ~3


def number(value: bytes) -> int:
    """A number in the host's byte order."""
    return int.from_bytes(value, sys.byteorder)


def string(value: bytes) -> str:
    """A string without its NUL; bytes that are not UTF-8 are kept, as in file names."""
    return os.fsdecode(value.rstrip(b"\0"))


def packed(address: str) -> bytes:
    """An IPv4 or IPv6 address as 4 or 16 bytes. Raises OSError when it is neither."""
    return inet_pton(AF_INET6 if ":" in address else AF_INET, address)


def unpacked(address: bytes) -> str:
    """4 or 16 bytes as an address in its canonical spelling."""
    return inet_ntop(AF_INET if len(address) == 4 else AF_INET6, address)


class Netlink:
    """A netlink socket of the network namespace that the calling thread is in when it is made.

    It stays in that namespace, wherever the thread goes. A context manager; closing it is closing
    the socket. Raises OSError.
    """

    def __init__(self, protocol: int = ROUTE) -> None:
        self._socket = socket(AF_NETLINK, SOCK_RAW, protocol)  # close-on-exec, as all of Python's
        self._sequence = 0
        for option in (_CAP_ACK, _EXT_ACK, _STRICT_CHECK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._socket.bind((0, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_cause: object) -> None:
        self._socket.close()

    def talk(self, *requests: Request) -> list[bytes]:
        """Send `requests`, a hundred at most, in one datagram; the kernel does them in order, also after a failure.

        Returns the payloads of what it answered beside acknowledgements. Raises the first failure
        as OSError, with the kernel's own explanation as its text when there is one; its attribute
        `request` is the failed request's index.
        """
        first = self._sequence + 1
        data = b"".join(self._message(kind, flags | NLM_F_ACK, payload) for kind, flags, payload in requests)
        self._send(data)
        waiting = set(range(first, self._sequence + 1))
        failure: OSError | None = None
        answers = []
        while waiting:
            for kind, flags, sequence, payload in self._receive():
                if kind != _ERROR:
                    answers.append(payload)
                    continue
                waiting.discard(sequence)
                error = _failure(flags, payload)
                if error and failure is None:
                    failure = error
                    failure.request = sequence - first  # type: ignore[attr-defined]
        if failure:
            raise failure
        return answers

    def dump(self, kind: int, payload: bytes) -> list[bytes]:
        """The payloads of all objects that a dump request lists. Raises OSError."""
        while True:
            found, whole = self._dump(kind, payload)
            if whole:
                return found

    def _dump(self, kind: int, payload: bytes) -> tuple[list[bytes], bool]:
        """A dump, and whether nothing changed while it was made."""
        self._send(self._message(kind, NLM_F_DUMP, payload))
        found: list[bytes] = []
        whole = True
        while True:
            for answer, flags, sequence, body in self._receive():
                if sequence != self._sequence:
                    continue
                whole = whole and not flags & NLM_F_DUMP_INTR
                if answer == _DONE:
                    return found, whole
                if answer == _ERROR:
                    if error := _failure(flags, body):
                        raise error
                    continue
                found.append(body)

    def transact(self, begin: Request, requests: list[Request], end: Request) -> None:
        """Send `requests` between `begin` and `end`, all or nothing (nfnetlink's batches). Raises OSError.

        The error's attribute `request` is the failed request's index.
        """
        first = self._sequence + 2
        data = [self._message(*begin)]
        for index, (kind, flags, payload) in enumerate(requests):
            data.append(self._message(kind, flags | (NLM_F_ACK if index == len(requests) - 1 else 0), payload))
        last = self._sequence
        data.append(self._message(*end))
        self._send(b"".join(data))
        while True:
            for kind, flags, sequence, payload in self._receive():
                if kind != _ERROR:
                    continue
                if error := _failure(flags, payload):
                    error.request = sequence - first  # type: ignore[attr-defined]
                    raise error
                if sequence == last:
                    return

    def _message(self, kind: int, flags: int, payload: bytes) -> bytes:
        self._sequence += 1
        head = _header.pack(16 + len(payload), kind, flags | NLM_F_REQUEST, self._sequence, 0)
        return head + payload + b"\0" * (-len(payload) % 4)

    def _send(self, data: bytes) -> None:
        self._socket.send(data)  # Python itself tries again after EINTR

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        data = self._socket.recv(_RECEIVE)
        start = 0
        while start + 16 <= len(data):
            size, kind, flags, sequence, _port = _header.unpack_from(data, start)
            if size < 16:
                raise OSError(EBADMSG, "netlink: a message without a length")
            yield kind, flags, sequence, data[start + 16 : start + size]
            start += (size + 3) & ~3


def _failure(flags: int, payload: bytes) -> OSError | None:
    """What an NLMSG_ERROR says, None for success. Its own words, if there are any, follow the echoed header."""
    code = -int.from_bytes(payload[:4], sys.byteorder, signed=True)
    if not code:
        return None
    words = ""
    if flags & NLM_F_ACK_TLVS:
        words = string(attributes(payload, 20).get(_ERROR_TEXT, b""))
    return OSError(code, words.rstrip(".") or os.strerror(code))
