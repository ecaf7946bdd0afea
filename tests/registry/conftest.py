"""A registry of ours, as the command that users run."""

import os
import signal
import subprocess
import sys

import pytest


@pytest.fixture
def registry(tmp_path):
    """The address (host:port) of a fresh registry whose content is tmp_path/registry."""
    with serving(tmp_path / "registry") as (address, _process):
        yield address


class serving:
    """`veloci registry serve` on a free port, for the length of a block."""

    def __init__(self, root, *options):
        self.command = [sys.executable, "-m", "veloci", "registry", "serve", "--root", str(root), *options]

    def __enter__(self):
        self.process = subprocess.Popen(
            [*self.command, *(() if "--listen" in self.command else ("--listen", "127.0.0.1:0"))],
            stdout=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        assert line.startswith("registry: http://"), line
        return line.split()[1].rstrip(",").removeprefix("http://"), self.process

    def __exit__(self, *_):
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGTERM)
        try:
            assert self.process.wait(20) == 0
        finally:
            self.process.kill()
            self.process.stdout.close()
