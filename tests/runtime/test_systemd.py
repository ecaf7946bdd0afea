"""Control groups that systemd makes, beside runc's (in the virtual machine); and what does not take a systemd."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from runtimes import PROGRAM

from veloci.errors import InvalidInput
from veloci.runtime.cgroup.gvariant import annotated
from veloci.runtime.cgroup.properties import properties
from veloci.spec.runtime import Resources

booted = pytest.mark.skipif(not Path("/run/systemd/system").is_dir(), reason="systemd does not run this host")
UNIFIED = Path("/sys/fs/cgroup/cgroup.controllers").exists()
V2 = pytest.mark.skipif(not UNIFIED, reason="version 2 is not alone on this host")
V1 = pytest.mark.skipif(UNIFIED, reason="this host has no cgroup version 1")
MIB = 1 << 20
NAME = f"t{os.getpid()}"
SCOPE = f"box-{NAME}.scope"
LIMITS = {
    "memory": {"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 32 * MIB},
    "cpu": {"shares": 512, "quota": 20000, "period": 50000, "cpus": "0", "mems": "0"},
    "pids": {"limit": 33},
}
V2_FILES = (
    "memory.max",
    "memory.swap.max",
    "memory.low",
    "cpu.weight",
    "cpu.max",
    "cpuset.cpus",
    "cpuset.mems",
    "pids.max",
)
SHOWN = (
    "Slice Delegate DefaultDependencies MemoryAccounting CPUAccounting IOAccounting BlockIOAccounting TasksAccounting "
    "MemoryMax MemoryLimit MemoryLow MemorySwapMax CPUWeight CPUShares CPUQuotaPerSecUSec CPUQuotaPeriodUSec "
    "AllowedCPUs AllowedMemoryNodes TasksMax BlockIOWeight DevicePolicy Requires Transient ControlGroup ActiveState"
).split()


def scoped(path=f"machine-veloci.slice:box:{NAME}", **fields):
    """A change to a configuration whose group is systemd's."""

    def change(config):
        config["linux"]["cgroupsPath"] = path
        config["linux"]["resources"].update(fields)

    return change


def slices():
    return set(Path("/sys/fs/cgroup").rglob("*.slice"))


@pytest.fixture(scope="module", autouse=True)
def _no_slice_stays():
    """Slices stay in the hierarchies of version 1 that systemd has nothing to do with, as cpuset: with runc as with us."""
    before = slices()
    yield
    for path in sorted(slices() - before, reverse=True):  # those within others first
        path.rmdir()


@pytest.fixture
def scope(either):
    """Either runtime, with --systemd-cgroup before every command."""
    program = either.root.parent / "program"
    program.write_text(f'#!/bin/sh\nexec {either.program} --systemd-cgroup "$@"\n')
    program.chmod(0o755)
    either.program = str(program)
    return either


def shown(unit, *names):
    words = ["systemctl", "show", unit, *(f"--property={name}" for name in names)]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted(lines)


def placed(groups):
    """The lines of /proc/PID/cgroup that runc keeps in the scope: devices it leaves to systemd, misc it does not know."""
    return [line for line in groups.splitlines() if not {*line.split(":")[1].split(",")} & {"devices", "misc"}]


def directory(controller=""):
    return Path("/sys/fs/cgroup") / controller / f"machine.slice/machine-veloci.slice/{SCOPE}"


@pytest.fixture(autouse=True, scope="module")
def _slices():
    """The slices that systemd made for the scopes stay; they go at the end."""
    yield
    if Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "stop", "machine-veloci.slice", "machine.slice"], check=True)


# --- on a host with systemd -------------------------------------------------------------------------

KNOWN = {}  # what runc's scope looked like, for ours to be like it


@booted
@pytest.mark.needs("root", "namespaces", "busybox", "runc")
@pytest.mark.parametrize("program", ["runc", PROGRAM], ids=["runc", "veloci"])
def test_a_scope_has_the_properties_of_runcs(program, tmp_path):
    from runtimes import Runtime

    it = Runtime(tmp_path, program)
    it.configure("sleep", "100", change=scoped(**LIMITS))
    with open(tmp_path / "out", "w") as out:
        words = [program, "--root", str(it.root), "--systemd-cgroup", "run", "-d", "--bundle", str(it.bundle), it.id]
        subprocess.run(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=60, check=True)
    try:
        seen = shown(SCOPE, *SHOWN)
        devices = set(shown(SCOPE, "DeviceAllow"))
        devices -= {"DeviceAllow=/dev/char/10:200 rwm"}  # runc until 1.2 lets in /dev/net/tun, where there is one
        pid = it.state()["pid"]
        groups = Path(f"/proc/{pid}/cgroup").read_text()
    finally:
        it("delete", "--force", it.id)
    assert KNOWN.setdefault("shown", seen) == seen
    assert KNOWN.setdefault("devices", devices) == devices
    groups = placed(groups)
    assert KNOWN.setdefault("groups", groups) == groups
    assert f"/machine.slice/machine-veloci.slice/{SCOPE}" in groups[0]
    assert shown(SCOPE, "LoadState") == ["LoadState=not-found"]


