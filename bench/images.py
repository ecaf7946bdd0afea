"""Images through every place: veloci beside umoci, skopeo, podman and docker, in one run; medians, ratios, peak memory.

    ROUNDS=5 .venv/bin/python bench/images.py [ROW…]

The image has three layers: Debian, a Java runtime, Python with numpy and a compiler (by mmdebstrap, kept below CACHE);
with MB=300 three of so many megabytes of this machine's own files instead. The tools take turns, so that what else the
machine does meets all of them; what a row needs is made anew before each turn, not counted, and brought to the disk:
podman and docker leave that to the kernel, and what is not there yet would be removed in no time. docker is a dockerd
of this run's own, without a network.
"""

import contextlib
import gzip
import io
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import ClassVar

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import peers
from peers import Built, Dockerd, Serving

from veloci.layer.compare import compare
from veloci.layer.diff import tree
from veloci.spec.digest import of

MB = int(os.environ.get("MB", "0"))
CACHE = Path(os.environ.get("CACHE", "/var/tmp/veloci-bench"))
JAVA = "ca-certificates,default-jre-headless"
PACKAGES = {"a": "", "b": JAVA, "c": f"{JAVA},python3-numpy,python3-pil,gcc"}
ROUNDS = int(os.environ.get("ROUNDS", "5"))
SOURCES = ("/usr/lib", "/usr/share", "/usr/bin", "/usr/include")
VELOCI = str(Path(sys.executable).parent / "veloci")
OVERLAY = f"{VELOCI} --snapshotter=overlay"


def timed(command):
    """How long `command` takes, and the processor time of it and its children, in seconds; its most memory, in MB.

    time(1) tells the memory: of a child of ours the kernel would count what we had before it was another program.
    Its hundredths of a second are too coarse for the rest.
    """
    with tempfile.NamedTemporaryFile("r") as told:
        words = ["time", "-f", "%M", "-o", told.name, *map(str, command)]
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            sys.exit(f"{' '.join(map(str, command))}: {done.stderr.decode()}")
        busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return seconds, busy, float(told.read()) / 1000


class Compressor:
    """gzip at its usual level; a layer that is in several images is compressed once."""

    done: ClassVar = {}

    @classmethod
    def compress(cls, data, mtime):
        """As gzip.compress."""
        key = of(data)
        if key not in cls.done:
            cls.done[key] = gzip.compress(data, 6, mtime=mtime)
        return cls.done[key]


peers.gzip = Compressor


