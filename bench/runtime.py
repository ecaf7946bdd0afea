"""veloci-runtime beside runc and crun on one busybox bundle, interleaved: medians, ratios, memory.

python bench/runtime.py [ROUNDS]   as root. What a command takes is measured from its spawn to its end; veloci-runtime
is measured as a wheel installs it. crun wants the hugetlb controller mounted: it is, meanwhile, where the host has not.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 15
SOURCE = Path(__file__).parents[1]
MANY = 100  # containers, for state, kill and list
# One container after the other in one process, each when a line comes.
API = """
import os, sys, time
from veloci.runtime.container import Container
for line in sys.stdin:
    began = time.perf_counter()
    container = Container.create("bench-api", sys.argv[1], root=sys.argv[2])
    container.start()
    os.waitpid(container.saved.pid, 0)
    container.delete()
    print(time.perf_counter() - began, flush=True)
"""


def main():
    found = {"runc": shutil.which("runc"), "crun": shutil.which("crun")}
    programs = {name: [path] for name, path in found.items() if path}
    with tempfile.TemporaryDirectory() as directory, hugetlb():
        place = Path(directory)
        python = install(place / "venv")
        own = [str(python.parent / "veloci-runtime")]
        programs["veloci-runtime"] = own
        for name, command in programs.items():
            command += ["--root", str(place / name)]
        plain, filtered = bundle(place / "plain", own[0]), bundle(place / "filtered", own[0], filtered=True)
        waiting = bundle(place / "waiting", own[0], args=["/bin/sleep", "1000"])
        report("run", rounds(programs, lambda words: run(words, "run", "--bundle", plain, "bench")))
        both = rounds(programs, lambda words: run(words, "run", "--bundle", filtered, "bench"))
        report("run, docker's seccomp profile", both)
        with api(python, filtered, place) as again:
            report("one process, the API", {**both, "veloci-runtime": again})
        report("create + start + delete", rounds(programs, lambda words: lifetime(words, plain)))
        report_many(programs, waiting)
        report_memory(programs, waiting)


def report_many(programs, waiting):
    """exec, state, kill and list, with a hundred containers; each runtime has its own."""

    def one(words):
        return f"bench-{Path(words[-1]).name}-7"

    try:
        for name, words in programs.items():
            for number in range(MANY):
                run(words, "run", "--detach", "--bundle", waiting, f"bench-{name}-{number}")
        report("exec", rounds(programs, lambda words: run(words, "exec", one(words), "/bin/true")))
        report("state", rounds(programs, lambda words: run(words, "state", one(words))))
        report("kill", rounds(programs, lambda words: run(words, "kill", one(words), "0")))
        report(f"list of {MANY}", rounds(programs, lambda words: run(words, "list")))
    finally:
        for name, words in programs.items():
            for number in range(MANY):
                run(words, "delete", "--force", f"bench-{name}-{number}")


def report_memory(programs, waiting):
    """What a runtime keeps for a container that runs: in the foreground, and after `start`."""
    for name, words in programs.items():
        running = subprocess.Popen(
            [*words, "run", "--bundle", waiting, "bench"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        try:
            time.sleep(0.5)
            kept = private(running.pid)
        finally:
            run(words, "kill", "bench", "KILL")
            running.wait()
        run(words, "create", "--bundle", waiting, "bench")
        run(words, "start", "bench")
        time.sleep(0.2)
        left = sum(private(pid) for pid in processes(words[-1]))
        run(words, "delete", "--force", "bench")
        print(f"{'memory, private':30}{name:15}{kept:7} kB under run   {left:5} kB after start, beside the container's")


def private(pid):
    """The private memory of a process, in kB; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def processes(root):
    """The processes that were told of a runtime's state directory."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if root.encode() in path.read_bytes():
                yield int(path.parent.name)


@contextlib.contextmanager
def api(python, filtered, place):
    """The times of containers by the API, as many as rounds."""
    command = [python, "-I", "-c", API, filtered, place / "api"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        times = []
        for number in range(ROUNDS + 2):
            process.stdin.write("again\n")
            process.stdin.flush()
            seconds = float(process.stdout.readline())
            if number > 1:  # it has imported all it needs
                times.append(seconds)
        yield times
        process.stdin.close()


def lifetime(words, directory):
    """The seconds of three commands, without the time that the container itself takes to end."""
    file = directory / "pid"
    began = time.perf_counter()
    run(words, "create", "--bundle", directory, "--pid-file", file, "bench")
    run(words, "start", "bench")
    seconds = time.perf_counter() - began
    stat = Path("/proc", file.read_text(), "stat")
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while stat.read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.005)
    began = time.perf_counter()
    run(words, "delete", "bench")
    return seconds + time.perf_counter() - began


def rounds(programs, measured):
    """Seconds by program: each in its turn, round by round, after one that does not count.

    measured: takes a program's words, and may give the seconds that count.
    """
    times = {name: [] for name in programs}
    for number in range(ROUNDS + 1):
        for name, words in programs.items():
            began = time.perf_counter()
            seconds = measured(words)
            if number:
                times[name].append(seconds or time.perf_counter() - began)
    return times


def run(words, *more):
    """Run a command to its end, without pipes, which a container would keep open."""
    done = subprocess.run([*words, *more], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, (*words, *more)))}: status {done.returncode}")


def report(what, times):
    medians = {name: statistics.median(each) for name, each in times.items()}
    own = medians.pop("veloci-runtime")
    peers = "".join(f"   {name} {median * 1000:7.1f}" for name, median in medians.items())
    ratios = "".join(f"   {own / median:5.2f} of {name}" for name, median in medians.items())
    print(f"{what:30}veloci-runtime {own * 1000:7.1f}{peers} ms{ratios}", flush=True)


def install(place):
    """An environment with veloci as a wheel installs it. Returns its python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    packages = next(place.glob("lib/python3*/site-packages"))
    shutil.copytree(SOURCE / "src/veloci", packages / "veloci", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(SOURCE / "scripts/veloci-runtime", place / "bin")
    (place / "bin/veloci-runtime").chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([place / "bin/python3", "-m", "compileall", "-q", packages], check=True, env=environment)
    return place / "bin/python3"


def bundle(place, own, *, args=("/bin/true",), filtered=False):
    """A busybox bundle with the configuration of `spec`, and with docker's seccomp profile if asked."""
    binaries = place / "rootfs/bin"
    binaries.mkdir(parents=True)
    shutil.copy("/bin/busybox", binaries)
    for name in ("true", "sleep"):
        (binaries / name).symlink_to("busybox")
    subprocess.run([own, "spec", "--bundle", place], check=True)
    file = place / "config.json"
    config = json.loads(file.read_text())
    config["process"].update(terminal=False, args=list(args))
    if filtered:
        sys.path.insert(0, str(SOURCE / "src"))
        from veloci.bundle.seccomp import profile

        config["linux"]["seccomp"] = profile(config["process"]["capabilities"]["bounding"])
    file.write_text(json.dumps(config))
    return place


def hugetlb():
    """The demo's way to mount for a while the controller that crun wants."""
    spec = importlib.util.spec_from_file_location("peers", SOURCE / "examples/demo/peers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.hugetlb()


if __name__ == "__main__":
    main()
