"""RUN --mount=type=ssh: sockets of ours that pass on to the user's SSH agents.

The user's own socket is never in a container: ours has the owner and mode that the step asks for, and
it is gone with the step.
"""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager, suppress
from threading import Thread

from veloci.errors import InvalidInput, NotFound, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

_CHUNK = 1 << 16  # bytes


class Agents:
    """The agents that `--ssh` names, by id."""

    def __init__(self, sockets: Mapping[str, str]) -> None:
        self._sockets = sockets

    def listening(self, identity: str, path: str) -> AbstractContextManager[None] | None:
        """A socket at `path` as long as a block lasts; None if no agent has that id."""
        target = self._sockets.get(identity)
        return None if target is None else _relayed(path, target)


def agents(given: Sequence[str]) -> dict[str, str]:
    """Sockets by id, from `--ssh default|ID[=SOCKET]`. Raises InvalidInput, NotFound, Unsupported for a key file."""
    import stat

    found: dict[str, str] = {}
    for text in given:
        identity, _, path = text.partition("=")
        path = path or os.environ.get("SSH_AUTH_SOCK", "")
        if not identity:
            raise InvalidInput(f"{text!r} has no id", where="--ssh", hint="default, or ID=SOCKET")
        if not path:
            raise NotFound("no SSH agent: SSH_AUTH_SOCK is not set", where="--ssh", hint="eval $(ssh-agent); ssh-add")
        try:
            mode = os.stat(path).st_mode
        except OSError as error:
            raise NotFound(f"{path}: {error.strerror}", where="--ssh") from None
        if not stat.S_ISSOCK(mode):
            raise Unsupported(f"{path} is no agent's socket", where="--ssh", hint="add the key to an agent: ssh-add")
        found[identity] = path
    return found


@contextmanager
def _relayed(path: str, target: str) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as listener:
        directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:  # a socket's address has 107 bytes at most
            listener.bind(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
        finally:
            os.close(directory)
        listener.listen(16)
        thread = Thread(target=_accept, args=(listener, target), daemon=True)
        thread.start()
        try:
            yield
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
            thread.join()
            os.unlink(path)


def _accept(listener: socket.socket, target: str) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        Thread(target=_serve, args=(client, target), daemon=True).start()


def _serve(client: socket.socket, target: str) -> None:
    """Both ways until both have ended; an agent that is gone ends the client."""
    with client, socket.socket(socket.AF_UNIX) as agent, suppress(OSError):
        agent.connect(target)
        back = Thread(target=_copy, args=(agent, client), daemon=True)
        back.start()
        _copy(client, agent)
        back.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_CHUNK):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
