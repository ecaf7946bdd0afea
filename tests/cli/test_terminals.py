"""pull, push, build and copy on a real terminal, wide and narrow, to the end and interrupted."""

import os
import shutil
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
from peers import Built, Serving, tar, veloci
from terminals import on_terminal

PROGRAM = [sys.executable, "-m", "veloci"]
SIZE = 2_000_000


class Slow:
    """A TCP relay to `target` that lets about `rate` bytes a second pass, each way. Gives its address."""

    def __init__(self, target, rate=2_500_000):
        self.target, self.rate = target, rate

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()
        return f"127.0.0.1:{self.listener.getsockname()[1]}"

    def __exit__(self, *_):
        self.listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            host, port = self.target.split(":")
            server = socket.create_connection((host, int(port)))
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._relay, args=pair, daemon=True).start()

    def _relay(self, source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
                time.sleep(len(data) / self.rate)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        finally:
            source.close()


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A registry with big:v0, a slow way to it, and one that nothing gets through before it is interrupted."""
    base = tmp_path_factory.mktemp("terminals")
    served = Serving(base / "registry")
    with served as (address, _process), Slow(address) as slow, Slow(address, 5_000) as crawling:
        layers = [tar({"busybox": Path("/bin/busybox").read_bytes()}), tar({"big": os.urandom(SIZE)})]
        Built(base / "layout", layers)
        environment = {**os.environ, "VELOCI_ROOT": str(base / "data"), "VELOCI_RUN": str(base / "run")}
        veloci("copy", "-q", f"oci:{base}/layout:v0", f"docker://{address}/big:v0", env=environment)
        yield address, slow, crawling


def command(verb, registry, roots, *, ends=True):
    """A `verb` that moves the big layer over the slow way, or the one on which it does not come to its end."""
    fast, slow = registry[0], registry[1 if ends else 2]
    if verb == "pull":
        return [*PROGRAM, "pull", f"{slow}/big:v0"]
    if verb == "push":
        veloci("pull", "-q", f"{fast}/big:v0")
        veloci("tag", f"{fast}/big:v0", f"{slow}/{roots.name}:v0")
        return [*PROGRAM, "push", f"{slow}/{roots.name}:v0"]
    if verb == "copy":
        return [*PROGRAM, "copy", f"docker://{slow}/big:v0", f"oci:{roots}/copied:v0"]
    (roots / "context").mkdir()
    text = f'FROM {slow}/big:v0\nRUN ["/busybox", "sh", "-c", "echo working; /busybox sleep 1"]\n'
    (roots / "context/Dockerfile").write_text(text)
    return [*PROGRAM, "build", "--network=none", "-t", "done:1", str(roots / "context")]


@pytest.fixture(params=["pull", "push", "copy", pytest.param("build", marks=pytest.mark.needs("root", "overlay"))])
def verb(request):
    return request.param


@pytest.mark.parametrize("columns", [100, 34])
def test_bytes_and_rates_are_shown_on_one_line_each(verb, columns, registry, roots):
    seen, status, whole = on_terminal(command(verb, registry, roots), columns=columns)
    assert status == 0, seen.text
    assert seen.cursor
    assert whole
    assert verb != "build" or seen.wrapped == []  # the others' last lines name the image, however long
    assert not [line for line in seen.wrapped if "/2" in line or "━" in line]
    moving = [line for line in seen.ever if "MB/2" in line or "/2.0" in line]
    if columns == 100:
        assert [line for line in moving if "━" in line or "╺" in line], sorted(seen.ever)
        assert [line for line in moving if "B/s" in line]
    elif verb != "build":  # whose lines end in an ellipsis
        assert moving, sorted(seen.ever)


def test_the_terminal_is_as_before_after_an_interrupt(verb, registry, roots):
    started = "big:v0" if verb == "build" else "\x1b[?25l"
    seen, status, whole = on_terminal(command(verb, registry, roots, ends=False), interrupt=started)
    assert status == 130, seen.text
    assert seen.cursor
    assert whole
    assert "Traceback" not in seen.text


def test_the_cursor_is_there_again_when_the_command_is_ended(verb, registry, roots):
    seen, status, _ = on_terminal(
        command(verb, registry, roots, ends=False), interrupt="\x1b[?25l", number=signal.SIGTERM
    )
    assert status == -signal.SIGTERM, seen.text
    assert seen.cursor


@pytest.fixture
def context(roots):
    directory = roots / "context"
    directory.mkdir()
    shutil.copy(shutil.which("busybox"), directory / "busybox")
    return directory


def build(context, text, *words):
    (context / "Dockerfile").write_text(text)
    return [*PROGRAM, "build", "--network=none", *words, str(context)]


LOUD = 'FROM scratch\nCOPY busybox /\nRUN ["/busybox", "sh", "-c", "for i in $(/busybox seq 30); do echo line $i; /busybox sleep 0.02; done; %s"]\n'


@pytest.mark.needs("root", "overlay")
def test_a_step_shows_its_last_lines_while_it_runs_and_its_time_after(context):
    seen, status, _ = on_terminal(build(context, LOUD % "true"), rows=12)
    assert status == 0, seen.text
    assert " => => # line 7" in seen.ever
    assert not [line for line in seen.lines if "# line" in line]
    left = [line.rstrip() for line in seen.lines if line.strip()]
    assert left[0].startswith("[+] Building ")
    assert left[0].endswith("s (3/3)")
    assert left[2].startswith(" => [stage-0 3/3] RUN [")
    assert left[2].endswith("s")
    again, _, _ = on_terminal(build(context, LOUD % "true"))
    assert sum(" => CACHED [" in line for line in again.lines) == 2


@pytest.mark.needs("root", "overlay")
def test_a_failed_step_leaves_its_output_on_the_terminal(context):
    seen, status, _ = on_terminal(build(context, LOUD % "exit 3"), rows=12)
    assert status == 1
    left = [line.rstrip() for line in seen.lines]
    assert any(line.startswith(" => ERROR [stage-0 3/3] RUN [") for line in left)
    rules = [index for index, line in enumerate(left) if line == "------"]
    assert len(rules) == 2
    assert [line.partition(" ")[2] for line in left[rules[0] + 2 : rules[1]]][-1] == "line 30"


@pytest.mark.needs("root", "overlay")
def test_an_interrupt_that_only_the_build_gets_ends_its_steps(context):
    text = 'FROM scratch AS a\nCOPY busybox /\nRUN ["/busybox", "sleep", "61"]\nFROM scratch\nCOPY --from=a / /\n'
    began = time.monotonic()
    seen, status, _ = on_terminal(build(context, text), interrupt="RUN [", group=False)
    assert status == 130, seen.text
    assert time.monotonic() - began < 30
    assert seen.cursor
