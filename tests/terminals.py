"""A real pty with a command on it, and what a person would see there."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
import unicodedata

_PART = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|.", re.DOTALL)


class Seen:
    """What a terminal of so many columns shows, after all the bytes it got."""

    def __init__(self, text, columns):
        self.text, self.columns = text, columns
        self.lines, self.row, self.column = [""], 0, 0
        self.cursor = True
        self.wrapped = []  # lines that were longer than the terminal is wide
        self.ever = set()  # every line that stood there at some time
        for part in _PART.findall(text):
            self._do(part)
        self._note()

    def _note(self):
        self.ever.add(self.lines[self.row].rstrip())

    def _do(self, part):
        if part.startswith("\x1b["):
            self._escape(part)
        elif part == "\r":
            self._note()
            self.column = 0
        elif part == "\n":
            self._note()
            self._down()
        elif part.isprintable() and not unicodedata.combining(part):
            if self.column == self.columns:
                self.wrapped.append(self.lines[self.row])
                self._down()
                self.column = 0
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + part + line[self.column + 1 :]
            self.column += 1

    def _down(self):
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append("")

    def _escape(self, part):
        number = int(part[2:-1]) if part[2:-1].isdigit() else 1
        if part in ("\x1b[?25l", "\x1b[?25h"):
            self.cursor = part.endswith("h")
        elif part[-1] == "A":
            self.row = max(0, self.row - number)
        elif part == "\x1b[2K":
            self._note()
            self.lines[self.row] = ""


def on_terminal(command, *, columns=100, rows=30, interrupt=None, number=signal.SIGINT, group=True, **environment):
    """Run `command` with a pty for all three streams. Gives what was seen, the exit status, whether its modes lasted.

    interrupt: a text; when it has been seen, the signal `number` comes, as from Ctrl-C: to the whole group.
    """
    primary, secondary = pty.openpty()
    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    before = termios.tcgetattr(secondary)
    settings = {**os.environ, "TERM": "xterm-256color", **environment}
    settings.pop("COLUMNS", None)
    process = subprocess.Popen(
        command, stdin=secondary, stdout=secondary, stderr=secondary, env=settings, start_new_session=True
    )
    raw, done = bytearray(), threading.Event()

    def read():
        while True:
            try:
                chunk = os.read(primary, 65536)
            except OSError:
                break
            if not chunk:
                break
            raw.extend(chunk)
        done.set()

    thread = threading.Thread(target=read)
    thread.start()
    try:
        if interrupt:
            limit = time.monotonic() + 40
            while interrupt.encode() not in raw:
                assert process.poll() is None, raw.decode(errors="replace")
                assert time.monotonic() < limit, raw.decode(errors="replace")
                time.sleep(0.02)
            (os.killpg if group else os.kill)(process.pid, number)
        status = process.wait(60)
    finally:
        process.kill()
        process.wait()
        after = termios.tcgetattr(secondary)
        os.close(secondary)
        done.wait(5)
        thread.join(5)
        os.close(primary)
    return Seen(raw.decode(errors="replace"), columns), status, after == before
