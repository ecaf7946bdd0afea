"""The runtime killed at any of its steps, used ten thousand times, and used for five hundred containers at once.

Whatever happens, `delete --force` leaves nothing: no process, no mount, no control group, no state directory.

A step is a system call that changes something, of the runtime or of a process it makes: what lies between two of them
is the same for whoever looks afterwards. VELOCI_SOAK (`make soak`) tries each of them, else a few that VELOCI_SEED picks.
"""

import itertools
import json
import os
import random
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from box import Client, until
from runtimes import Runtime

from veloci.runtime.state import process

pytestmark = pytest.mark.needs("root", "namespaces", "busybox", "strace")
SOAK = "VELOCI_SOAK" in os.environ
SEED = os.environ.get("VELOCI_SEED", "1")
# These only look, or arrange the caller's own memory, descriptors and signals.
PURE = set(
    "access alarm arch_prctl brk capget close dup dup2 dup3 epoll_create1 exit exit_group faccessat faccessat2 fchdir "
    "fcntl fstat fstatfs futex getcwd getdents64 getegid geteuid getgid getpid getppid getrandom getresgid getresuid "
    "getrlimit gettid getuid getxattr ioctl lgetxattr lseek lstat madvise mmap mprotect mremap munmap newfstatat "
    "open openat openat2 pidfd_open pipe2 poll ppoll pread64 prlimit64 read readlink readlinkat restart_syscall rseq "
    "rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity select set_robust_list set_tid_address sigaltstack "
    "socketpair stat statfs statx sysinfo umask uname wait4 waitid".split()
)
# verb -> the words, and what comes before: a container that is created, running or stopped. With --explain it is
# Python that answers, without it the launcher where it can.
VERBS = {
    "create": ("create --bundle BUNDLE ID", ""),
    "run": ("run -d --bundle BUNDLE ID", ""),
    "start": ("start ID", "created"),
    "start by Python": ("--explain start ID", "created"),
    "exec": ("exec -d ID sleep TOKEN", "running"),
    "kill": ("--explain kill ID KILL", "running"),
    "delete": ("delete ID", "stopped"),
    "delete by Python": ("--explain delete ID", "stopped"),
    "delete --force": ("delete --force ID", "running"),
}


@pytest.fixture
def runtime(tmp_path):
    made = Runtime(tmp_path)
    yield made
    for left in made.left():
        made("delete", "--force", left)


