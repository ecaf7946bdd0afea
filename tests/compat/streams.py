"""The streams of a container as Kubernetes has them: channels of a WebSocket, v4.channel.k8s.io.

One frame a message, its first byte the channel. The protocol has no end of standard input; a terminal has Ctrl-D.
"""

import base64
import json
import os
import socket
from urllib.parse import urlsplit

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10  # opcodes: RFC 6455, 5.2


class Streams:
    """A connection to the streaming server at `url`, which an Exec or an Attach has answered."""

    def __init__(self, url, seconds=20):
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=seconds)
        key = base64.b64encode(os.urandom(16)).decode()
        head = [f"GET {parts.path} HTTP/1.1", f"Host: {parts.netloc}", "Upgrade: websocket", "Connection: Upgrade"]
        head += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: v4.channel.k8s.io"]
        head += [f"Origin: http://{parts.netloc}", "", ""]
        self.socket.sendall("\r\n".join(head).encode())
        self.file = self.socket.makefile("rb")
        self.answer = self.file.readline().decode().strip()
        while self.file.readline() not in (b"\r\n", b""):
            pass
        assert " 101 " in self.answer, self.answer
        self.seen = {STDOUT: b"", STDERR: b"", ERROR: b""}
        self.over = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def send(self, channel, data):
        """Send bytes on a channel; what a client sends is masked."""
        self._frame(_BINARY, bytes([channel]) + data)

    def resize(self, columns, rows):
        self.send(RESIZE, json.dumps({"Width": columns, "Height": rows}).encode())

    def _frame(self, opcode, data):
        size = bytes([128 | len(data)]) if len(data) < 126 else bytes([254]) + len(data).to_bytes(2, "big")
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
        self.socket.sendall(bytes([128 | opcode]) + size + mask + masked)

    def _receive(self):
        """Take one message; a message here is never in more than one frame."""
        head = self.file.read(2)
        if len(head) < 2:
            self.over = True
            return
        size = head[1] & 127
        if size > 125:
            size = int.from_bytes(self.file.read(2 if size == 126 else 8), "big")
        opcode, data = head[0] & 15, self.file.read(size)
        if opcode == _CLOSE:
            self.over = True
        elif opcode == _PING:
            self._frame(_PONG, data)
        elif data:
            self.seen[data[0]] = self.seen.get(data[0], b"") + data[1:]

    def until(self, text, channel=STDOUT):
        """Wait until `text` has come; gives what came before and forgets both."""
        while text not in self.seen[channel]:
            assert not self.over, self.seen
            try:
                self._receive()
            except TimeoutError:
                raise AssertionError(f"no {text!r} in {self.seen}") from None
        before, _, self.seen[channel] = self.seen[channel].partition(text)
        return before

    def end(self):
        """Wait for the end. Gives standard output, standard error and the exit status."""
        while not self.over:
            self._receive()
        status = json.loads(self.seen[ERROR])
        if status["status"] == "Success":
            return self.seen[STDOUT], self.seen[STDERR], 0
        causes = status.get("details", {}).get("causes", [])
        code = next((int(cause["message"]) for cause in causes if cause["reason"] == "ExitCode"), None)
        assert code is not None, status
        return self.seen[STDOUT], self.seen[STDERR], code
