"""`run --rm` of /bin/true from a small image, with and without network: veloci beside podman, in one run.

    make bench        prints medians in milliseconds, and veloci's ratio to podman

The commands take turns, so that what else the machine does meets all of them.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = int(os.environ.get("ROUNDS", "15"))
LIMITS = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"]


def timed(command):
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr.decode()}")
    return (time.perf_counter() - start) * 1000


def main():
    work = Path(tempfile.mkdtemp(prefix="vb"))
    os.environ |= {"VELOCI_ROOT": str(work / "data"), "VELOCI_RUN": str(work / "run")}
    (work / "tree/bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", work / "tree/bin/true")
    subprocess.run(["tar", "-C", work / "tree", "-cf", work / "small.tar", "."], check=True)
    veloci = str(Path(sys.executable).parent / "veloci")
    podman = ["podman", "--root", f"{work}/p", "--runroot", f"{work}/q", "--cgroup-manager", "cgroupfs"]
    for tool in ([veloci], podman):
        subprocess.run([*tool, "import", work / "small.tar", "small"], check=True, capture_output=True)
    cases = {"with network": [], "without": ["--network", "none"]}
    commands = {
        (tool, case): [*base, "run", "--rm", *words, *extra, "small", "/bin/true"]
        for case, words in cases.items()
        for tool, base, extra in (("veloci", [veloci], []), ("podman", podman, LIMITS))
    }
    try:
        for command in commands.values():
            timed(command)
        taken = {key: [] for key in commands}
        for _ in range(ROUNDS):
            for key, command in commands.items():
                taken[key].append(timed(command))
    finally:
        subprocess.run([*podman, "system", "reset", "--force"], capture_output=True, check=False)
        subprocess.run(["umount", work / "p/overlay"], capture_output=True, check=False)
        shutil.rmtree(work, ignore_errors=True)
    print(f"run --rm /bin/true, medians of {ROUNDS} rounds, ms")
    for case in cases:
        ours, theirs = (statistics.median(taken[tool, case]) for tool in ("veloci", "podman"))
        print(f"  {case:14} veloci {ours:7.1f}   podman {theirs:7.1f}   ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
