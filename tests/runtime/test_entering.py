"""What of ours enters a container: its program, the files it opens, descriptors, streams and keys it brings along.

The attacks of docs/security.md on a runtime that is on its way in.
"""

import ctypes
import fcntl
import hashlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("root", "namespaces", "busybox")

HOST = Path("/proc/self/exe").resolve()
PYTHON = f"{sys.base_prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
WRITE, GROW, SHRINK, SEAL = 8, 4, 2, 1  # F_SEAL_*


def with_python(config):
    """The host's interpreter would run in the container, if the container got hold of it."""
    for place in ("/lib", "/lib64", "/usr/lib", sys.base_prefix):
        if os.path.isdir(place):
            mount = {"destination": place, "type": "none", "source": place, "options": ["rbind", "ro"]}
            config["mounts"].append(mount)
    config["process"]["env"].append(f"PYTHONHOME={sys.base_prefix}")


def until_stopped(runtime):
    limit = time.monotonic() + 10
    while runtime.state()["status"] != "stopped":
        assert time.monotonic() < limit
        time.sleep(0.02)


# --- our program -------------------------------------------------------------------------------------


def test_a_program_that_is_the_runtimes_own_gets_nothing(runtime):
    """CVE-2019-5736: the interpreter of a script, or the program itself, is /proc/self/exe."""
    before = hashlib.sha256(HOST.read_bytes()).digest()
    script = runtime.bundle / "rootfs/bin/again"
    script.write_text("#!/proc/self/exe\nprint('ours ran')\n")
    script.chmod(0o755)
    assert runtime.run(PYTHON, "-c", "print('it would run')", change=with_python).stdout == "it would run\n"
    for words in (["/proc/self/exe", "-c", "print('ours ran')"], ["/bin/again"]):
        done = runtime.run(*words, change=with_python)
        assert (done.returncode in (1, 8), done.stdout) == (True, ""), done  # ENOEXEC, or refused at once
        assert runtime.traces() == []
    assert hashlib.sha256(HOST.read_bytes()).digest() == before


def test_what_waits_for_the_start_is_a_few_bytes_that_nobody_can_change(runtime):
    """CVE-2019-5736: who has it open may open it again for writing once it no longer runs."""
    runtime.created("true")
    program = f"/proc/{runtime.state()['pid']}/exe"
    assert os.readlink(program) == "/memfd:stub (deleted)"
    held = os.open(program, os.O_RDONLY)
    try:
        assert os.fstat(held).st_size < 512
        assert fcntl.fcntl(held, fcntl.F_GET_SEALS) == WRITE | GROW | SHRINK | SEAL
        assert runtime("start", runtime.id).returncode == 0
        until_stopped(runtime)
        again = os.open(f"/proc/self/fd/{held}", os.O_WRONLY)
        with pytest.raises(PermissionError):
            os.write(again, b"#!/evil")
        os.close(again)
    finally:
        os.close(held)


@pytest.mark.needs("strace")
@pytest.mark.parametrize("moment", ["setsid", "capset", "execveat"])
def test_what_enters_a_container_cannot_be_opened_there(runtime, tmp_path, moment):
    """CVE-2019-5736: its root waits for our process to appear, and opens its program, its root, its directory.

    moment: the system call before which our process is held up, so that it is surely seen: while it still has every
    capability, before it drops them, and with those of the container and nothing else to guard it.
    """
    before = hashlib.sha256(HOST.read_bytes()).digest()
    hostile = (
        "while :; do for p in /proc/[0-9]*; do"
        ' for f in exe root cwd fd/0; do echo "$f:$(readlink $p/$f || cat $p/comm)"; done;'
        " (echo x > $p/exe) && echo WRITTEN; done; done > /seen 2>/dev/null"
    )
    runtime.detached("sh", "-c", hostile, change=lambda config: config["root"].update(readonly=False))
    words = [runtime.program, "--root", str(runtime.root), "exec", runtime.id, "true"]
    hold = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", f"trace={moment}"]
    seen, ours = set(), set()
    for delay in (0.4, 3, 15):  # seconds; an emulated machine takes its time
        inject = f"inject={moment}:delay_enter={int(delay * 1e6)}"
        subprocess.run([*hold, "-e", inject, *words], check=True, timeout=90, stdin=subprocess.DEVNULL)
        seen = set((runtime.bundle / "rootfs/seen").read_text().splitlines())
        ours = {line.partition(":")[2] for line in seen} & {"python3", "veloci-runtime", HOST.name}
        if ours:
            break
    runtime("kill", runtime.id, "KILL")
    assert ours  # it was there, by its name
    assert "WRITTEN" not in seen
    programs = {line[4:] for line in seen if line.startswith("exe:")}
    assert programs <= {
        "/bin/busybox",
        "/memfd:stub (deleted)",
        "memfd:stub",
        "sh",
        "true",
        "cat",
        "readlink",
        "",
        *ours,
    }
    roots = {line[5:] for line in seen if line.startswith("root:")}
    assert roots <= {"/", "memfd:stub", "sh", "true", "cat", "readlink", "", *ours}
    assert hashlib.sha256(HOST.read_bytes()).digest() == before


