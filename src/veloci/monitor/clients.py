"""A monitor's clients: those that were told of its socket, what they say, what they still have to hear."""

from __future__ import annotations

from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT

from veloci.monitor import session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from select import epoll

    from veloci.monitor.session import Client


MOST = 256  # at a time, so that descriptors are left


class Clients:
    """The connections on `poll`, and the socket that new ones come to."""

    def __init__(self, poll: epoll, directory: str) -> None:
        """directory: the container's run directory, in which the socket is made."""
        self._poll = poll
        self._known: dict[int, Client] = {}
        self._server = session.listen(directory)
        poll.register(self._server, EPOLLIN)

    def __contains__(self, descriptor: int) -> bool:
        return descriptor in self._known or descriptor == self._server.fileno()

    @property
    def behind(self) -> bool:
        """Whether one of them does not read as fast as the container writes."""
        return any(client.size > session.PENDING for client in self._known.values())

    def welcome(self, connection: socket, *, output: bool = False) -> None:
        """Take a connection in. output: it hears what the container writes, from now on."""
        self._known[connection.fileno()] = session.Client(connection, output=output)
        self._poll.register(connection, EPOLLIN)

    def serve(self, descriptor: int, events: int) -> tuple[Client, bytes] | None:
        """What the client at `descriptor` says; b"" when it has gone. None: nothing to obey."""
        if descriptor == self._server.fileno():
            connection = session.accept(self._server)
            if connection is not None and len(self._known) < MOST:
                self.welcome(connection)
            elif connection is not None:
                connection.close()
            return None
        client = self._known[descriptor]
        if events & EPOLLOUT:
            if not client.flush():
                return client, self._part(descriptor)
            if not client.queue:
                self._poll.modify(descriptor, EPOLLIN)
        if not events & (EPOLLIN | EPOLLHUP | EPOLLERR):
            return None
        try:
            message = client.socket.recv(session.CHUNK + 1)
        except BlockingIOError:
            return None
        except OSError:
            message = b""
        return client, message or self._part(descriptor)

    def send(self, client: Client, message: bytes) -> None:
        """Tell one of them; one that has gone is no error."""
        descriptor = client.socket.fileno()
        if descriptor not in self._known:
            return
        client.send(message)  # one that has gone is noticed when it is read from
        if client.queue:
            self._poll.modify(descriptor, EPOLLIN | EPOLLOUT)

    def tell(self, message: bytes) -> None:
        """Tell what the container wrote to those who asked for it."""
        for client in list(self._known.values()):
            if client.output:
                self.send(client, message)

    def finish(self, message: bytes) -> None:
        """Send the last message to all of them, and close."""
        for descriptor, client in self._known.items():
            self._poll.unregister(descriptor)
            client.finish(message)
        self._known.clear()

    def close(self) -> None:
        """Let nobody come any more."""
        self._poll.unregister(self._server)
        self._server.close()

    def _part(self, descriptor: int) -> bytes:
        self._poll.unregister(descriptor)
        self._known.pop(descriptor).socket.close()
        return b""
