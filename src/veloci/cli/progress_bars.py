"""Progress on a terminal: rich's bars. Takes what `cli.progress` describes, draws on the terminal."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, ProgressColumn, TaskID, TextColumn, TransferSpeedColumn
from rich.progress import Progress as Display
from rich.table import Column
from rich.text import Text

from veloci.cli.output import visible
from veloci.cli.progress import Progress, label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, Self, TextIO

WIDE, MIDDLE = 90, 50  # columns of a terminal that has room for the bar; for the rate


class Restored:
    """`with` it the cursor is shown again when a signal ends the process or interrupts it.

    In the main thread, else it does nothing.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        usual = {
            signal.SIGTERM: signal.SIG_DFL,
            signal.SIGHUP: signal.SIG_DFL,
            signal.SIGINT: signal.default_int_handler,
        }
        for number, handler in usual.items():
            if signal.getsignal(number) is handler:
                with suppress(ValueError):  # not the main thread
                    signal.signal(number, self._end)
                    self._before[number] = handler

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _end(self, number: int, _frame: FrameType | None) -> None:
        os.write(self._stream.fileno(), b"\x1b[?25h\r\n")
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


class Bars(Progress):
    """A bar for each thing on its way; a line that stays for each that is done."""

    def __init__(self, stream: TextIO) -> None:
        console = Console(file=stream, highlight=False)
        self._display = Display(
            *_columns(console.size.width),
            console=console,
            transient=True,  # an interrupted transfer leaves no half a bar behind
        )
        self._restored = Restored(stream)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._restored.__enter__()
        try:
            self._display.start()
        except BaseException:  # interrupted with the cursor hidden
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._display.stop()
        self._restored.__exit__()

    def start(self, key: str, text: str, total: int | None = None) -> None:
        """Draw a bar; without a total it swings."""
        description = visible(f"{label(key)}: {text}")
        task = self._tasks.get(key)
        if task is None:
            self._tasks[key] = self._display.add_task(description, total=total)
        else:
            self._display.reset(task, description=description, total=total)

    def advance(self, key: str, count: int) -> None:
        """Move the bar."""
        task = self._tasks.get(key)
        if task is not None:
            self._display.advance(task, count)

    def done(self, key: str, text: str) -> None:
        """Put a line in the bar's place."""
        task = self._tasks.pop(key, None)
        if task is not None:
            self._display.remove_task(task)
        self._display.console.print(Text(visible(f"{label(key)}: {text}")))


def _columns(width: int) -> list[ProgressColumn]:
    """What a line of a terminal so wide has room for; each line stays one line."""
    text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    columns: list[ProgressColumn] = [text]
    if width >= WIDE:
        columns.append(BarColumn(bar_width=30))
    columns.append(DownloadColumn(table_column=Column(no_wrap=True, min_width=11)))
    if width >= MIDDLE:
        columns.append(TransferSpeedColumn(table_column=Column(no_wrap=True)))
    return columns