@pytest.mark.needs("strace")
@pytest.mark.parametrize("how", ["run", "exec"])
def test_nothing_is_loaded_from_a_hostile_container(runtime, tmp_path, how):
    """CVE-2019-14271, CVE-2026-41567: libraries, modules, preloads and programs of its own lie in wait.

    Of every process of ours that is inside, each file that is looked for is known.
    """
    rootfs = runtime.bundle / "rootfs"
    for place in ("etc", "usr/bin", "lib", *(path.lstrip("/") for path in sys.path if path and "zip" not in path)):
        (rootfs / place).mkdir(parents=True, exist_ok=True)
    (rootfs / "etc/ld.so.preload").write_text("/lib/evil.so\n")
    (rootfs / "etc/passwd").write_text("root:x:0:0::/home:/bin/sh\n" + "x" * 100000)
    (rootfs / "etc/nsswitch.conf").write_text("passwd: evil\n")
    hostile = ["LD_PRELOAD=/lib/evil.so", "LD_LIBRARY_PATH=/lib", "PYTHONPATH=/usr/lib", "PYTHONSTARTUP=/x.py"]

    def change(config):
        config["process"]["env"] = ["PATH=/usr/bin:/bin", *hostile]

    words = [runtime.program, "--root", str(runtime.root)]
    if how == "exec":
        runtime.detached("sleep", "100", change=change)
        words += ["exec", runtime.id, "true"]
    else:
        runtime.configure("true", change=change)
        words += ["run", "--bundle", str(runtime.bundle), runtime.id]
    trace = tmp_path / "trace"
    calls = "trace=%file,clone,clone3,setns,pivot_root,chroot"
    strace = ["strace", "-f", "-qq", "-e", "signal=none", "-e", calls, "-o", str(trace), *words]
    subprocess.run(strace, check=True, timeout=60, stdin=subprocess.DEVNULL)
    looked = inside(trace.read_text())
    own = {"/", ".", "/proc", "/etc/passwd", "/dev/null", "/usr/bin/true", "/bin/true", ""}
    assert {"/etc/passwd", "/bin/true"} <= looked
    assert {path for path in looked - own if not re.match(r"/proc/(self|\d+)/", path)} == set()


def inside(trace):
    """The names that processes looked up while they were in the container, by what strace has told."""
    entered, looked = set(), set()
    for line in trace.splitlines():
        pid, _, call = line.partition(" ")
        call = call.lstrip()
        made = re.match(r"(?:<\.\.\. )?clone.* = (\d+)$", call)
        if made and pid in entered:
            entered.add(made[1])
        if call.startswith(("setns(", "pivot_root(")):
            entered.add(pid)
        elif call.startswith("chroot("):
            entered.discard(pid)  # the parent is at home again
        elif pid in entered and not call.startswith(("clone", "<...", "+++")):
            looked |= set(re.findall(r'"([^"]*)"', call.partition(", [")[0])[:1])
    assert entered
    return looked