@booted
@V2
@pytest.mark.needs("root", "namespaces", "busybox")
def test_a_scope_has_the_limits_in_version_2(scope):
    scope.detached("sleep", "100", change=scoped(**LIMITS))
    files = [(directory() / file).read_text().strip() for file in V2_FILES]
    assert files == [str(64 * MIB), str(32 * MIB), str(32 * MIB), "20", "20000 50000", "0", "0", "33"]


@booted
@V1
@pytest.mark.needs("root", "namespaces", "busybox")
def test_a_scope_has_the_limits_in_version_1(scope):
    scope.detached("sleep", "100", change=scoped(memory={"limit": 64 * MIB}, cpu={"shares": 512}, pids={"limit": 33}))
    files = [("memory", "memory.limit_in_bytes"), ("cpu", "cpu.shares"), ("pids", "pids.max")]
    assert [(directory(name) / file).read_text().strip() for name, file in files] == [str(64 * MIB), "512", "33"]
    groups = placed(Path(f"/proc/{scope.state()['pid']}/cgroup").read_text())
    # Without version 2 the kernel may still say where each is in it: in its root.
    there = " - cgroup2 " in Path("/proc/self/mountinfo").read_text()
    assert [line for line in groups if SCOPE not in line and (there or line != "0::/")] == []
    scope("delete", "--force", scope.id)
    assert list(Path("/sys/fs/cgroup").glob(f"*/machine.slice/*/{SCOPE}")) == []


@booted
@V2
@pytest.mark.needs("root", "namespaces", "busybox")
def test_an_update_reaches_systemd_and_the_files(scope):
    scope.detached("sleep", "100", change=scoped(**LIMITS))
    words = "--memory 33554432 --memory-swap 50331648 --cpu-share 256 --pids-limit 20 --cpu-quota 30000".split()
    done = scope("update", *words, scope.id)
    assert done.returncode == 0, done.stderr
    assert shown(SCOPE, "MemoryMax", "MemorySwapMax", "CPUWeight", "TasksMax", "CPUQuotaPerSecUSec") == [
        "CPUQuotaPerSecUSec=600ms",
        "CPUWeight=10",
        f"MemoryMax={32 * MIB}",
        f"MemorySwapMax={16 * MIB}",
        "TasksMax=20",
    ]
    files = [(directory() / file).read_text().strip() for file in ("memory.max", "cpu.weight", "pids.max", "cpu.max")]
    assert files == [str(32 * MIB), "10", "20", "30000 50000"]
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    files = [(directory() / file).read_text().strip() for file in ("memory.max", "cpu.weight", "pids.max", "cpu.max")]
    assert files == [str(32 * MIB), "10", "20", "30000 50000"]  # systemd undoes nothing


@booted
@V1
@pytest.mark.needs("root", "namespaces", "busybox")
def test_an_update_reaches_systemd_and_the_files_in_version_1(scope):
    scope.detached("sleep", "100", change=scoped(memory={"limit": 64 * MIB}, cpu={"shares": 512}, pids={"limit": 33}))
    done = scope("update", *"--memory 33554432 --cpu-share 256 --pids-limit 20".split(), scope.id)
    assert done.returncode == 0, done.stderr
    for _ in range(2):
        assert shown(SCOPE, "MemoryLimit", "CPUShares", "TasksMax") == [
            "CPUShares=256",
            f"MemoryLimit={32 * MIB}",
            "TasksMax=20",
        ]
        files = [("memory", "memory.limit_in_bytes"), ("cpu", "cpu.shares"), ("pids", "pids.max")]
        assert [(directory(name) / file).read_text().strip() for name, file in files] == [str(32 * MIB), "256", "20"]
        subprocess.run(["systemctl", "daemon-reload"], check=True)  # undoes nothing


@booted
@pytest.mark.needs("root", "namespaces", "busybox")
def test_a_scope_is_entered_paused_and_goes_with_its_container(scope):
    scope.detached("sleep", "100", change=scoped())
    assert SCOPE in scope("exec", scope.id, "cat", "/proc/self/cgroup").stdout
    assert scope("pause", scope.id).returncode == 0
    assert scope.state()["status"] == "paused"
    assert scope("resume", scope.id).returncode == 0
    assert scope("delete", "--force", scope.id).returncode == 0
    assert shown(SCOPE, "LoadState") == ["LoadState=not-found"]


