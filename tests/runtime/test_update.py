"""update: every flag, and resources as JSON; the files are version 1's: those of 2 are in test_cgroups_unified."""

import json
import os
import subprocess
from pathlib import Path

import pytest

CGROUP = Path("/sys/fs/cgroup")
pytestmark = pytest.mark.needs("root", "namespaces", "busybox")
V1 = pytest.mark.skipif(
    not (CGROUP / "memory/memory.limit_in_bytes").exists(), reason="this host has no cgroup version 1"
)
GROUP = f"veloci-update-{os.getpid()}"
MIB = 1 << 20


@pytest.fixture
def running(either):
    """A container that runs in a group of its own name."""

    def change(config):
        config["linux"]["cgroupsPath"] = f"/{GROUP}"
        config["linux"]["resources"]["memory"] = {"limit": 64 * MIB}
        config["linux"]["resources"]["cpu"] = {"period": 100000, "quota": 90000}

    either.detached("sleep", "100", change=change)
    return either


def value(controller, file):
    return (CGROUP / controller / GROUP / file).read_text().strip()


FLAGS = [
    (["--memory", "32M"], "memory", "memory.limit_in_bytes", str(32 * MIB)),
    (["--memory", str(48 * MIB)], "memory", "memory.limit_in_bytes", str(48 * MIB)),
    (["--memory-reservation", "16m"], "memory", "memory.soft_limit_in_bytes", str(16 * MIB)),
    (["--memory", "-1"], "memory", "memory.limit_in_bytes", "9223372036854771712"),
    (["--pids-limit", "30"], "pids", "pids.max", "30"),
    (["--pids-limit", "-1"], "pids", "pids.max", "max"),
    (["--cpu-share", "100"], "cpu", "cpu.shares", "100"),
    (["--cpu-quota", "60000"], "cpu", "cpu.cfs_quota_us", "60000"),
    (["--cpu-period", "200000"], "cpu", "cpu.cfs_period_us", "200000"),
    (["--cpu-period", "20000", "--cpu-quota", "10000"], "cpu", "cpu.cfs_quota_us", "10000"),
    (["--cpu-quota", "-1"], "cpu", "cpu.cfs_quota_us", "-1"),
    (["--cpu-rt-period", "800000", "--cpu-rt-runtime", "500"], "cpu", "cpu.rt_runtime_us", "500"),
    (["--cpuset-cpus", "0"], "cpuset", "cpuset.cpus", "0"),
    (["--cpuset-mems", "0"], "cpuset", "cpuset.mems", "0"),
]


@V1
def test_every_flag_changes_its_file_and_leaves_the_others(running):
    for words, controller, file, wanted in FLAGS:
        if file.startswith("cpu.rt") and not (CGROUP / controller / file).exists():
            continue  # a kernel without limits of real time
        done = running("update", *words, running.id)
        assert (done.returncode, done.stderr) == (0, ""), words
        assert value(controller, file) == wanted, words
    assert value("pids", "pids.max") == "max"  # as the last flag about it said
    assert value("cpu", "cpu.shares") == "100"


@V1
def test_flags_of_newer_runcs(runtime):
    runtime.detached("sleep", "100", change=lambda c: c["linux"].update(cgroupsPath=f"/{GROUP}"))
    for words, file, wanted in (
        (["--cpu-idle", "1"], "cpu.idle", "1"),
        (["--cpu-idle", "0"], "cpu.idle", "0"),
        (["--cpu-quota", "50000", "--cpu-burst", "10000"], "cpu.cfs_burst_us", "10000"),
    ):
        assert runtime("update", *words, runtime.id).returncode == 0
        assert value("cpu", file) == wanted


WANTED = {"memory": {"limit": 40 * MIB}, "cpu": {"shares": 300, "cpus": "0"}, "pids": {"limit": 12}}


@V1
@pytest.mark.parametrize("place", ["file", "stdin"])
def test_resources_are_read_as_json(running, tmp_path, place):
    (tmp_path / "resources").write_text(json.dumps(WANTED))
    name = "-" if place == "stdin" else str(tmp_path / "resources")
    words = [running.program, "--root", str(running.root), "update", "--resources", name, running.id]
    subprocess.run(words, input=json.dumps(WANTED), text=True, check=True, timeout=20)
    assert value("memory", "memory.limit_in_bytes") == str(40 * MIB)
    assert (value("cpu", "cpu.shares"), value("cpuset", "cpuset.cpus"), value("pids", "pids.max")) == ("300", "0", "12")


@V1
def test_a_container_that_is_created_can_be_updated(either):
    either.created("true", change=lambda c: c["linux"].update(cgroupsPath=f"/{GROUP}"))
    assert either("update", "--pids-limit", "9", either.id).returncode == 0
    assert value("pids", "pids.max") == "9"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--memory", "a lot"], "--memory: invalid size: 'a lot'"),
        (["--pids-limit", "x"], "--pids-limit: 'x' is not a whole number"),
        (
            ["--cpuset-cpus", "999"],
            "config.json: $.linux.resources.cpu.cpus: set cpuset.cpus to 999: Numerical result out of range",
        ),
        (["--resources", "/nope"], "--resources: /nope: No such file or directory"),
    ],
)
def test_what_cannot_be_is_named(runtime, words, message):
    runtime.detached("sleep", "100", change=lambda c: c["linux"].update(cgroupsPath=f"/{GROUP}"))
    assert runtime("update", *words, runtime.id).stderr.splitlines()[0] == f"veloci-runtime: {message}"


def test_a_container_that_has_ended_cannot_be_updated(runtime):
    runtime.detached("true")
    while runtime.state()["status"] != "stopped":
        pass
    assert runtime("update", "--pids-limit", "9", runtime.id).stderr == "veloci-runtime: container not running\n"


@V1
def test_a_realtime_period_shorter_than_the_runtime_there_is_comes_after_the_new_runtime():
    from veloci.runtime.cgroup import v1
    from veloci.spec.runtime import Resources

    group = CGROUP / "cpu" / f"{GROUP}-rt"
    if not (CGROUP / "cpu/cpu.rt_period_us").exists():
        pytest.skip("this kernel has no realtime groups")
    group.mkdir()
    try:
        for period, share in ((900_000, 60_000), (10_000, 3_000), (100_000, 2_000)):
            cpu = {"realtimePeriod": period, "realtimeRuntime": share}
            v1.apply({"cpu": str(group)}, Resources.convert({"cpu": cpu}), devices=False)
            said = [int((group / f"cpu.rt_{name}_us").read_text()) for name in ("period", "runtime")]
            assert said == [period, share]
    finally:
        group.rmdir()


def test_access_letters_that_are_not_known_are_left_out_and_told(tmp_path, runtime):
    log = tmp_path / "log"
    rules = [{"allow": False, "access": "rwm"}, {"allow": False, "type": "c", "major": 1, "minor": 11, "access": "rwa"}]
    runtime.configure("true", change=lambda c: c["linux"]["resources"].update(devices=rules))
    done = runtime("--log", str(log), "run", "--bundle", str(runtime.bundle), runtime.id)
    assert done.returncode == 0, done.stderr
    assert "devices[1].access: ignoring what is none of r, w, m in 'rwa'" in log.read_text()
