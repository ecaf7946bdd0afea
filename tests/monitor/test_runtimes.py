"""One contract for every runtime: our own, runc, crun, runsc; and a monitor in an interpreter of its own."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from box import until

from veloci.bundle.configure import configure
from veloci.bundle.options import Options
from veloci.errors import NotFound, VelociError
from veloci.monitor import console, runtimes
from veloci.spec.document import dumps
from veloci.spec.image import ImageConfig

pytestmark = pytest.mark.needs("root", "namespaces", "overlay", "busybox")

NAMES = ["veloci", "runc", "crun", "runsc"]


class Bench:
    """A runtime and a bundle for it. A container's monitor has one thread, so the tests of one are processes."""

    def __init__(self, name, box, tmp_path):
        self.id = f"contract-{name}-{os.getpid()}"
        self.bundle, self.run = tmp_path / "bundle", tmp_path / "r"
        for path in (self.bundle, self.run):
            path.mkdir()
        shutil.copytree(box.tree, self.bundle / "rootfs", symlinks=True)
        self.runtime = runtimes.named(name, str(self.run), str(self.run), networked=False)

    def config(self, *args, tty=False):
        image = ImageConfig.convert(
            {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
        )
        found = configure(image, Options(args=args, tty=tty, env=("PATH=/bin",)), id=self.id)
        (self.bundle / "config.json").write_bytes(dumps(found))
        return found

    def created(self, *args, tty=False):
        """PID, terminal, and the ends of its standard streams that are ours."""
        null = os.open(os.devnull, os.O_RDWR)
        out, theirs = os.pipe()
        try:
            pid, terminal = self.runtime.create(
                self.id, str(self.bundle), self.config(*args, tty=tty), (null, theirs, theirs)
            )
        finally:
            os.close(null)
            os.close(theirs)
        return pid, terminal, out

    def run_to_start(self, program):
        _, _, out = self.created(program)
        os.close(out)
        self.runtime.start(self.id)  # runsc looks for the program only now


@pytest.fixture(params=NAMES)
def bench(request, box, tmp_path):
    if request.param != "veloci" and not shutil.which(request.param):
        (pytest.fail if request.config.getoption("--no-skips") else pytest.skip)(f"this host lacks {request.param}")
    found = Bench(request.param, box, tmp_path)
    null = os.stat(os.devnull)
    yield found
    found.runtime.delete(found.id)
    after = os.stat(os.devnull)
    assert (after.st_uid, after.st_gid, after.st_mode) == (null.st_uid, null.st_gid, null.st_mode)
    assert not list(Path("/sys/fs/cgroup").glob(f"*/veloci-{found.id}"))


def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _status(pid):
    path = Path(f"/proc/{pid}/status")
    return path.read_text() if path.exists() else "State:\tZ"  # reaped, or not yet


def drained(file):
    with open(file, "rb") as stream:
        return stream.read()


def test_it_waits_to_be_started_and_its_end_is_ours_to_see(bench):
    pid, terminal, out = bench.created("sh", "-c", "echo hello; exit 7")
    assert terminal == -1
    assert Path(f"/proc/{pid}").exists()
    os.set_blocking(out, False)
    time.sleep(0.2)
    with pytest.raises(BlockingIOError):
        os.read(out, 1)
    os.set_blocking(out, True)
    bench.runtime.start(bench.id)
    assert ended(pid) == 7
    bench.runtime.delete(bench.id)
    assert drained(out) == b"hello\n"
    bench.runtime.delete(bench.id)  # one that is gone is well


def test_it_has_a_terminal(bench):
    pid, terminal, out = bench.created("sh", "-c", "stty size; read x; echo got $x", tty=True)
    os.close(out)
    console.resize(terminal, 33, 99)
    bench.runtime.start(bench.id)
    shown = b""
    while b"33 99" not in shown:
        shown += os.read(terminal, 1000)
    os.write(terminal, b"typed\n")
    while b"got typed" not in shown:
        shown += os.read(terminal, 1000)
    assert ended(pid) == 0
    os.close(terminal)


def test_a_signal_reaches_it(bench):
    pid, _, out = bench.created("sh", "-c", "trap 'exit 4' TERM; echo up; while :; do sleep 0.1; done")
    bench.runtime.start(bench.id)
    assert os.read(out, 100) == b"up\n"
    bench.runtime.kill(bench.id, 15)
    assert ended(pid) == 4
    os.close(out)


def test_delete_ends_what_runs(bench):
    pid, _, out = bench.created("sleep", "60")
    bench.runtime.start(bench.id)
    bench.runtime.delete(bench.id)
    assert "State:\tZ" in _status(pid)
    os.close(out)


def test_another_process_runs_in_it(bench):
    _, _, out = bench.created("sleep", "60")
    bench.runtime.start(bench.id)
    null = os.open(os.devnull, os.O_RDWR)
    seen, theirs = os.pipe()
    process = {**bench.config("sh", "-c", "echo inside; exit 5")["process"], "terminal": False}
    child, terminal = bench.runtime.exec(bench.id, process, (null, theirs, theirs))
    os.close(theirs)
    assert terminal == -1
    assert ended(child) == 5
    assert drained(seen) == b"inside\n"
    for descriptor in (null, out):
        os.close(descriptor)


def test_it_stands_still_and_goes_on(bench):
    if bench.runtime.name == "runsc":
        pytest.skip("runsc is told to leave cgroups alone, and freezes in its own kernel")
    _, _, out = bench.created("sh", "-c", "while :; do echo x; sleep 0.02; done")
    bench.runtime.start(bench.id)
    assert os.read(out, 2) == b"x\n"
    bench.runtime.pause(bench.id)
    while _ready(out):
        os.read(out, 1000)
    time.sleep(0.1)
    assert not _ready(out)
    bench.runtime.resume(bench.id)
    until(lambda: _ready(out))
    bench.runtime.update(bench.id, {"pids": {"limit": 77}})
    assert Path(f"/sys/fs/cgroup/pids/veloci-{bench.id}/pids.max").read_text() == "77\n"
    assert bench.runtime.out_of_memory(bench.id) is False
    os.close(out)


def _ready(file):
    import select

    return bool(select.select([file], [], [], 0)[0])


def test_a_program_that_is_missing_or_none_is_127_or_126(bench):
    for program, status in (("nope", 127), ("/etc", 126)):
        with pytest.raises(VelociError) as failure:
            bench.run_to_start(program)
        if bench.runtime.name != "runsc":
            assert failure.value.exit_status == status
        bench.runtime.delete(bench.id)


def test_a_runtime_that_is_none_is_named(tmp_path):
    with pytest.raises(NotFound) as failure:
        runtimes.named("nope", str(tmp_path), str(tmp_path))
    assert str(failure.value) == "--runtime: no runtime 'nope'"


def test_a_program_with_threads_starts_a_monitor_of_its_own(box):
    """As `python -I -S`: what is shown and done of it is the same as of one that a command forked."""
    program = f"""
import threading
from veloci.engine.engine import Engine
from veloci.engine.run_options import RunOptions
threading.Thread(target=threading.Event().wait, daemon=True).start()
engine = Engine({str(box.path / "data")!r}, {str(box.path / "run")!r})
id = engine.containers.create("bb", ["sh", "-c", "echo up; sleep 60"], RunOptions(name="it", network="none", restart="always"))
engine.containers.start(id)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    command = Path(f"/proc/{box.monitor('it')}/cmdline").read_bytes().split(b"\0")
    assert command[1:3] == [b"-I", b"-S"]
    assert box.ok("ps", "--format", "{{.Names}} {{.State}}") == "it running\n"
    until(lambda: box.ok("logs", "it") == "up\n")
    assert box.ok("exec", "it", "echo", "inside") == "inside\n"
    assert box.show("it", "{{.HostConfig.RestartPolicy.Name}} {{.State.Running}}") == "always true"
    box.ok("pause", "it")
    box.ok("unpause", "it")
    os.kill(int(box.show("it", "{{.State.Pid}}")), 9)
    box.until("it", "{{.State.Status}} {{.RestartCount}}", "running 1")
    assert box.ok("stop", "-t", "0", "it") == "it\n"
    box.until("it", "{{.State.Status}} {{.State.ExitCode}}", "exited 137")
