"""events: what a container uses, in runc's shape, and kills for want of memory."""

import json
import os
import subprocess
import time

import pytest

pytestmark = pytest.mark.needs("root", "namespaces", "busybox")
MIB = 1 << 20


def shape(value):
    """The names and types in a JSON value."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return type(value).__name__


@pytest.mark.needs("runc")
def test_stats_have_runcs_shape(runtime):
    runtime.detached("sleep", "100", change=lambda c: c["linux"]["resources"].update(pids={"limit": 20}))
    ours = json.loads(runtime("events", "--stats", runtime.id).stdout)
    assert (ours["type"], ours["id"]) == ("stats", runtime.id)
    runtime("delete", "--force", runtime.id)
    runtime.program = "runc"
    runtime._quietly("run", "-d")
    theirs = json.loads(runtime("events", "--stats", runtime.id).stdout)
    runtime("delete", "--force", runtime.id)
    for data in (ours["data"], theirs["data"]):
        data["cpu"]["usage"].pop("percpu_kernel", None)  # of version 1 alone, and runc's only now and then
        data["cpu"]["usage"].pop("percpu_user", None)
        data["blkio"] = {}  # depends on what was read from the disk
        data["memory"].pop("cache", None)
        for part in ("usage", "swap"):  # which version 2 tells since Linux 5.19, and runc 1.1 does not
            data["memory"][part].pop("max", None)
        data.pop("hugetlb")  # other tests mount and unmount that controller
    assert shape(ours) == shape(theirs)
    assert ours["data"]["pids"] == {"current": 1, "limit": 20}
    assert ours["data"]["cpuset"].get("cpus") == theirs["data"]["cpuset"].get("cpus")


def test_version_1_tells_the_use_of_each_processor(runtime):
    if not os.path.exists("/sys/fs/cgroup/cpuacct/cpuacct.usage_all"):
        pytest.skip("this host has no cpuacct.usage_all")
    runtime.detached("sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exec sleep 100")
    usage = {}
    for _ in range(100):
        usage = json.loads(runtime("events", "--stats", runtime.id).stdout)["data"]["cpu"]["usage"]
        if sum(usage["percpu_user"]):
            break
        time.sleep(0.05)
    assert sum(usage["percpu_user"]) > 0
    assert len(usage["percpu_user"]) == len(usage["percpu_kernel"]) == os.cpu_count()


def test_numbers_are_of_this_container(either):
    def change(config):
        config["linux"]["resources"]["memory"] = {"limit": 48 * MIB}

    either.detached("sh", "-c", "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; exec sleep 100", change=change)
    end = time.monotonic() + 20
    while True:
        data = json.loads(either("events", "--stats", either.id).stdout)["data"]
        if data["cpu"]["usage"]["total"] > 10_000_000 or time.monotonic() > end:
            break
        time.sleep(0.05)
    assert data["memory"]["usage"]["limit"] == 48 * MIB
    assert 0 < data["memory"]["usage"]["usage"] < 48 * MIB
    assert data["cpu"]["usage"]["total"] > 10_000_000
    assert data["pids"]["current"] == 1


def follow(runtime, *words):
    command = [runtime.program, "--root", str(runtime.root), "events", *words, runtime.id]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_stats_come_at_the_interval_until_it_ends(runtime):
    runtime.detached("sleep", "100")
    began = time.monotonic()
    with follow(runtime, "--interval", "100ms") as events:
        lines = [events.stdout.readline() for _ in range(3)]
        assert time.monotonic() - began > 0.2
        runtime("kill", runtime.id, "KILL")
        out, error = events.communicate(timeout=60)
    assert (events.returncode, error) == (0, "")
    assert {json.loads(line)["type"] for line in (*lines, *out.splitlines())} == {"stats"}


def test_a_kill_for_want_of_memory_is_told(runtime):
    def change(config):
        config["linux"]["resources"]["memory"] = {"limit": 8 * MIB, "swap": 8 * MIB}
        if not os.path.exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"):
            del config["linux"]["resources"]["memory"]["swap"]
        config["root"]["readonly"] = False
        config["mounts"].append({"destination": "/big", "type": "tmpfs", "source": "tmpfs"})

    script = "while ! test -e /go; do sleep 0.05; done; cat /dev/zero > /big/file; sleep 100"
    runtime.detached("sh", "-c", script, change=change)
    with follow(runtime, "--interval", "100ms") as events:
        events.stdout.readline()  # now it looks
        (runtime.bundle / "rootfs/go").touch()
        told = next(event for event in map(json.loads, events.stdout) if event["type"] != "stats")
        runtime("kill", runtime.id, "KILL")
        events.communicate(timeout=60)
    assert told == {"type": "oom", "id": runtime.id}


@pytest.mark.parametrize("words", [("--stats",), ()])
def test_a_container_that_has_ended_has_no_events(runtime, words):
    runtime.detached("true")
    while runtime.state()["status"] != "stopped":
        pass
    done = runtime("events", *words, runtime.id)
    assert (done.returncode, done.stderr) == (1, f"veloci-runtime: container with id {runtime.id} is not running\n")


@pytest.mark.parametrize("text", ["0s", "5", "x", "-1s"])
def test_an_interval_that_is_none_is_refused(runtime, text):
    runtime.detached("sleep", "100")
    done = runtime("events", f"--interval={text}", runtime.id)
    assert done.stderr == f"veloci-runtime: --interval: {text!r} is not a time above zero, as 500ms or 5s\n"
