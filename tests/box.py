"""What tests of containers share: directories of their own with a busybox image in them, and the command."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from terminal import Terminal

from veloci.cli.go_types import typed
from veloci.cli.template import Template
from veloci.engine.engine import Engine

VELOCI = str(Path(sys.executable).with_name("veloci"))
_PROGRAMS = "sh cat echo sleep true false head kill ls mkdir ps printf seq stty tee test touch tty wc yes id env pwd dd ip hostname od grep".split()


class Client(subprocess.Popen):
    """A command that runs beside a test, and not beyond it: a test that fails does not wait for it."""

    def __exit__(self, *why):
        self.kill()
        super().__exit__(*why)


class Box:
    """Veloci with its own data and run directories, below `path`; the image is `bb`."""

    def __init__(self, path):
        self.path = path

    def veloci(self, *words, **options):
        """Run it to its end."""
        options = {"capture_output": True, "text": True, "timeout": 60, **options}
        return subprocess.run([VELOCI, *map(str, words)], check=False, **options)

    def ok(self, *words, **options):
        """What it prints, when it succeeds."""
        done = self.veloci(*words, **options)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def started(self, *words, network="none", **options):
        """A container that runs in the background: its ID."""
        return self.ok("run", "-d", "--network", network, *words, **options).strip()

    def background(self, *words, **options):
        """Run it and go on."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return Client([VELOCI, *map(str, words)], **{"text": True, **pipes, **options})

    def terminal(self, *words, **options):
        """Run it on a terminal."""
        return Terminal([VELOCI, *words], **options)

    def engine(self):
        """What the commands work with, in this process: a command of its own costs a tenth of a second."""
        return Engine(str(self.path / "data"), str(self.path / "run"))

    def show(self, container, template):
        """A field of what `inspect` knows."""
        return Template(template).render(typed(self.engine().containers.inspect(container))).strip()

    def layer(self):
        """The image's layer in the store; how its files are there is the snapshotter's business."""
        return next((self.path / "data/snapshots/layers").glob("sha256-*")) / "fs"

    def monitor(self, container):
        """The PID of its monitor."""
        id = self.show(container, "{{.Id}}")
        return json.loads((self.path / "run/containers" / id / "state.json").read_text())["monitor"]

    def until(self, container, template, text):
        """Wait until a field is `text`."""
        until(lambda: self.show(container, template) == text, lambda: self.show(container, template))


def until(condition, say=lambda: "", timeout=20):
    """Wait until `condition()` holds."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, say()
        time.sleep(0.02)


@pytest.fixture(scope="session")
def _stored(tmp_path_factory):
    """Directories with the image in them, unpacked."""
    path = tmp_path_factory.mktemp("stored")
    (path / "tree/bin").mkdir(parents=True)
    (path / "tree/etc").mkdir()
    (path / "tree/etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000::/tmp:/bin/sh\n")
    (path / "tree/etc/group").write_text("root:x:0:\nguest:x:1000:\n")
    shutil.copy(shutil.which("busybox"), path / "tree/bin/busybox")
    for name in _PROGRAMS:
        os.symlink("busybox", path / "tree/bin" / name)
    subprocess.run(["tar", "-C", path / "tree", "-cf", path / "tree.tar", "."], check=True)
    environment = {**os.environ, "VELOCI_ROOT": str(path / "data"), "VELOCI_RUN": str(path / "run")}
    for words in (["import", path / "tree.tar", "bb"], ["create", "--name", "first", "bb", "true"], ["rm", "first"]):
        subprocess.run([VELOCI, *words], env=environment, check=True, capture_output=True)
    return path / "data"


@pytest.fixture
def box(_stored, roots):
    """Veloci with an image of busybox. At the end its containers are removed."""
    subprocess.run(["cp", "-a", _stored, roots / "data"], check=True)
    found = Box(roots)
    found.tree = _stored.parent / "tree"  # of the image's files
    yield found
    containers = found.engine().containers
    for id in containers.records.ids():
        containers.remove(id, force=True)
