"""A build on a terminal: its steps with their times, the running ones with their last lines and their bytes.

[+] Building 3.1s (2/4)
 => [build 1/3] FROM debian:12                                0.4s
 => => 0123456789ab: Downloading ━━━━━━╸━━━━  12.1MB/30MB 9.8MB/s
 => [build 2/3] RUN make                                      2.7s
 => => # cc -c main.c
"""

from __future__ import annotations

from time import monotonic

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from veloci.cli.build_display import Display, again
from veloci.cli.output import visible
from veloci.cli.progress import label
from veloci.cli.progress_bars import Restored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self, TextIO

    from veloci.cli.build_display import Step
    from veloci.cli.progress import Going

TAIL = 6  # of a running step's last lines are shown
BAR = 20  # characters of a bar
_STYLES = {"done": "blue", "cached": "blue", "failed": "red", "running": ""}


class Screen(Display):
    """Draws the picture ten times a second; when the build ends the steps alone stay."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._console = Console(file=stream, highlight=False)
        self._began = monotonic()
        self._whole = False
        self._live = Live(console=self._console, get_renderable=self._picture, refresh_per_second=10)
        self._restored = Restored(stream)

    def __enter__(self) -> Self:
        self._restored.__enter__()
        try:
            self._live.start()
        except BaseException:  # interrupted with the cursor hidden
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._whole = True
        self._live.stop()
        self._restored.__exit__()
        for step in self.steps:
            if step.state == "failed":
                self._console.print(Text(again(step)), end="")

    def line(self, text: str) -> None:
        """Above the picture."""
        self._console.print(Text(visible(text)))

    def note(self, number: int, text: str) -> None:
        """As a line of the step."""
        with self.lock:
            self.steps[number - 1].kept.append(f"- {visible(text)}")

    def goes_on(self, step: Step, text: str) -> None:
        """Nothing: the picture shows the bytes while they move."""

    def _picture(self) -> Table:
        with self.lock:
            ended = sum(step.state != "running" for step in self.steps)
            heading = f"[+] Building {monotonic() - self._began:.1f}s ({ended}/{len(self.steps)})"
            rows = [(Text(heading), Text())]
            for step in self.steps:
                rows += self._rows(step)
        if not self._whole:
            room = max(self._console.size.height - 2, 2)
            rows = rows[:1] + rows[1:][-room + 1 :]
        grid = Table.grid(expand=True, padding=(0, 1, 0, 0))
        grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        grid.add_column(justify="right", no_wrap=True)
        for left, right in rows:
            grid.add_row(left, right)
        return grid

    def _rows(self, step: Step) -> list[tuple[Text, Text]]:
        running = step.state == "running"
        seconds = monotonic() - step.began if running else step.seconds
        mark = {"cached": "CACHED ", "failed": "ERROR "}.get(step.state, "")
        style = _STYLES[step.state]
        rows = [(Text(f" => {mark}{step.title}", style), Text(f"{seconds:.1f}s", style))]
        if running:
            rows += [(Text(f" => => {self._bar(key, going)}"), Text()) for key, going in step.moving.items()]
            rows += [(Text(f" => => # {line.partition(' ')[2]}", "dim"), Text()) for line in step.kept[-TAIL:]]
        return rows

    def _bar(self, key: str, going: Going) -> str:
        text, _, rest = going.now(monotonic()).partition(f"{going.text} ")
        bar = ""
        if going.total and self._console.size.width >= 80:
            full = min(BAR, BAR * going.count // going.total)
            bar = "━" * full + "╺" * (BAR - full) + " "
        return visible(f"{label(key)}: {going.text} {bar}{rest or text}")
