import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from veloci.cli.progress import Lines, progress

KEY = "sha256:0123456789abcdef" + "0" * 48


def test_off_a_terminal_there_are_lines_as_docker_prints_them():
    stream = io.StringIO()
    with progress(stream=stream) as report:
        report.start(KEY, "Pulling fs layer", 4_000_000)
        report.advance(KEY, 1_000_000)
        report.done(KEY, "Pull complete")
        report.done("sha256:ba" + "0" * 62, "Already exists")
    assert stream.getvalue() == (
        "0123456789ab: Pulling fs layer\n0123456789ab: Pull complete\nba0000000000: Already exists\n"
    )


def test_a_long_transfer_tells_now_and_then_where_it_is():
    stream = io.StringIO()
    report = Lines(stream, interval=0.0)
    report.start("layer", "Downloading", 4_000_000)
    report.advance("layer", 1_000_000)
    report.start("other", "Downloading")
    report.advance("other", 1_000)
    lines = [line.rpartition(" ")[0] for line in stream.getvalue().splitlines()]
    assert lines == ["layer:", "layer: Downloading 1MB/4MB", "other:", "other: Downloading 1kB"]
    assert all(line.endswith("B/s") for line in stream.getvalue().splitlines()[1::2])
    report = Lines(stream := io.StringIO())
    report.start("layer", "Downloading", 100)
    for _ in range(100):
        report.advance("layer", 1)
    assert stream.getvalue() == "layer: Downloading\n"


def test_quiet_says_nothing_and_what_was_not_started_is_no_matter(capsys):
    with progress(quiet=True) as report:
        report.start(KEY, "Pulling", 1)
        report.done(KEY, "Done")
    assert capsys.readouterr().out == ""
    Lines(io.StringIO()).advance("nope", 3)


def test_a_registry_cannot_write_to_the_screen_through_a_name():
    stream = io.StringIO()
    with progress(stream=stream) as report:
        report.done("a\x1b]0;x\x07\nb", "ok\r")
    assert stream.getvalue() == "a\\x1b]0;x\\x07; b: ok\\x0d\n"


def test_many_threads_write_whole_lines():
    stream = io.StringIO()
    report = Lines(stream, interval=0.0)

    def one(number):
        report.start(f"k{number}", "Downloading", 10)
        for _ in range(10):
            report.advance(f"k{number}", 1)
        report.done(f"k{number}", "Pull complete")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(40)))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 40 * 12
    assert sum(line.endswith(": Pull complete") for line in lines) == 40


BARS = f"""
from veloci.cli.progress import progress
with progress() as report:
    report.start({KEY!r}, "Downloading", 4_000_000)
    report.advance({KEY!r}, 1_000_000)
    report.start("b[red]\\x1b", "Waiting")
    report.start("b[red]\\x1b", "Extracting", 10)
    report.done("never started", "Already exists")
    report._display.refresh()
    report.done({KEY!r}, "Pull complete")
"""


def on_terminal(code, **environment):
    primary, secondary = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=secondary,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", **environment},
    )
    os.close(secondary)
    text = b""
    try:
        while chunk := os.read(primary, 65536):
            text += chunk
    except OSError:  # the other end is closed
        pass
    os.close(primary)
    assert process.wait() == 0
    return text.decode()


def test_a_terminal_shows_a_bar_with_bytes_and_rate():
    text = on_terminal(BARS)
    assert "0123456789ab: Downloading" in text
    assert "1.0/4.0 MB" in text
    assert "━" in text
    assert "b[red]\\x1b: Extracting" in text
    assert "never started: Already exists" in text
    assert "0123456789ab: Pull complete" in text
    assert "\x1b[?25h" in text  # the cursor is there again


@pytest.mark.parametrize("terminal", ["dumb", "unknown"])
def test_a_terminal_that_cannot_move_its_cursor_gets_lines(terminal):
    text = on_terminal(BARS.replace("report._display.refresh()", ""), TERM=terminal)
    assert text.splitlines()[0] == "0123456789ab: Downloading"
    assert "\x1b" not in text


def test_rich_is_imported_for_a_terminal_only():
    code = "import sys; from veloci.cli.progress import progress; progress(); print('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "False\n"