class Traced:
    """A runtime whose commands strace watches."""

    def __init__(self, runtime, verb):
        self.runtime = runtime
        self.token = f"9{os.getpid()}.{sorted(VERBS).index(verb)}"  # an argument that nothing else on the host has
        words, self.before = VERBS[verb]
        names = {"BUNDLE": str(runtime.bundle), "ID": runtime.id, "TOKEN": self.token}
        self.words = [names.get(word, word) for word in words.split()]
        self.log = runtime.root.parent / "trace"

    def prepare(self):
        """The container as the command finds it."""
        runtime = self.runtime
        runtime.configure("sleep", self.token)
        if self.before:
            (runtime.created if self.before == "created" else runtime.detached)("sleep", self.token)
        if self.before == "stopped":
            assert runtime("kill", runtime.id, "KILL").returncode == 0
            until(lambda: runtime.state()["status"] == "stopped")

    def run(self, *options):
        """Run the command under strace until it has ended; a container that it made may live on."""
        self.log.write_bytes(b"")
        out = os.open(self.runtime.root.parent / "out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        command = ["strace", "-f", "-q", "-e", "signal=none", "-o", self.log, *options]
        command += [self.runtime.program, "--root", str(self.runtime.root), *self.words]
        try:
            return Client(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        finally:
            os.close(out)

    def ended(self, strace):
        """Whether the command's own process, who makes the first call, has ended; strace may still have others."""
        made = self.log.read_text(errors="replace").partition(" ")[0]
        return strace.poll() is not None or (made and process(int(made))[0] in ("", "Z"))

    def steps(self):
        """The calls that change something, each with its number among those of its name."""
        self.prepare()
        with self.run() as strace:
            until(lambda: self.ended(strace))
            assert self.runtime("delete", "--force", self.runtime.id).returncode == 0
            strace.wait(20)
        counts = {}
        for line in self.log.read_text(errors="replace").splitlines():
            found = re.match(r"(\d+) +(\w+)\(", line)
            if found and found[2] not in PURE:
                counts.setdefault(found[2], {}).setdefault(found[1], itertools.count(1))
                counts[found[2]][found[1], "last"] = next(counts[found[2]][found[1]])
        found = {
            name: max(number for key, number in each.items() if isinstance(key, tuple)) for name, each in counts.items()
        }
        return [(name, number + 1) for name, last in sorted(found.items()) for number in range(last)]

    def killed(self, call, number):
        """Kill whoever makes that call for the n-th time, right before it; then remove all."""
        self.prepare()
        with self.run("-e", f"trace={call},execve", "-e", f"inject={call}:signal=KILL:when={number}") as strace:
            until(lambda: self.ended(strace), lambda: (call, number))
            done = self.runtime("delete", "--force", self.runtime.id)
            assert (done.returncode, done.stderr) == (0, ""), (call, number)
            strace.wait(20)
        assert self.runtime.traces() == [], (call, number)
        until(lambda: not self.processes(), lambda: (call, number, self.processes()))
        assert str(self.runtime.bundle) not in Path("/proc/self/mountinfo").read_text()

    def processes(self):
        """What is there of the runtime and of the container."""
        found = []
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = file.read_bytes().split(b"\0")
            except OSError:
                continue  # it ended
            if self.token.encode() in words or os.fsencode(self.runtime.root) in words:
                found.append((file.parent.name, words))
        return found


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.timeout(3600 if SOAK else 60)
def test_a_runtime_killed_at_any_step_leaves_nothing_that_delete_cannot_remove(runtime, verb):
    traced = Traced(runtime, verb)
    steps = traced.steps()
    assert steps
    for call, number in steps if SOAK else random.Random(f"{SEED} {verb}").sample(steps, min(2, len(steps))):
        traced.killed(call, number)
    assert runtime.run("true").returncode == 0  # the ID is free, and all is well


CYCLES = """
import os, sys
from veloci.runtime.container import Container
bundle, root, count = sys.argv[1], sys.argv[2], int(sys.argv[3])

def told():
    with open("/proc/self/status") as file:
        memory = next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))
    with open("/proc/self/mountinfo") as file:
        mounts = sum(bundle in line or root in line for line in file)
    groups = sum(len(names) for path, names, _ in os.walk("/sys/fs/cgroup") if "cycle-" + str(os.getpid()) in path)
    groups += sum(name.startswith("cycle-" + str(os.getpid())) for _, names, _ in os.walk("/sys/fs/cgroup") for name in names)
    return len(os.listdir("/proc/self/fd")), mounts, groups, len(os.listdir(root)), memory

for number in range(count + 1):
    if number in (count // 10, count):
        print(*told(), flush=True)
    container = Container.create(f"cycle-{os.getpid()}-{number % 7}", bundle, root=root)
    container.start()
    os.waitpid(container.saved.pid, 0)
    container.delete()
"""


@pytest.mark.timeout(3600 if SOAK else 60)
def test_containers_made_and_deleted_in_one_process_leak_nothing(runtime):
    """10,000 of them at length. Descriptors, mounts, control groups, state directories, memory."""
    runtime.configure("true", change=lambda config: config["linux"].pop("cgroupsPath", None))
    runtime.root.mkdir()
    command = [sys.executable, "-I", "-c", CYCLES, runtime.bundle, runtime.root, "10000" if SOAK else "120"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    early, late = ([int(word) for word in line.split()] for line in done.stdout.splitlines())
    assert late[:4] == early[:4]  # descriptors, mounts, groups, directories
    assert late[2:4] == [0, 0]
    assert late[4] <= early[4] + 512, (early, late)  # kB
    print(early, late)  # for the soak's report


@pytest.mark.timeout(3600 if SOAK else 60)
def test_many_containers_alive_at_once_cost_each_the_same_and_leave_nothing(runtime, tmp_path):
    """500 of them at length."""
    many = 500 if SOAK else 20
    runtime.configure("sleep", "1000")
    made, gone = [], []

    def timed(times, *words):
        began = time.monotonic()
        with open(tmp_path / "out", "w") as out:
            command = [runtime.program, "--root", runtime.root, *words]
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=True)
        times.append(time.monotonic() - began)

    ids = [f"{runtime.id}-{number}" for number in range(many)]
    try:
        for id in ids:
            timed(made, "run", "-d", "--bundle", runtime.bundle, id)
        listed = json.loads(runtime("list", "-f", "json").stdout)
        assert sorted((each["id"], each["status"]) for each in listed) == sorted((id, "running") for id in ids)
    finally:
        for id in ids:
            timed(gone, "delete", "--force", id)
    assert runtime.left() == []
    assert not [path for path, _, _ in os.walk("/sys/fs/cgroup") if path.rpartition("/")[2] in ids]
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    for times in (made, gone):
        first, last = statistics.median(times[: many // 4]), statistics.median(times[-many // 4 :])
        print(f"{first * 1000:.1f} {last * 1000:.1f} ms")
        assert last < 2 * first + 0.05
