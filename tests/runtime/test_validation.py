"""What is wrong in a config.json is said with its place before any process exists."""

import contextlib
import json

import pytest

from veloci.bundle.defaults import default
from veloci.errors import InvalidInput, VelociError
from veloci.runtime import plan
from veloci.runtime.identity import check_text
from veloci.runtime.starting import prepare
from veloci.spec.document import Wrong, dumps
from veloci.spec.runtime import Config

IDS = [{"containerID": 0, "hostID": 1000, "size": 10}]


def whole():
    """A configuration in which every field stands."""
    config = default()
    process, linux = config["process"], config["linux"]
    process.update(
        scheduler={"policy": "SCHED_DEADLINE", "nice": 1, "priority": 0, "flags": ["SCHED_FLAG_RESET_ON_FORK"], "runtime": 1, "deadline": 2, "period": 3},
        ioPriority={"class": "IOPRIO_CLASS_IDLE", "priority": 1},
        execCPUAffinity={"initial": "0", "final": "1"},
        oomScoreAdj=5,
        consoleSize={"height": 1, "width": 2},
        rlimits=[{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}],
    )  # fmt: skip
    process["user"].update(umask=18, additionalGids=[1, 2])
    hook = {"path": "/x", "args": ["a"], "env": ["A=b"], "timeout": 1}
    names = ("prestart", "poststop", "createRuntime", "createContainer", "startContainer", "poststart")
    config.update(hooks={name: [hook] for name in names}, annotations={"a": "b"}, domainname="x")
    linux["namespaces"] += [{"type": "time"}, {"type": "user"}, {"type": "cgroup"}]
    linux.update(
        uidMappings=IDS,
        gidMappings=IDS,
        timeOffsets={"boottime": {"secs": 1, "nanosecs": 2}},
        sysctl={"net.ipv4.ip_forward": "1"},
        rootfsPropagation="slave",
        personality={"domain": "LINUX", "flags": []},
        memoryPolicy={"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
        netDevices={"eth0": {"name": "x"}},
        cgroupsPath="/x",
        devices=[{"type": "c", "path": "/dev/x", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0}],
        seccomp={
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 1,
            "syscalls": [{"names": ["read"], "action": "SCMP_ACT_TRACE", "errnoRet": 1, "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_EQ"}]}],
        },
        resources={
            "devices": [{"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}],
            "memory": {"limit": 1, "reservation": 1, "swap": 1, "kernel": 1, "kernelTCP": 1, "swappiness": 1, "disableOOMKiller": True, "useHierarchy": True, "checkBeforeUpdate": True},
            "cpu": {"shares": 1, "quota": 1, "burst": 1, "period": 1, "cpus": "0", "mems": "0", "idle": 0},
            "pids": {"limit": 1},
            "blockIO": {"weight": 10, "weightDevice": [{"major": 1, "minor": 1, "weight": 10}], "throttleReadBpsDevice": [{"major": 1, "minor": 1, "rate": 1}]},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
            "network": {"classID": 1, "priorities": [{"name": "lo", "priority": 1}]},
            "rdma": {"a": {"hcaHandles": 1, "hcaObjects": 1}},
            "unified": {"a": "b"},
        },
    )  # fmt: skip
    config["mounts"].append(
        {
            "destination": "/b",
            "source": "/usr",
            "type": "none",
            "options": ["bind", "idmap"],
            "uidMappings": IDS,
            "gidMappings": IDS,
        }
    )
    return json.loads(json.dumps(config))  # nothing in it stands in two places, or outlasts a change


def places(node, path=()):
    """The place of every value in a document."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


@contextlib.contextmanager
def changed(config, path, value):
    """The same document with another value at a place, while the context lasts."""
    node = config
    for key in path[:-1]:
        node = node[key]
    before, node[path[-1]] = node[path[-1]], value
    yield
    node[path[-1]] = before


def values(config):
    """Every place of a document and what stands there."""
    for path in list(places(config)):
        value = config
        for key in path:
            value = value[key]
        yield path, value


def refusal(config):
    """Where a document is refused."""
    try:
        Config.convert(config)
    except Wrong as error:
        return f"${error.path}"
    return None


def compiled(config):
    groups = {"pids": "/sys/fs/cgroup/pids/x"}
    return plan.compile(Config.decode(dumps(config), name="config.json"), "/b", groups)


def test_every_field_stands_and_is_accepted():
    assert len(compiled(whole())["steps"]) > 50


def written(path):
    return "$" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)


def test_a_value_of_a_wrong_type_is_refused_at_its_place_wherever_it_stands():
    config, count = whole(), 0
    for path, value in values(config):
        for wrong in (1.5, True, "x", [], {}, 7, [7], {"x": 7}):
            if type(wrong) is not type(value):
                with changed(config, path, wrong):
                    assert (refusal(config) or "").startswith(written(path)), (path, wrong)
                count += 1
    assert count > 1000


def test_a_number_out_of_its_range_is_refused_at_its_place():
    config = whole()
    for path, value in values(config):
        if type(value) is int and path[1] != "user":  # whose numbers the plan checks
            for wrong in (2**64, -(2**63) - 1):
                with changed(config, path, wrong):
                    assert refusal(config) == written(path)


def test_text_with_a_nul_is_refused_at_its_place():
    config = whole()
    for path, value in values(config):
        if type(value) is str and path[-1] not in ("type", "ociVersion"):
            with changed(config, path, value + "a\0b"), pytest.raises(InvalidInput, match="holds a NUL") as caught:
                check_text(config, "config.json: $")
            assert caught.value.where == f"config.json: {written(path)}"


def test_text_with_a_nul_is_looked_for_in_a_document_as_it_is_written(tmp_path):
    (tmp_path / "rootfs").mkdir()
    config = whole()
    config["linux"]["cgroupsPath"] = "/a\0b"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidInput, match="holds a NUL"):
        prepare("x", str(tmp_path), None, console=True, pivot=True, keyring=True)


@pytest.mark.parametrize(
    "field",
    [
        ("ociVersion",),
        ("mounts", 0, "destination"),
        ("process", "cwd"),
        ("linux", "namespaces", 0, "type"),
        ("linux", "seccomp", "defaultAction"),
        ("hooks", "prestart", 0, "path"),
    ],
)
def test_a_field_that_is_required_is_missed_by_its_name(field):
    config = whole()
    node = config
    for key in field[:-1]:
        node = node[key]
    del node[field[-1]]
    with pytest.raises(InvalidInput, match=f"missing '{field[-1]}'"):
        compiled(config)


CASES = [
    (lambda c: c.update(ociVersion="2.0.0"), "$.ociVersion: version '2.0.0' of the specification"),
    (lambda c: c.pop("root"), "$.root: root must be specified"),
    (lambda c: c.pop("process"), "$.process: process must be specified"),
    (lambda c: c["root"].update(path=""), "$.root.path: must not be empty"),
    (lambda c: c["process"].update(args=[]), "$.process.args: args must not be empty"),
    (lambda c: c["process"].update(args=[""]), "$.process.args[0]: must not be empty"),
    (lambda c: c["process"].update(cwd="x"), "$.process.cwd: 'x' is not an absolute path"),
    (lambda c: c["process"].update(env=["=x"]), "$.process.env[0]: '=x' is not NAME=VALUE"),
    (lambda c: c["process"]["user"].update(uid=-1), "$.process.user.uid: -1 is not between 0 and 4294967294"),
    (lambda c: c["process"]["user"].update(gid=2**32 - 1), "$.process.user.gid: 4294967295 is not between 0 and 4294967294"),
    (lambda c: c["process"]["user"].update(additionalGids=[2**32]), "$.process.user.additionalGids[0]: 4294967296 is not between 0 and 4294967294"),
    (lambda c: c["process"].update(rlimits=[{"type": "RLIMIT_X", "soft": 1, "hard": 1}]), "$.process.rlimits[0].type: invalid rlimit type 'RLIMIT_X'"),
    (lambda c: c["process"].update(rlimits=[{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}] * 2), "$.process.rlimits[1].type: RLIMIT_CPU stands twice"),
    (lambda c: c["process"]["scheduler"].update(policy="X"), "$.process.scheduler.policy: expected one of SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_ISO, SCHED_IDLE, SCHED_DEADLINE, got 'X'"),
    (lambda c: c["process"]["scheduler"].update(nice=20), "$.process.scheduler.nice: 20 is not between -20 and 19"),
    (lambda c: c["process"]["scheduler"].update(priority=1), "$.process.scheduler.priority: is for SCHED_FIFO and SCHED_RR, not for SCHED_DEADLINE"),
    (lambda c: c["process"].update(scheduler={"policy": "SCHED_OTHER", "period": 1}), "$.process.scheduler.period: is for SCHED_DEADLINE, not for SCHED_OTHER"),
    (lambda c: c["process"]["ioPriority"].update(priority=8), "$.process.ioPriority.priority: 8 is not between 0 and 7"),
    (lambda c: c["process"]["ioPriority"].update({"class": "X"}), "$.process.ioPriority.class: expected one of IOPRIO_CLASS_RT, IOPRIO_CLASS_BE, IOPRIO_CLASS_IDLE, got 'X'"),
    (lambda c: c["linux"].update(rootfsPropagation="x"), "$.linux.rootfsPropagation: 'x' is no propagation"),
    (lambda c: c["linux"].update(maskedPaths=["x"]), "$.linux.maskedPaths[0]: 'x' is not an absolute path"),
    (lambda c: c["linux"]["personality"].update(domain="X"), "$.linux.personality.domain: expected one of LINUX, LINUX32, got 'X'"),
    (lambda c: c["linux"]["memoryPolicy"].update(mode="X"), "$.linux.memoryPolicy.mode: invalid memory policy mode: expected one of MPOL_DEFAULT, MPOL_PREFERRED, MPOL_BIND, MPOL_INTERLEAVE, MPOL_LOCAL, MPOL_PREFERRED_MANY, MPOL_WEIGHTED_INTERLEAVE, got 'X'"),
    (lambda c: c["linux"]["memoryPolicy"].update(mode="MPOL_DEFAULT", nodes="0-7", flags=[]), "$.linux.memoryPolicy.nodes: memory policy mode requires 0 nodes but got 8"),
    (lambda c: c["linux"]["memoryPolicy"].update(nodes=""), "$.linux.memoryPolicy.nodes: memory policy mode requires at least one node but got 0"),
    (lambda c: c["linux"]["memoryPolicy"].update(nodes="x"), "$.linux.memoryPolicy.nodes: invalid memory policy nodes: 'x' is not a list of memory nodes"),
    (lambda c: c["linux"].update(timeOffsets={"x": {}}), "$.linux.timeOffsets: there is no clock 'x'"),
    (lambda c: c["linux"]["namespaces"][5].update(path="/proc/self/ns/time"), "$.linux.timeOffsets: the time namespace is another's, which has its own"),
    (lambda c: c["mounts"][-1]["options"].append("tmpcopyup"), "$.mounts[7].options: tmpcopyup is for tmpfs"),
    (lambda c: c["linux"]["devices"][0].pop("major"), "$.linux.devices[0]: needs major and minor"),
    (lambda c: c["linux"]["devices"][0].update(type="x"), "$.linux.devices[0].type: 'x' is no type of device"),
    (lambda c: c["linux"]["devices"][0].update(path="x"), "$.linux.devices[0].path: 'x' is not an absolute path"),
    (lambda c: c["linux"]["devices"][0].update(major=-1), "$.linux.devices[0]: needs major and minor"),
    (lambda c: c["linux"]["resources"]["devices"][0].update(access="x"), "$.linux.resources.devices[0].access: expected letters of rwm, got 'x'"),
    (lambda c: c["linux"]["resources"]["devices"][0].update(type="x"), "$.linux.resources.devices[0].type: expected one of a, b, c, got 'x'"),
    (lambda c: c.update(annotations={"": "x"}), "$.annotations: a key must not be empty"),
    (lambda c: c["linux"].update(intelRdt={"closID": ".."}), "$.linux.intelRdt.closID: invalid intelRdt.ClosID '..'"),
    (lambda c: c["linux"].update(intelRdt={"closID": "a/b"}), "$.linux.intelRdt.closID: invalid intelRdt.ClosID 'a/b'"),
    (lambda c: c["linux"].update(intelRdt={"closID": "info"}), "$.linux.intelRdt.closID: invalid intelRdt.ClosID 'info'"),
    (lambda c: c["linux"].update(intelRdt={"memBwSchema": "L3:0=f"}), "$.linux.intelRdt.memBwSchema: must start with MB:"),
    (
        lambda c: c["linux"].update(intelRdt={"schemata": ["L3:0=f\nMB:0=20"]}),
        "$.linux.intelRdt.schemata[0]: must not contain a newline",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), CASES, ids=[message.split(":")[0] for _, message in CASES])
def test_what_contradicts_the_specification_is_named(change, message):
    config = whole()
    change(config)
    with pytest.raises(VelociError) as caught:
        compiled(config)
    assert str(caught.value) == f"config.json: {message}"


def test_fields_that_the_specification_says_to_ignore_are_ignored():
    config = whole()
    for node in (
        config,
        config["process"],
        config["linux"],
        config["mounts"][0],
        config["linux"]["resources"]["memory"],
    ):
        node["org.example.unknown"] = {"anything": [1]}
    config["windows"] = config["solaris"] = config["vm"] = {"x": 1}
    assert compiled(config) == compiled(whole())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "config.json: not JSON: no value at character 0"),
        ("[]", "config.json: $: expected an object, got []"),
        ('{"ociVersion": "1.0.0", "ociVersion": "1.0.0"}', "config.json: not JSON: the field 'ociVersion' stands twice in one object"),
        ("[" * 100000, "config.json: not JSON: nested too deeply"),
    ],
)  # fmt: skip
@pytest.mark.needs("root", "namespaces", "busybox")
def test_a_document_that_is_none_leaves_nothing(runtime, text, message):
    runtime.configure("true")
    (runtime.bundle / "config.json").write_text(text)
    done = runtime("run", "--bundle", str(runtime.bundle), runtime.id)
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        1,
        f"veloci-runtime run failed: {message}",
    )
    assert runtime.traces() == []


@pytest.mark.needs("root", "namespaces", "busybox", "strace")
def test_a_mistake_is_found_before_any_process_exists(runtime, tmp_path):
    import subprocess

    runtime.configure("true", change=lambda c: c["linux"].update(maskedPaths=["x"]))
    words = [runtime.program, "--root", str(runtime.root), "run", "--bundle", str(runtime.bundle), runtime.id]
    subprocess.run(
        ["strace", "-f", "-e", "trace=clone,clone3,fork,mkdir,mount", "-o", str(tmp_path / "trace"), *words],
        check=False,
        capture_output=True,
        timeout=30,
    )
    assert [line for line in (tmp_path / "trace").read_text().splitlines() if "exited with" not in line] == []
    assert runtime.traces() == []
