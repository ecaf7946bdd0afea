"""Seccomp notification: the descriptor of a filter that asks goes to who answers, at linux.seccomp.listenerPath.

https://github.com/opencontainers/runtime-spec/blob/v1.2.1/config-linux.md#containerprocessstate
"""

from __future__ import annotations

import os

from veloci.errors import HostError
from veloci.kernel.process import pidfd, pidfd_descriptor
from veloci.spec.document import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from veloci.spec.runtime import Seccomp

_AT = "config.json: $.linux.seccomp.listenerPath"
_KIND = "anon_inode:seccomp notify"


def hand_over(pid: int, seccomp: Seccomp, state: dict[str, Any]) -> None:
    """Send the listener that process `pid` has open, with the container's state. Raises HostError.

    It is taken out of the process, which under its own filter may not be able to send it.
    """
    message = {"ociVersion": state["ociVersion"], "fds": ["seccompFd"], "pid": pid}
    message |= {"metadata": seccomp.listener_metadata} if seccomp.listener_metadata else {}
    try:
        listener = _taken(pid)
        try:
            _send(seccomp.listener_path, dumps({**message, "state": state}), listener)
        finally:
            os.close(listener)
    except OSError as error:
        raise HostError(f"failed to connect with seccomp agent {seccomp.listener_path}", error, where=_AT) from error


def _taken(pid: int) -> int:
    """A copy of the process's descriptor of its filter."""
    process = pidfd(pid)
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            if os.readlink(f"/proc/{pid}/fd/{name}") == _KIND:
                return pidfd_descriptor(process, int(name))
    finally:
        os.close(process)
    raise OSError(2, "the process has none")  # ENOENT


def _send(path: str, message: bytes, descriptor: int) -> None:
    from _socket import AF_UNIX, SCM_RIGHTS, SOCK_STREAM, SOL_SOCKET, socket
    from struct import pack

    connection = socket(AF_UNIX, SOCK_STREAM)
    try:
        connection.connect(path)
        sent = connection.sendmsg([message], [(SOL_SOCKET, SCM_RIGHTS, pack("i", descriptor))])
        if sent < len(message):
            connection.sendall(message[sent:])
    finally:
        connection.close()