def debian():
    """Three tars: a minimal Debian, and what each of two sets of packages adds to it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    found, below = [], None
    for name, packages in PACKAGES.items():
        place, file = CACHE / name, CACHE / f"{name}.tar"
        if not place.exists():
            words = ["mmdebstrap", "--quiet", "--variant=minbase", *([f"--include={packages}"] if packages else [])]
            subprocess.run([*words, "bookworm", f"{place}.new"], check=True)
            Path(f"{place}.new").rename(place)
        root = os.open(place, os.O_RDONLY)
        if not file.exists():
            with file.open("wb") as out:
                out.writelines(tree(root) if below is None else compare(root, below))
        found.append(file.read_bytes())
        below = root
    return found


def small_layers():
    """Forty tars of ten small files each."""
    found = []
    for number in range(40):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for each in range(10):
                info = tarfile.TarInfo(f"d{number % 7}/f{number}-{each}")
                info.size = 2000
                archive.addfile(info, io.BytesIO(b"%d" % number * 2000))
        found.append(out.getvalue())
    return found


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
        tars = layers() if MB else debian()
        self.size = sum(map(len, tars)) >> 20
        self.image = Built(work / "image", tars)
        self.less = Built(work / "less", tars[:2])
        note = io.BytesIO()
        with tarfile.open(fileobj=note, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("note"))
        self.more = Built(work / "more", [*tars, note.getvalue()])
        self.many = Built(work / "many", small_layers())
        self.fewer = Built(work / "fewer", small_layers()[:-1])
        subprocess.run([VELOCI, "copy", "-q", self.layout, f"docker-archive:{work}/a.tar:a:v0"], check=True)
        self.podman = ["podman", "--root", work / "p", "--runroot", work / "q", "--cgroup-manager", "cgroupfs"]
        self.docker = []  # its words, while there is a dockerd

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
                os.sync()
                taken[tool].append(timed(command()))
                for path in self.work.glob("n*"):
                    shutil.rmtree(path, ignore_errors=True)
        passed, busy = (
            {tool: statistics.median(each[column] for each in rounds) for tool, rounds in taken.items()}
            for column in (0, 1)
        )
        memory = {tool: max(each[2] for each in rounds) for tool, rounds in taken.items()}
        ours = next(iter(commands))
        print(f"  {name}", flush=True)
        for tool in commands:
            ratios = f"ratio {passed[ours] / passed[tool]:.2f}, {busy[ours] / busy[tool]:.2f}" if tool != ours else ""
            print(f"    {tool:14} {passed[tool]:7.3f} s, busy {busy[tool]:7.3f} s, {memory[tool]:4.0f} MB   {ratios}")

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

    def load(self):
        """A layout to a mounted root file system: by each tool's store, and by unpacking it."""
        load = f"load -q -i {self.image.path}"
        podman = " ".join(map(str, self.podman))
        commands = {
            "veloci": f"{VELOCI} {load} && {VELOCI} create --network none v0 true",
            "veloci overlay": f"{OVERLAY} {load} && {OVERLAY} create --network none v0 true",
            "veloci unpack": f"{VELOCI} unpack --raw {self.layout} $0",
            "podman": f"{podman} image mount $({podman} {load} | sed 's/.*: //')",
        }
        self.compared(
            "layout to root file system, loaded and mounted",
            {tool: lambda words=words: ["sh", "-c", words, self.fresh()] for tool, words in commands.items()},
            self.emptied,
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
        """Registry to registry, where the destination lacks one blob: a large one, a small one, or one of many."""
        places = {}

        def there(tool, less):
            self.count += 1
            places[tool] = f"docker://{two}/r{self.count}:v0"
            for path in [path for path in (self.work / "two").rglob("*") if path.is_file()]:
                path.unlink()  # what was copied there before would be mounted
            subprocess.run([VELOCI, "copy", "-q", f"oci:{less.path}:v0", places[tool]], check=True)

        skopeo = ["skopeo", "copy", "-q", "--all", "--src-tls-verify=false", "--dest-tls-verify=false"]
        rows = {
            "a large layer": ("image", self.less),
            "a small layer": ("more", self.image),
            "one of 40 layers": ("many", self.fewer),
        }
        for missing, (image, less) in rows.items():
            words = {"veloci": [VELOCI, "copy", "-q", "--all"], "skopeo": skopeo}
            self.compared(
                f"registry to registry, {missing}",
                {
                    tool: lambda tool=tool, each=each, image=image: [*each, f"docker://{one}/{image}:v0", places[tool]]
                    for tool, each in words.items()
                },
                lambda tool, less=less: there(tool, less),
            )

    def pulling(self, registry):
        """What pulls an image, for each tool."""
        ours = {"veloci": "erofs", "veloci overlay": "overlay"}
        podman, docker = [*self.podman, "pull", "-q", "--tls-verify=false"], [*self.docker, "pull", "-q"]
        words = {tool: [VELOCI, f"--snapshotter={kept}", "pull", "-q"] for tool, kept in ours.items()}
        words |= {"podman": podman, "docker": docker}
        return {tool: lambda what, each=each: [*each, f"{registry}/{what}:v0"] for tool, each in words.items()}

    def emptied(self, tool):
        """Remove every image that the tool has, and what uses it."""
        if tool == "podman":
            subprocess.run([*self.podman, "image", "unmount", "-af"], check=True, capture_output=True)
        elif tool != "docker":
            subprocess.run([VELOCI, "container", "prune", "-f"], check=True, capture_output=True)
        every = {"podman": [*self.podman, "rmi", "-af"], "docker": [*self.docker, "image", "prune", "-af"]}
        subprocess.run(every.get(tool, [VELOCI, "image", "prune", "-af"]), check=True, capture_output=True)

    def pull(self, registry, name="pull, ready to run", image="image", start=None):
        """From a registry, ready to run: with layers kept as they are, and unpacked. start: an image that is there."""

        def prepared(tool):
            self.emptied(tool)
            if start:
                subprocess.run(pulls[tool](start), check=True, capture_output=True)

        pulls = self.pulling(registry)
        self.compared(name, {tool: lambda words=words: words(image) for tool, words in pulls.items()}, prepared)

    def remove(self, registry):
        """The image, unpacked, to nothing."""
        name, pulls = f"{registry}/image:v0", self.pulling(registry)
        programs = {"podman": self.podman, "docker": self.docker}

        def pulled(tool):
            self.emptied(tool)  # layers that another image has too would stay
            subprocess.run(pulls[tool]("image"), check=True, capture_output=True)

        self.compared(
            "rmi",
            {tool: lambda tool=tool: [*programs.get(tool, [VELOCI]), "rmi", name] for tool in pulls},
            pulled,
        )

    def push(self, registry, empty):
        """To a registry that has its blobs under another name, and to one that has none of them."""
        name = f"{registry}/image:v0"
        subprocess.run([VELOCI, "pull", "-q", name], check=True, capture_output=True)
        subprocess.run([*self.podman, "pull", "-q", "--tls-verify=false", name], check=True, capture_output=True)

        def renamed(tool, to=registry):
            self.count += 1
            self.target = f"{to}/p{self.count}:v0"
            program = [VELOCI] if tool == "veloci" else self.podman
            subprocess.run([*program, "tag", name, self.target], check=True, capture_output=True)
            for path in [path for path in (self.work / "two").rglob("*") if path.is_file()]:
                path.unlink()  # what was pushed there before would be mounted

        commands = {
            "veloci": lambda: [VELOCI, "push", "-q", self.target],
            "podman": lambda: [*self.podman, "push", "-q", "--tls-verify=false", self.target],
        }
        self.compared("push, blobs mounted", commands, renamed)
        self.compared("push to an empty registry", commands, lambda tool: renamed(tool, empty))

    def bare(self):
        """What reading, decompressing and writing takes: igzip and tar, one layer after the other."""
        blobs = " ".join(f"{self.image.path}/blobs/{of(each).replace(':', '/')}" for each in self.image.layers)
        script = f"mkdir $0 && for blob in {blobs}; do {sys.executable} -m isal.igzip -dc $blob | tar -xC $0; done"
        self.compared(
            "layout to root file system",
            {
                "veloci": lambda: [VELOCI, "unpack", "--raw", self.layout, self.fresh()],
                "igzip and tar": lambda: ["sh", "-c", script, self.fresh()],
            },
        )


def registry_rows(bench, wanted):
    """What needs registries."""
    with contextlib.ExitStack() as stack:
        one, two = (stack.enter_context(Serving(bench.work / name))[0] for name in ("one", "two"))
        bench.docker = stack.enter_context(Dockerd(bench.work / "docker"))
        for name in ("image", "more", "many"):
            built = f"oci:{getattr(bench, name).path}:v0"
            subprocess.run([VELOCI, "copy", "-q", built, f"docker://{one}/{name}:v0"], check=True)
        rows = {
            "across": lambda: bench.across(one, two),
            "pull": lambda: bench.pull(one),
            "update": lambda: bench.pull(one, "pull, a small layer is new", "more", "image"),
            "many": lambda: bench.pull(one, "pull of 40 small layers", "many"),
            "rmi": lambda: bench.remove(one),
            "push": lambda: bench.push(one, two),
        }
        for row in [row for row in rows if row in wanted or not wanted]:
            rows[row]()


def main():
    """Measure, and print."""
    work = Path(tempfile.mkdtemp(prefix="vb"))
    try:
        bench = Bench(work)
        print(f"an image of 3 layers, {bench.size} MB; medians of {ROUNDS} rounds", flush=True)
        for row in ("unpack", "bare", "load", "convert"):
            if row in sys.argv[1:] or not sys.argv[1:]:
                getattr(bench, row)()
        registry_rows(bench, sys.argv[1:])
    finally:
        podman = ["podman", "--root", work / "p", "--runroot", work / "q", "rmi", "-af"]
        subprocess.run(podman, capture_output=True, check=False)
        subprocess.run(["umount", work / "p/overlay"], capture_output=True, check=False)
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main()
