"""The peers that the demo shows beside veloci: podman, docker, and what crun needs of a host."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

# podman asks for limits that a root without CAP_SYS_RESOURCE may not raise.
LIMITS = "--ulimit nofile=1024:1024 --ulimit nproc=1000:1000"


def podman(demo) -> str:
    """podman, with all of its state below the demo's directory."""
    place = demo.work / "podman"
    return f"podman --root {place}/root --runroot {place}/run --cgroup-manager cgroupfs --events-backend none"


class hugetlb:  # noqa: N801 -- reads as a statement
    """crun wants every v1 controller of the kernel mounted; mount the one that hosts leave out, for a while."""

    def __enter__(self) -> None:
        self.place = "/sys/fs/cgroup/hugetlb"
        self.mounted = False
        self.made = not os.path.exists(self.place)  # a directory of that name may be left of another's
        v1 = os.path.isdir("/sys/fs/cgroup/memory") and not os.path.ismount(self.place)
        if v1 and "hugetlb" in Path("/proc/cgroups").read_text():
            os.makedirs(self.place, exist_ok=True)
            subprocess.run(["mount", "-t", "cgroup", "-o", "hugetlb", "cgroup", self.place], check=True)
            self.mounted = True

    def __exit__(self, *_: object) -> None:
        if self.mounted:
            subprocess.run(["umount", self.place], check=True)
            if self.made:
                os.rmdir(self.place)


def forget(before: set[str], after: set[str]) -> None:
    """Remove the empty cgroups that podman and docker keep for their next container, but those that were there before.

    before, after: the cgroups' paths.
    """
    theirs = [
        path for path in after - before if "/libpod_parent" in path or path.endswith(("/docker", "/docker/buildkit"))
    ]
    for path in sorted(theirs, key=len, reverse=True):
        for _ in range(20):  # conmon may still be ending in it
            try:
                os.rmdir(path)
                break
            except OSError:
                time.sleep(0.1)


class docker:  # noqa: N801 -- reads as a statement
    """A docker daemon that knows our runtime, with all of its state below the demo's directory."""

    def __init__(self, demo, runtime: str | None) -> None:
        self.demo, self.place, self.runtime = demo, demo.work / "docker", runtime

    def __enter__(self) -> str:
        socket = f"unix://{self.place}/docker.sock"
        client = f"docker -H {socket}"
        self.place.mkdir()
        self.process = self.demo.start(
            f"dockerd --data-root {self.place}/data --exec-root {self.place}/exec --pidfile {self.place}/pid"
            f" -H {socket} --bridge none --iptables=false --ip-forward=false --add-runtime veloci={self.runtime}",
            f"{client} version",
        )
        return client

    def __exit__(self, *_: object) -> None:
        self.demo.stop(self.process)
