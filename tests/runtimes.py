"""A busybox bundle, and a runtime with runc's command line on it with a state directory of the test's own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from veloci.bundle.defaults import default

PROGRAM = str(Path(sys.executable).parent / "veloci-runtime")


class Runtime:
    """veloci-runtime, or a peer with the same command line, on one bundle."""

    def __init__(self, directory, program=PROGRAM):
        self.program = program
        self.bundle, self.root = directory / "bundle", directory / "root"
        self.id = f"test-{os.getpid()}-{directory.name}"
        binaries = self.bundle / "rootfs/bin"
        binaries.mkdir(parents=True)
        shutil.copy("/bin/busybox", binaries)
        for name in "sh ls cat true sleep id hostname mount grep stat readlink".split():
            (binaries / name).symlink_to("busybox")

    def configure(self, *args, change=None):
        config = default()
        config["process"].update(terminal=False, args=list(args))
        config["process"].pop("rlimits", None)
        if change:
            change(config)
        (self.bundle / "config.json").write_text(json.dumps(config))

    def __call__(self, *words, stdin=subprocess.DEVNULL):
        return subprocess.run(
            [self.program, "--root", str(self.root), *words],
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    def run(self, *args, change=None):
        self.configure(*args, change=change)
        return self("run", "--bundle", str(self.bundle), self.id)

    def run_within(self, script='"$@"'):
        """Run the bundle as it is configured, from a mount namespace of its own: the script has the command as "$@"."""
        words = [self.program, "--root", str(self.root), "run", "--bundle", str(self.bundle), self.id]
        return subprocess.run(
            ["unshare", "-m", "sh", "-c", script, "sh", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    def _quietly(self, *words):
        """Without pipes, which the container would keep open."""
        with open(self.root.parent / "out", "w") as out:
            words = [self.program, "--root", str(self.root), *words, "--bundle", str(self.bundle), self.id]
            subprocess.run(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=20, check=True)

    def detached(self, *args, change=None):
        self.configure(*args, change=change)
        self._quietly("run", "-d")

    def created(self, *args, change=None):
        self.configure(*args, change=change)
        self._quietly("create")

    def state(self):
        return json.loads(self("state", self.id).stdout)

    def left(self):
        """The IDs of the containers that are still there."""
        return [path.name for path in self.root.glob("*") if not path.name.startswith(".")]

    def traces(self):
        groups = [path for path, _, _ in os.walk("/sys/fs/cgroup") if path.endswith(f"/{self.id}")]
        return groups + self.left()

    def reachable(self):
        """Let users other than root in; root of a user namespace that starts at 100000 owns the files."""
        for directory in (self.bundle.parent, self.bundle):
            directory.chmod(0o711)
        for above, directories, files in os.walk(self.bundle / "rootfs"):
            for name in (".", *directories, *files):
                os.chown(os.path.join(above, name), 100000, 100000, follow_symlinks=False)