# --- descriptors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["run", "exec"])
@pytest.mark.parametrize("what", ["directory", "program"])
def test_a_directory_of_the_host_that_the_caller_left_open_leads_nowhere(runtime, how, what):
    """CVE-2024-21626: as the working directory, and on the way to a program."""
    leaked = os.open("/etc", os.O_PATH)
    os.set_inheritable(leaked, True)
    place = f"/proc/self/fd/{leaked}"
    program = ["ls"] if what == "directory" else [f"{place}/../bin/busybox", "echo", "the host's"]
    cwd = place if what == "directory" else "/"
    words = [runtime.program, "--root", str(runtime.root)]
    if how == "exec":
        runtime.detached("sleep", "100")
        words += ["exec", "--cwd", cwd, runtime.id, *program]
    else:
        runtime.configure(*program, change=lambda config: config["process"].update(cwd=cwd))
        words += ["run", "--bundle", str(runtime.bundle), runtime.id]
    try:
        done = subprocess.run(
            words,
            pass_fds=[leaked],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    finally:
        os.close(leaked)
    if what == "program":
        assert (done.returncode, done.stdout) == (2, "")  # ENOENT: it was closed when the stub called execve
    else:
        assert (done.returncode, done.stdout) == (255 if how == "exec" else 1, "")
        assert "process.cwd: " in done.stderr or "process: $.cwd: " in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("how", ["run", "terminal", "exec"])
def test_streams_that_the_caller_has_closed_are_null_devices(runtime, closed, how):
    """What the runtime opens first would be its own streams, and the container's."""
    script = 'shown=$(for n in 0 1 2; do readlink /proc/$$/fd/$n; done); echo "$shown" > /streams; exit 3'

    def change(config):
        config["root"]["readonly"] = False
        config["process"]["terminal"] = how == "terminal"

    words = f"{runtime.program} --root {runtime.root} "
    if how == "exec":
        runtime.detached("sleep", "100", change=change)
        words += f"exec {runtime.id} sh -c '{script}'"
    else:
        runtime.configure("sh", "-c", script, change=change)
        words += f"run --bundle {runtime.bundle} {runtime.id}"
    with open(runtime.bundle / "given", "w+") as given:
        streams = {"stdin": given, "stdout": given, "stderr": given}
        done = subprocess.run(["sh", "-c", f"{words} {closed}"], **streams, check=False, timeout=20)
    assert (done.returncode, (runtime.bundle / "given").read_text()) == (3, "")
    shown = (runtime.bundle / "rootfs/streams").read_text().splitlines()
    if how == "terminal":
        assert shown == ["/dev/pts/0"] * 3
    else:
        names = ("<&-", ">&-", "2>&-")
        expected = ["/dev/null" if name in closed.split() else str(runtime.bundle / "given") for name in names]
        assert shown == expected


# --- keys --------------------------------------------------------------------------------------------

KEYS = """
import ctypes
keyctl = ctypes.CDLL(None).syscall
session = keyctl(250, 0, -3, 0)  # KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING
text = ctypes.create_string_buffer(256)
keyctl(250, 6, session, text, 256)  # KEYCTL_DESCRIBE
print(text.value.decode().rpartition(";")[2], keyctl(250, 10, -3, b"user", b"of-the-caller", 0) > 0)  # KEYCTL_SEARCH
"""


@pytest.fixture
def caller():
    """Starts commands in a session whose keyring has a key."""

    def join():
        libc = ctypes.CDLL(None)
        libc.syscall(250, 1, b"the-callers")  # KEYCTL_JOIN_SESSION_KEYRING
        libc.syscall(248, b"user", b"of-the-caller", b"secret", 6, -3)  # add_key

    def run(*words):
        return subprocess.run(
            words,
            preexec_fn=join,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        ).stdout.split()

    if os.uname().machine != "x86_64":
        pytest.skip("the numbers are of x86-64")
    return run


@pytest.mark.parametrize("how", ["run", "exec"])
def test_the_callers_keys_stay_outside(either, caller, how):
    """A session keyring is inherited; it must not be by what a container runs, also not by a further process."""
    words = [either.program, "--root", str(either.root)]
    assert caller(PYTHON, "-c", KEYS) == ["the-callers", "True"]
    if how == "exec":
        either.detached("sleep", "100", change=with_python)
        words += ["exec", either.id, PYTHON, "-c", KEYS]
    else:
        either.configure(PYTHON, "-c", KEYS, change=with_python)
        words += ["run", "--bundle", str(either.bundle), either.id]
    assert caller(*words) == [f"_ses.{either.id}", "False"]


def test_the_callers_keys_are_kept_on_demand_also_by_a_further_process(runtime, caller):
    runtime.configure("sleep", "100", change=with_python)
    with open(runtime.bundle / "out", "w") as out:
        words = [runtime.program, "--root", str(runtime.root), "run", "-d", "--no-new-keyring"]
        subprocess.run(
            [*words, "--bundle", str(runtime.bundle), runtime.id],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            check=True,
            timeout=20,
        )
    words = [runtime.program, "--root", str(runtime.root), "exec", runtime.id, PYTHON, "-c", KEYS]
    assert caller(*words) == ["the-callers", "True"]
