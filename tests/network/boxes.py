"""Namespaces to test networks with: an empty container's, with servers and clients in it."""

import contextlib
import os
import signal
import socket
import subprocess
import threading

from veloci.kernel.process import CLONE_NEWNET, unshare
from veloci.network.namespace import Inside


def sh(command, *, check=True):
    """A shell command's output, in the namespace that the test is in."""
    done = subprocess.run(command, shell=True, check=False, capture_output=True, text=True, timeout=20)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


class Box:
    """A process in a new network namespace, as an empty container has."""

    def __init__(self):
        ready, told = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                unshare(CLONE_NEWNET)
                os.write(told, b"!")
                signal.pause()
            finally:
                os._exit(0)
        os.close(told)
        assert os.read(ready, 1) == b"!"
        os.close(ready)
        self.netns = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
        self._sockets = []

    def sh(self, command, *, check=True):
        with Inside(self.netns):
            return sh(command, check=check)

    def serve(self, port, *, address="0.0.0.0", kind=socket.SOCK_STREAM):
        """Answer every connection with the address that it comes from."""
        with Inside(self.netns):
            listening = socket.socket(socket.AF_INET, kind)
            listening.bind((address, port))
        self._sockets.append(listening)
        if kind == socket.SOCK_STREAM:
            listening.listen()
        threading.Thread(target=_serve, args=(listening, kind), daemon=True).start()

    def ask(self, address, port, *, kind=socket.SOCK_STREAM):
        """Who a server says that we are; "" if it cannot be reached."""
        with Inside(self.netns):
            return ask(address, port, kind=kind)

    def end(self):
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        os.close(self.netns)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def ask(address, port, *, kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as client:
        client.settimeout(0.7)
        try:
            client.connect((address, port))
            client.send(b"?")
            return client.recv(100).decode()
        except OSError:
            return ""


def _serve(listening, kind):
    with contextlib.suppress(OSError):
        while True:
            if kind == socket.SOCK_DGRAM:
                _, peer = listening.recvfrom(100)
                if not peer:  # it was shut down
                    return
                listening.sendto(peer[0].encode(), peer)
            else:
                connection, peer = listening.accept()
                connection.send(peer[0].encode())
                connection.close()