@booted
@pytest.mark.needs("root", "namespaces", "busybox")
def test_a_stopped_container_leaves_no_unit(scope):
    done = scope.run("sh", "-c", "exit 3", change=scoped())
    assert done.returncode == 3, done.stderr
    assert shown(SCOPE, "LoadState") == ["LoadState=not-found"]
    assert scope.left() == []


@booted
@pytest.mark.needs("root", "namespaces", "busybox")
def test_without_a_path_the_scope_is_in_the_system_slice(runtime):
    runtime.configure("sleep", "100")
    with open(runtime.root.parent / "out", "w") as out:
        words = [runtime.program, "--root", str(runtime.root), "--systemd-cgroup", "run", "-d", "--bundle"]
        words += [str(runtime.bundle), runtime.id]
        subprocess.run(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=60, check=True)
    assert shown(f"veloci-{runtime.id}.scope", "Slice", "ActiveState") == ["ActiveState=active", "Slice=system.slice"]


@booted
@pytest.mark.needs("root", "namespaces", "busybox")
def test_a_scope_is_made_anew_in_place_of_one_that_has_failed(scope):
    subprocess.run(
        ["systemd-run", "--scope", f"--unit={SCOPE}", "--slice=machine-veloci.slice", "sleep", "0.1"],
        check=False,
        capture_output=True,
    )
    scope.detached("sleep", "100", change=scoped())
    assert shown(SCOPE, "ActiveState") == ["ActiveState=active"]


@booted
@pytest.mark.needs("root", "namespaces", "busybox")
def test_annotations_are_properties(scope):
    def change(config):
        scoped()(config)
        config["annotations"] = {
            "org.systemd.property.TimeoutStopUSec": "uint64 5000000",
            "org.systemd.property.CollectMode": "'inactive-or-failed'",
        }

    scope.detached("sleep", "100", change=change)
    assert shown(SCOPE, "TimeoutStopUSec", "CollectMode") == ["CollectMode=inactive-or-failed", "TimeoutStopUSec=5s"]


@booted
@pytest.mark.needs("root", "namespaces", "busybox")
def test_what_systemd_refuses_is_said_and_leaves_nothing(runtime):
    def change(config):
        scoped()(config)
        config["annotations"] = {"org.systemd.property.NoSuchThing": "true"}

    runtime.configure("true", change=change)
    done = runtime("--systemd-cgroup", "run", "--bundle", str(runtime.bundle), runtime.id)
    assert done.returncode == 1
    assert done.stderr.startswith(f"veloci-runtime run failed: start the unit {SCOPE}: ")
    assert "NoSuchThing" in done.stderr
    assert runtime.left() == []


@booted
@pytest.mark.needs("root", "namespaces", "busybox")
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/a/b", 'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "/a/b" instead'),
        ("a.slice:b:c:d", 'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "a.slice:b:c:d" instead'),
        ("a:b:c", "invalid slice name: a"),
        ("a--b.slice:b:c", "invalid slice name: a--b.slice"),
        ("../x.slice:b:c", "invalid slice name: ../x.slice"),
        ("a.slice:b:../../c", "'/a.slice/b-../../c.scope' is not a path below the hierarchy"),
    ],
)  # fmt: skip
def test_a_path_that_is_no_scope_is_refused(runtime, path, message):
    runtime.configure("true", change=lambda config: config["linux"].update(cgroupsPath=path))
    done = runtime("--systemd-cgroup", "run", "--bundle", str(runtime.bundle), runtime.id)
    assert done.stderr == f"veloci-runtime run failed: config.json: $.linux.cgroupsPath: {message}\n"
    assert runtime.left() == []


# --- anywhere -----------------------------------------------------------------------------------------


@pytest.mark.skipif(Path("/run/systemd/system").is_dir(), reason="systemd runs this host")
@pytest.mark.needs("root", "busybox")
def test_without_systemd_the_flag_is_refused(runtime):
    runtime.configure("true")
    done = runtime("--systemd-cgroup", "run", "--bundle", str(runtime.bundle), runtime.id)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "veloci-runtime run failed: --systemd-cgroup: systemd not running on this host, cannot use systemd cgroups manager",
        "  try: let the caller use the driver cgroupfs",
    ]
    assert runtime.left() == []


def told(resources, *, unified=True, devices=False, version=252):
    decoded = Resources.decode(json.dumps(resources).encode(), name="resources")
    return [
        (name, value) for name, (_, value) in properties(decoded, unified=unified, devices=devices, version=version)
    ]


