"""Builds of one Dockerfile, ten steps and a context of 300 files: veloci beside podman and docker, in one run.

    python bench/build.py     prints medians in milliseconds, and veloci's ratio to each

cached: nothing has changed. changed: one file of the context has, so its COPY and the RUN after it are done again.
docker builds by its classic builder; podman in a chroot, which is less than a container.
"""

import contextlib
import os
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

from run import TOOLS, forget, host, timed

from veloci.kernel.process import CLONE_NEWNET, unshare

ROUNDS = int(os.environ.get("ROUNDS", "7"))
WORDS = {"podman": ["--isolation", "chroot", "--network", "host"]}
DOCKERFILE = (
    'FROM scratch AS base\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "--install", "-s", "/bin"]\n'
    + "".join(f"RUN echo {number} > /{number}\n" for number in range(6))
    + "COPY src /src\nRUN cat /src/* | sha256sum > /sum\nFROM scratch\nCOPY --from=base /sum /\n"
)


def context(work):
    """A directory to build from."""
    place = work / "context"
    (place / "src").mkdir(parents=True)
    shutil.copy("/bin/busybox", place / "busybox")
    for number in range(300):
        (place / f"src/{number}").write_bytes(os.urandom(5000))
    (place / "Dockerfile").write_text(DOCKERFILE)
    return place


def main():
    """Measure, and print."""
    os.environ["DOCKER_BUILDKIT"] = "0"
    unshare(CLONE_NEWNET)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    work = Path(tempfile.mkdtemp(prefix="vb"))
    taken, before = {}, host.state()["cgroups"]
    try:
        with contextlib.ExitStack() as stack:
            place = context(work)
            commands = {}
            for name, (tool, _) in TOOLS.items():
                if shutil.which(name) or name == "veloci":
                    base = stack.enter_context(tool(work))
                    commands[name] = [*base, "build", "-q", *WORDS.get(name, ["--network", "none"]), place]
            for number in range(ROUNDS + 1):  # the first only warms up
                (place / "src/0").write_text(str(number))
                for case in ("changed", "cached"):
                    for name, command in commands.items():
                        taken.setdefault((case, name), []).append(timed(command))
    finally:
        shutil.rmtree(work, ignore_errors=True)
        forget(before, host.state()["cgroups"])
    print(f"build, medians of {ROUNDS} rounds, ms")
    for case in ("cached", "changed"):
        medians = {name: statistics.median(taken[case, name][1:]) for name in commands}
        ours = medians.pop("veloci")
        beside = "".join(f"   {name} {time:7.1f}, ratio {ours / time:.2f}" for name, time in medians.items())
        print(f"  {case:14} veloci {ours:7.1f}{beside}")


if __name__ == "__main__":
    main()
