"""What becomes of a container when its monitor, its first process or its client is killed."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from box import until

pytestmark = pytest.mark.needs("root", "namespaces", "overlay", "busybox", "nft")


def orphan(box, *words, name="it", network="none", command=("sleep", "60")):
    """A running container whose monitor has been killed: its ID."""
    id = box.started("--name", name, *words, "bb", *command, network=network)
    if "echo up" in command[-1]:
        until(lambda: box.ok("logs", name))
    killed(box.monitor(name))
    return id


def killed(pid):
    os.kill(pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists() or "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text())


def shown(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def traces(id):
    """What the host still knows of a container by its ID: cgroups, mounts, processes."""
    found = [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/veloci-{id}")]
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if id in line]
    return found + [line for line in shown("ps", "axww", "-o", "args").splitlines() if id in line]


def test_one_whose_monitor_is_gone_is_shown_as_it_is(box):
    orphan(box)
    assert box.show("it", "{{.State.Status}} {{.State.Running}}") == "running true"
    assert box.ok("ps", "--format", "{{.Names}} {{.State}}") == "it running\n"
    assert box.ok("exec", "it", "echo", "alive") == "alive\n"
    os.kill(int(box.show("it", "{{.State.Pid}}")), signal.SIGKILL)
    box.until("it", "{{.State.Status}} {{.State.ExitCode}}", "exited 255")
    assert box.ok("ps", "-a", "--format", "{{.Names}} {{.State}}") == "it exited\n"


def test_rm_removes_all_of_it(box):
    id = orphan(box, "-p", "8000", network="bridge")
    lease = json.loads((box.path / "run/containers" / id / "lease.json").read_text())
    port = str(lease["ports"][0]["hostPort"])
    assert traces(id)
    assert lease["veth"] in shown("ip", "link")
    assert port in shown("nft", "list", "ruleset")
    assert box.veloci("rm", "it").returncode == 1
    assert box.ok("rm", "-f", "it") == "it\n"
    assert traces(id) == []
    assert lease["veth"] not in shown("ip", "link")
    assert port not in shown("nft", "list", "ruleset")
    assert [path for path in (box.path / "run/containers").iterdir() if path.name[0] != "."] == []
    assert box.ok("run", "--rm", "--name", "it", "bb", "echo", "again") == "again\n"


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_rm_removes_all_of_another_runtimes(box, runtime):
    id = orphan(box, "--runtime", runtime)
    assert box.ok("rm", "-f", "it") == "it\n"
    assert traces(id) == []


def test_stop_ends_it_in_good_order(box):
    traps = ("sh", "-c", "trap 'exit 4' TERM; echo up; while :; do sleep 0.1; done")
    id = orphan(box, network="bridge", command=traps)
    began = time.monotonic()
    assert box.ok("stop", "it") == "it\n"
    assert time.monotonic() - began < 5  # it obeyed the signal
    assert box.show("it", "{{.State.Status}}") == "exited"
    assert traces(id) == []


def test_stop_kills_one_that_does_not_obey(box):
    id = orphan(box)
    assert box.ok("stop", "-t", "1", "it") == "it\n"
    assert box.show("it", "{{.State.Status}}") == "exited"
    assert traces(id) == []


def test_kill_reaches_it_and_wait_sees_its_end(box):
    orphan(box)
    with box.background("wait", "it") as waiting:
        time.sleep(0.3)
        assert waiting.poll() is None
        assert box.ok("kill", "it") == "it\n"
        assert waiting.communicate(timeout=20)[0] == "255\n"


def test_it_starts_again(box):
    id = orphan(box, "-p", "8000", network="bridge")
    assert box.veloci("start", "it").returncode == 0  # it runs; docker says nothing either
    os.kill(int(box.show("it", "{{.State.Pid}}")), signal.SIGKILL)
    box.until("it", "{{.State.Status}}", "exited")
    assert box.ok("start", "it") == "it\n"
    assert box.show("it", "{{.State.Status}}") == "running"
    box.ok("rm", "-f", "it")
    assert traces(id) == []


def test_the_end_of_its_first_process_by_kill_is_137(box):
    id = box.started("--name", "it", "bb", "sleep", "60", network="bridge")
    os.kill(int(box.show("it", "{{.State.Pid}}")), signal.SIGKILL)
    box.until("it", "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}", "exited 137 false")
    assert traces(id) == []
    with box.background("run", "--name", "other", "--network", "none", "bb", "sh", "-c", "echo up; sleep 60") as client:
        client.stdout.readline()
        os.kill(int(box.show("other", "{{.State.Pid}}")), signal.SIGKILL)
        assert client.wait(20) == 137


def test_a_client_that_is_killed_leaves_it_running(box):
    with box.background(
        "run", "--name", "it", "--network", "none", "bb", "sh", "-c", "while :; do echo up; sleep 0.1; done"
    ) as client:
        client.stdout.readline()
        client.kill()
    assert box.show("it", "{{.State.Status}}") == "running"
    lines = len(box.ok("logs", "it"))
    until(lambda: len(box.ok("logs", "it")) > lines)


def test_a_monitor_killed_before_the_container_runs_leaves_nothing(box):
    """Its client, too: both at a random moment of the start."""
    for delay in (0.03, 0.06, 0.09, 0.12, 0.15):
        with box.background("run", "--rm", "--name", "it", "bb", "sleep", "60", start_new_session=True) as client:
            time.sleep(delay)
            children = subprocess.run(
                ["pgrep", "-P", str(client.pid)], capture_output=True, text=True, check=False
            ).stdout
            for pid in (*map(int, children.split()), client.pid):
                os.kill(pid, signal.SIGKILL)
        box.veloci("rm", "-f", "it")
        assert box.ok("run", "--rm", "--name", "it", "bb", "echo", "next") == "next\n"
