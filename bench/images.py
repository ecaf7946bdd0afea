"""Images through every place: veloci beside umoci, skopeo and podman, in one run; medians, ratios, peak memory.

    MB=600 ROUNDS=5 .venv/bin/python bench/images.py

The image has three layers of this machine's own files (MB megabytes before compression). The tools take turns, so
that what else the machine does meets all of them; what a row needs is made anew before each turn, and not counted.
"""

import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from peers import Built, Serving

MB = int(os.environ.get("MB", "600"))
ROUNDS = int(os.environ.get("ROUNDS", "5"))
SOURCES = ("/usr/lib", "/usr/share", "/usr/bin", "/usr/include")
VELOCI = str(Path(sys.executable).parent / "veloci")


def timed(command):
    """How long `command` takes, in seconds, and the most memory it had, in MB.

    time(1) tells the memory: of a child of ours the kernel would count what we had before it was another program.
    """
    with tempfile.NamedTemporaryFile("r") as told:
        words = ["time", "-f", "%e %M", "-o", told.name, *map(str, command)]
        done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(map(str, command))}: {done.stderr.decode()}")
        seconds, memory = told.read().split()
    return float(seconds), int(memory) / 1000


def layers():
    """Three tars of this machine's files, MB megabytes together."""
    files = (Path(top) / name for source in SOURCES for top, _, names in os.walk(source) for name in sorted(names))
    found = []
    for share in (0.6, 0.3, 0.1):
        path, left = Path(tempfile.mkstemp(prefix="vb-")[1]), MB * share * 1e6
        with tarfile.open(path, "w") as archive:
            while left > 0 and (file := next(files, None)):
                if file.is_file() and not file.is_symlink():
                    archive.add(file, str(file)[1:])
                    left -= file.stat().st_size
        found.append(path.read_bytes())
        path.unlink()
    return found


class Bench:
    """The places of one run."""

    def __init__(self, work):
        self.work, self.count = work, 0
        os.environ |= {"VELOCI_ROOT": str(work / "data"), "VELOCI_RUN": str(work / "run")}
        tars = layers()
        self.image = Built(work / "image", tars)
        self.less = Built(work / "less", tars[:2])
        subprocess.run([VELOCI, "copy", "-q", self.layout, f"docker-archive:{work}/a.tar:a:v0"], check=True)
        self.podman = ["podman", "--root", work / "p", "--runroot", work / "q", "--cgroup-manager", "cgroupfs"]

    @property
    def layout(self):
        """The image as a layout."""
        return f"oci:{self.image.path}:v0"

    def fresh(self):
        """A directory that is not there yet."""
        self.count += 1
        return self.work / f"n{self.count}"

    def compared(self, name, commands, before=lambda _tool: None):
        """Let the tools take turns. commands: name -> what gives its words; the first is ours."""
        taken = {tool: [] for tool in commands}
        for _ in range(ROUNDS):
            for tool, command in commands.items():
                before(tool)
                taken[tool].append(timed(command()))
                for path in self.work.glob("n*"):
                    shutil.rmtree(path, ignore_errors=True)
        seconds = {tool: statistics.median(time for time, _ in each) for tool, each in taken.items()}
        memory = {tool: max(peak for _, peak in each) for tool, each in taken.items()}
        ours, *others = commands
        beside = "".join(
            f"   {tool} {seconds[tool]:6.2f} s, ratio {seconds[ours] / seconds[tool]:.2f}" for tool in others
        )
        print(f"  {name:34} veloci {seconds[ours]:6.2f} s {memory[ours]:4.0f} MB{beside}", flush=True)

    def unpack(self):
        """A layout to a root file system."""
        image = f"{self.image.path}:v0"
        self.compared(
            "layout to bundle",
            {
                "veloci": lambda: [VELOCI, "unpack", self.layout, self.fresh()],
                "umoci": lambda: ["umoci", "unpack", "--image", image, self.fresh()],
            },
        )
        self.compared(
            "layout to root file system",
            {
                "veloci": lambda: [VELOCI, "unpack", "--raw", self.layout, self.fresh()],
                "umoci raw": lambda: ["umoci", "raw", "unpack", "--image", image, self.fresh()],
            },
        )

    def convert(self):
        """Docker's archive to a layout, compressed."""
        archive = f"docker-archive:{self.work}/a.tar"
        self.compared(
            "docker archive to layout",
            {
                "veloci": lambda: [VELOCI, "copy", "-q", archive, f"oci:{self.fresh()}:v0"],
                "skopeo": lambda: ["skopeo", "copy", "-q", archive, f"oci:{self.fresh()}:v0"],
            },
        )

    def across(self, one, two):
        """Registry to registry, where the destination lacks one blob."""

        def there():
            self.count += 1
            place = f"docker://{two}/r{self.count}:v0"
            subprocess.run([VELOCI, "copy", "-q", f"oci:{self.less.path}:v0", place], check=True)
            return place

        verify = ["--src-tls-verify=false", "--dest-tls-verify=false"]
        places = {}
        self.compared(
            "registry to registry, a blob missing",
            {
                "veloci": lambda: [VELOCI, "copy", "-q", "--all", f"docker://{one}/image:v0", places["veloci"]],
                "skopeo": lambda: [
                    "skopeo",
                    "copy",
                    "-q",
                    "--all",
                    *verify,
                    f"docker://{one}/image:v0",
                    places["skopeo"],
                ],
            },
            lambda tool: places.update({tool: there()}),
        )

    def pull(self, registry):
        """From a registry, ready to run."""

        def empty(tool):
            if tool == "veloci":
                shutil.rmtree(self.work / "data", ignore_errors=True)
            else:
                subprocess.run([*self.podman, "rmi", "-af"], check=True, capture_output=True)

        name = f"{registry}/image:v0"
        self.compared(
            "pull, unpacked",
            {
                "veloci": lambda: [VELOCI, "pull", "-q", name],
                "podman": lambda: [*self.podman, "pull", "-q", "--tls-verify=false", name],
            },
            empty,
        )


def main():
    """Measure, and print."""
    work = Path(tempfile.mkdtemp(prefix="vb"))
    try:
        print(f"an image of 3 layers, {MB} MB; medians of {ROUNDS} rounds", flush=True)
        bench = Bench(work)
        bench.unpack()
        bench.convert()
        with contextlib.ExitStack() as stack:
            one, two = (stack.enter_context(Serving(work / name))[0] for name in ("one", "two"))
            subprocess.run([VELOCI, "copy", "-q", bench.layout, f"docker://{one}/image:v0"], check=True)
            bench.across(one, two)
            bench.pull(one)
    finally:
        podman = ["podman", "--root", work / "p", "--runroot", work / "q", "rmi", "-af"]
        subprocess.run(podman, capture_output=True, check=False)
        subprocess.run(["umount", work / "p/overlay"], capture_output=True, check=False)
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main()
