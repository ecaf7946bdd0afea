"""A program on a terminal of its own, driven by a test as a user would: what is typed, what is seen."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time


class Terminal:
    """Runs `command` as the foreground of a new terminal, for the length of a block."""

    def __init__(self, command, *, rows=24, columns=80):
        self.command = [str(word) for word in command]
        self.seen = ""
        self._ours, self._theirs = pty.openpty()
        self._size(rows, columns)
        self.mode_before = self.mode()

    def __enter__(self):
        self.process = subprocess.Popen(
            ["setsid", "-c", *self.command], stdin=self._theirs, stdout=self._theirs, stderr=self._theirs
        )
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)

    def _size(self, rows, columns):
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def mode(self):
        """The terminal's mode, as tcgetattr gives it."""
        return termios.tcgetattr(self._theirs)

    def resize(self, rows, columns):
        self._size(rows, columns)
        os.kill(self.process.pid, signal.SIGWINCH)

    def type(self, text):
        os.write(self._ours, text.encode())

    def sees(self, text, timeout=8):
        """Wait until `text` is shown; returns what was shown before it and forgets both."""
        end = time.monotonic() + timeout
        while text not in self.seen:
            left = end - time.monotonic()
            assert left > 0, f"{text!r} was not shown, but {self.seen!r}"
            self._read(left)
        before, _, self.seen = self.seen.partition(text)
        return before

    def ends(self, timeout=8):
        """Wait for the end of the program; gives its exit status, as waitpid does, and all it showed meanwhile."""
        end = time.monotonic() + timeout
        while self.process.poll() is None:
            assert time.monotonic() < end, f"it goes on: {self.seen!r}"
            self._read(0.05)
        while self._read(0):
            pass
        return self.process.returncode, self.seen

    def _read(self, timeout):
        if not select.select([self._ours], [], [], timeout)[0]:
            return False
        self.seen += os.read(self._ours, 65536).decode(errors="replace")
        return True
