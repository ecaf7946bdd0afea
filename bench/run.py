"""`run --rm` of /bin/true from a small image, with and without network: veloci beside podman and docker, in one run.

    make bench        prints medians in milliseconds, and veloci's ratio to each

The commands take turns, so that what else the machine does meets all of them. All happens in a network namespace
of the benchmark's own, where docker's bridge and everybody's firewall rules end with it.
"""

import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from veloci.kernel.process import CLONE_NEWNET, unshare

sys.path.insert(0, str(Path(__file__).parents[1] / "examples/demo"))
import host
from peers import forget

ROUNDS = int(os.environ.get("ROUNDS", "15"))
LIMITS = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"]
CASES = {"with network": [], "without": ["--network", "none"]}


def timed(command):
    """How long `command` takes, in milliseconds."""
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr.decode()}")
    return (time.perf_counter() - start) * 1000


@contextlib.contextmanager
def veloci(work):
    """The words that begin a command of ours."""
    os.environ |= {"VELOCI_ROOT": str(work / "data"), "VELOCI_RUN": str(work / "run")}
    yield [str(Path(sys.executable).parent / "veloci")]


@contextlib.contextmanager
def podman(work):
    """The words that begin a command of podman's, with roots of its own."""
    base = ["podman", "--root", f"{work}/p", "--runroot", f"{work}/q", "--cgroup-manager", "cgroupfs"]
    try:
        yield base
    finally:
        subprocess.run([*base, "system", "reset", "--force"], capture_output=True, check=False)
        subprocess.run(["umount", work / "p/overlay"], capture_output=True, check=False)


@contextlib.contextmanager
def docker(work):
    """The words that begin a command of docker's, with a daemon and roots of its own."""
    base = ["docker", "-H", f"unix://{work}/socket"]
    places = f"--data-root {work}/d --exec-root {work}/e --pidfile {work}/pid -H unix://{work}/socket"
    with (work / "log").open("wb") as log:
        daemon = subprocess.Popen(["dockerd", *places.split()], stdout=log, stderr=log)
    try:
        end = time.monotonic() + 30
        while subprocess.run([*base, "version"], capture_output=True, check=False).returncode:
            if time.monotonic() > end or daemon.poll() is not None:
                sys.exit(f"dockerd did not start: {(work / 'log').read_text()[-1000:]}")
            time.sleep(0.1)
        yield base
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(30)
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            if line.split()[1].startswith(f"{work}/"):
                subprocess.run(["umount", line.split()[1]], capture_output=True, check=False)


TOOLS = {"veloci": (veloci, []), "podman": (podman, LIMITS), "docker": (docker, [])}


def measured(commands):
    """The median of each command, in milliseconds; the first round only warms up."""
    taken = {key: [] for key in commands}
    for _ in range(ROUNDS + 1):
        for key, command in commands.items():
            taken[key].append(timed(command))
    return {key: statistics.median(times[1:]) for key, times in taken.items()}


def main():
    """Measure, and print."""
    unshare(CLONE_NEWNET)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    work = Path(tempfile.mkdtemp(prefix="vb"))
    (work / "tree/bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", work / "tree/bin/true")
    subprocess.run(["tar", "-C", work / "tree", "-cf", work / "small.tar", "."], check=True)
    commands, before = {}, host.state()["cgroups"]
    try:
        with contextlib.ExitStack() as stack:
            for name, (tool, extra) in TOOLS.items():
                if not shutil.which(name) and name != "veloci":
                    continue
                base = stack.enter_context(tool(work))
                subprocess.run([*base, "import", work / "small.tar", "small"], check=True, capture_output=True)
                for case, words in CASES.items():
                    commands[name, case] = [*base, "run", "--rm", *words, *extra, "small", "/bin/true"]
            medians = measured(commands)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        forget(before, host.state()["cgroups"])
    print(f"run --rm /bin/true, medians of {ROUNDS} rounds, ms")
    for case in CASES:
        ours = medians["veloci", case]
        peers = [(name, medians[name, case]) for name in TOOLS if name != "veloci" and (name, case) in medians]
        beside = "".join(f"   {name} {time:7.1f}, ratio {ours / time:.2f}" for name, time in peers)
        print(f"  {case:14} veloci {ours:7.1f}{beside}")


if __name__ == "__main__":
    main()