def test_limits_are_properties_of_version_2():
    assert told(LIMITS) == [
        ("MemoryMax", 64 * MIB),
        ("MemoryLow", 32 * MIB),
        ("MemorySwapMax", 32 * MIB),
        ("CPUWeight", 20),
        ("CPUQuotaPeriodUSec", 50000),
        ("CPUQuotaPerSecUSec", 400_000),
        ("AllowedCPUs", b"\1"),
        ("AllowedMemoryNodes", b"\1"),
        ("TasksMax", 33),
    ]


def test_limits_are_properties_of_version_1():
    wanted = {**LIMITS, "blockIO": {"weight": 300}}
    assert told(wanted, unified=False, version=239) == [
        ("MemoryLimit", 64 * MIB),
        ("CPUShares", 512),
        ("CPUQuotaPerSecUSec", 400_000),
        ("BlockIOWeight", 300),
        ("TasksMax", 33),
    ]


@pytest.mark.parametrize(
    ("cpu", "second"),
    [({"quota": 12345}, 130_000), ({"quota": 10000, "period": 300000}, 40_000), ({"quota": -1}, 2**64 - 1)],
)
def test_a_share_of_the_processor_is_rounded_up_to_percents(cpu, second):
    assert told({"cpu": cpu})[-1] == ("CPUQuotaPerSecUSec", second)


def test_no_limit_is_infinity():
    wanted = {"memory": {"limit": -1, "swap": -1}, "pids": {"limit": -1}}
    assert told(wanted) == [(name, 2**64 - 1) for name in ("MemoryMax", "MemorySwapMax", "TasksMax")]


def test_files_of_version_2_are_properties_too():
    files = {
        "memory.high": "max",
        "cpu.max": "50000 100000",
        "cpuset.cpus": "0-3,9",
        "pids.max": "7",
        "io.max": "8:0 rbps=1",
    }
    assert told({"unified": files}) == [
        ("MemoryHigh", 2**64 - 1),
        ("CPUQuotaPeriodUSec", 100_000),
        ("CPUQuotaPerSecUSec", 500_000),
        ("AllowedCPUs", b"\x0f\x02"),
        ("TasksMax", 7),
    ]
    with pytest.raises(InvalidInput, match=r"resources\.unified\.pids\.max: 'few' is not a number"):
        told({"unified": {"pids.max": "few"}})


def test_device_rules_are_a_list_of_what_is_allowed():
    wanted = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "b", "major": 7, "minor": 1, "access": "rw"},
        {"allow": True, "type": "b", "major": 7, "minor": 1, "access": "m"},
        {"allow": True, "type": "c", "major": 10, "minor": 200, "access": "rwm"},
        {"allow": False, "type": "c", "major": 10, "minor": 200, "access": "w"},
    ]
    policy, empty, allowed = told({"devices": wanted}, devices=True)
    assert (policy, empty) == (("DevicePolicy", "strict"), ("DeviceAllow", []))
    names = dict(allowed[1])
    assert (names["/dev/block/7:1"], names["/dev/char/10:200"]) == ("rwm", "rm")
    assert (names["char-*"], names["block-*"], names["/dev/char/1:3"]) == ("m", "m", "rwm")
    everything = [{"allow": True, "access": "rwm"}]
    assert told({"devices": everything}, devices=True) == [("DevicePolicy", "auto"), ("DeviceAllow", [])]


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("TimeoutStopUSec", "uint64 600000000", ("TimeoutStopUSec", ("t", 600_000_000))),
        ("TimeoutStopSec", "5", ("TimeoutStopUSec", ("t", 5_000_000))),
        ("DefaultDependencies", "true", ("DefaultDependencies", ("b", True))),
        ("After", "['a.service', 'b.service']", ("After", ("as", ["a.service", "b.service"]))),
        ("CollectMode", "'inactive-or-failed'", ("CollectMode", ("s", "inactive-or-failed"))),
    ],
)
def test_annotations_are_read_as_gvariants(name, text, wanted):
    assert list(annotated({f"org.systemd.property.{name}": text, "other": "x"})) == [wanted]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("CollectMode", "inactive", "'inactive' is not a value as 'text', true, 5, uint64 5 or ['a']"),
        ("After", "[a]", "'a' is no text in quotes"),
        ("TimeoutStopSec", "'x'", "\"'x'\" is not a number of seconds"),
        ("lower", "1", "'lower' is no name of a property"),
    ],
)
def test_an_annotation_that_is_no_property_is_refused(name, text, message):
    with pytest.raises(InvalidInput) as caught:
        list(annotated({f"org.systemd.property.{name}": text}))
    assert str(caught.value) == f"config.json: $.annotations.org.systemd.property.{name}: {message}"
