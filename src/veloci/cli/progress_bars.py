"""Progress on a terminal: rich's bars. Takes what `cli.progress` describes, draws on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TransferSpeedColumn
from rich.progress import Progress as Display
from rich.text import Text

from veloci.cli.output import visible
from veloci.cli.progress import Progress, label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self, TextIO


class Bars(Progress):
    """A bar for each thing on its way; a line that stays for each that is done."""

    def __init__(self, stream: TextIO) -> None:
        self._display = Display(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=Console(file=stream, highlight=False),
            transient=True,  # an interrupted transfer leaves no half a bar behind
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._display.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._display.stop()

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
