"""plan: the steps a config.json becomes, in their order, each with its place, its system calls and its reason."""

import json
import re
from pathlib import Path

import pytest

from veloci.runtime.become import table
from veloci.runtime.calls import ASKED, STEPS
from veloci.runtime.explain import explained
from veloci.runtime.plan import compile
from veloci.runtime.starting import prepare

pytestmark = pytest.mark.needs("root", "namespaces", "busybox")


def at(document, path):
    """What stands at a place as "$.mounts[3]" in a document, or would: a field that is left out has its default."""
    for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        if name and name not in document:
            return None
        document = document[name] if name else document[int(index)]
    return document


def steps(runtime, change=None):
    runtime.configure("true", change=change)
    done = runtime("plan", "--bundle", str(runtime.bundle), "--format", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def everything(config):
    ids = [{"containerID": 0, "hostID": 1000, "size": 10}]
    config["process"].update(terminal=True, apparmorProfile="", oomScoreAdj=5, noNewPrivileges=False)
    config["process"].update(scheduler={"policy": "SCHED_BATCH"}, ioPriority={"class": "IOPRIO_CLASS_IDLE"})
    config["linux"]["namespaces"] += [{"type": "time"}, {"type": "cgroup"}]
    config["linux"].update(
        timeOffsets={"boottime": {"secs": 1}}, sysctl={"net.ipv4.ip_forward": "1"}, rootfsPropagation="slave"
    )
    config["linux"].update(
        personality={"domain": "LINUX"}, memoryPolicy={"mode": "MPOL_LOCAL"}, netDevices={"eth9": {}}
    )
    config["linux"].update(seccomp={"defaultAction": "SCMP_ACT_ALLOW"})
    config["hooks"] = {"prestart": [{"path": "/x"}], "createContainer": [{"path": "/x"}]}
    config["mounts"].append({"destination": "/a", "source": "/usr", "options": ["rbind", "rro", "rshared"]})
    config["mounts"].append(
        {"destination": "/a", "source": "/usr", "options": ["bind", "ridmap"], "uidMappings": ids, "gidMappings": ids}
    )
    config["mounts"].append({"destination": "/a", "options": ["remount", "nosuid"]})


def test_every_step_has_its_place_calls_and_reason(runtime):
    found = steps(runtime, everything)
    config = json.loads((runtime.bundle / "config.json").read_text())
    for step in found:
        assert step["calls"], step
        assert step["why"], step
        at(config, step["at"])
    names = [step["step"] for step in found]
    assert names[:3] == ["record", "compile", "fifo"]
    assert names[-1] == "exec"
    order = "ask net_devices, time, root, mapped, remount, devices, ask hooks, hooks, mask, sysctl, seal, pivot, hostname, user, capabilities".split(
        ", "
    )
    assert [name for name in order if name in names] == order
    assert [names.index(name) for name in order] == sorted(names.index(name) for name in order)


def test_the_table_of_reasons_is_complete():
    assert set(STEPS) == (set(table({"sysctl"})) | {"mapped", "inside"}) - {"ask"}
    assert set(ASKED) == {"maps", "cgroup", "net_devices", "time_offsets", "hooks", "rlimits"}


def test_nothing_is_made(runtime):
    steps(runtime)
    assert runtime.traces() == []
    assert not list((runtime.bundle / "rootfs").glob("proc"))


def test_a_table_is_for_reading(runtime):
    runtime.configure("sleep", "5")
    lines = runtime("plan", "--bundle", str(runtime.bundle)).stdout.splitlines()
    assert lines[0] == "  1  record"
    head = next(index for index, line in enumerate(lines) if line.endswith("clone                $.linux.namespaces"))
    spaces = "CLONE_NEWPID|CLONE_NEWNET|CLONE_NEWNS|CLONE_NEWIPC|CLONE_NEWUTS"
    assert lines[head + 1].startswith(f"     clone3({spaces}")
    assert lines[head + 2] == "     # a process in all its new namespaces at once"
    assert lines[-2] == "     execve('sleep', ['sleep', '5'])"


def test_what_is_wrong_is_said_as_by_create(runtime):
    runtime.configure("true", change=lambda c: c["linux"].update(rootfsPropagation="x"))
    done = runtime("plan", "--bundle", str(runtime.bundle))
    assert done.returncode == 1
    assert "config.json: $.linux.rootfsPropagation" in done.stderr


def test_a_failure_is_explained_on_demand(runtime):
    runtime.configure("true", change=lambda c: c["mounts"].append({"destination": "/x", "type": "nofs"}))
    done = runtime("--explain", "run", "--bundle", str(runtime.bundle), runtime.id)
    assert done.stderr.splitlines() == [
        "veloci-runtime run failed: config.json: $.mounts[7]: filesystem: fsopen: No such device",
        "  the step filesystem: fsopen(...), fsconfig(source=...), fsmount(...), mkdirat where it lacks, move_mount(...)",
        "  its reason: made whole as a descriptor, attached to a place that the kernel resolved in the root",
        "  what to do: at $.mounts[7]: name a type of /proc/filesystems, or load the kernel's module for it",
    ]


def mount(**given):
    return lambda config: config["mounts"].append(given)


def linux(**given):
    return lambda config: config["linux"].update(given)


def process(**given):
    return lambda config: config["process"].update(given)


APPARMOR = Path("/sys/module/apparmor/parameters/enabled")


@pytest.mark.parametrize(
    ("change", "step", "remedy"),
    [
        (mount(destination="/x", source="/nowhere", options=["bind"]), "bind", "make the source on the host"),
        (mount(destination="/proc/sys", source="/usr", options=["bind"]), "bind", "a destination outside of /proc"),
        (mount(destination="/x", type="tmpfs", options=["size=many"]), "filesystem", "correct the options"),
        (process(args=["nothing"]), "find", "put the program into the root"),
        (process(cwd="/bin/sh"), "cwd", "name a directory of the root"),
        (process(oomScoreAdj=5000), "score", "a number from -1000 to 1000"),
        (
            process(apparmorProfile="x"),
            "label",
            "correct it" if APPARMOR.exists() and APPARMOR.read_text() == "Y\n" else "take the field out",
        ),
        (lambda c: c["linux"]["namespaces"][0].update(path="/proc/4194305/ns/x"), "join", "start the container whose"),
        (linux(sysctl={"net.nothing": "1"}), "sysctl", "see /proc/sys"),
        (linux(sysctl={"kernel.pid_max": "1"}), "sysctl", "$.linux.sysctl.kernel.pid_max: correct it"),
        (linux(resources={"cpu": {"cpus": "8000"}}), "limit", "$.linux.resources.cpu.cpus: give a value"),
        (linux(seccomp={"defaultAction": "SCMP_ACT_X"}), "filter", "$.linux.seccomp.defaultAction: correct it"),
        (linux(netDevices={"eth99": {}}), "ask net_devices", "make the device on the host first"),
        (linux(devices=[{"path": "/bin/sh", "type": "c", "major": 1, "minor": 3}]), "devices", "take the file out of"),
        (lambda c: c.update(hooks={"prestart": [{"path": "/bin/false"}]}), "ask hooks", "run the program of the hook"),
        (lambda c: c["root"].update(path="nothing"), "root", "$.root.path: correct it"),
    ],
)
def test_a_failure_names_its_step_and_what_to_do(runtime, change, step, remedy):
    runtime.configure("true", change=change)
    done = runtime("--explain", "run", "--bundle", str(runtime.bundle), runtime.id)
    said = done.stderr.splitlines()
    assert done.returncode == 1
    assert said[1].startswith(f"  the step {step}: ")
    assert remedy in said[-1]
    assert runtime.traces() == []


def test_what_is_no_step_is_explained_by_its_own_words(runtime):
    assert runtime("--explain", "state", "nobody").stderr == "veloci-runtime: container does not exist\n"


LIMITS = {"memory": {"limit": 1 << 26}, "pids": {"limit": 9}, "cpu": {"shares": 512, "quota": 50000}}


def told(runtime, **known):
    """The entries of a plan's limits and groups, where the container's groups are others than on this host."""
    runtime.configure("true", change=linux(resources=LIMITS))
    _, config, _, saved = prepare("ID", str(runtime.bundle), None, console=False, pivot=True, keyring=True)
    saved = saved.replace(**known)
    plan = compile(config, str(runtime.bundle), saved.cgroups)
    steps = [(each["step"], each["at"], each["calls"]) for each in explained(plan, config, saved)]
    return [each for each in steps if each[0] in ("group", "groups", "limit", "scope", "move", "clone", "apart")]


def test_the_limits_of_version_2_are_set_before_there_is_a_process(runtime):
    entries = told(runtime, cgroups={"": "/sys/fs/cgroup/unified/ID"})
    assert [step for step, _, _ in entries] == ["group", "limit", "limit", "limit", "limit", "limit", "clone", "apart"]
    limits = {at: calls for step, at, calls in entries if step == "limit"}
    assert limits == {
        "$.linux.resources.pids.limit": "the runtime: write(pids.max, 9)",
        "$.linux.resources.memory.limit": "the runtime: write(memory.max, 67108864)",
        "$.linux.resources.cpu.shares": "the runtime: write(cpu.weight, 20)",
        "$.linux.resources.cpu.quota": "the runtime: write(cpu.max, 50000 100000)",
        "$.linux.resources.devices": "the runtime: bpf(PROG_LOAD), bpf(PROG_ATTACH)",
    }


def test_systemds_scope_is_made_around_the_process(runtime):
    entries = told(runtime, cgroups={"": "/sys/fs/cgroup/unified/s/ID.scope"}, scope="s.slice:ID.scope")
    assert [step for step, _, _ in entries][:3] == ["clone", "scope", "limit"]
    assert entries[0][2].endswith("CLONE_NEWUTS)")  # it cannot be born in a group that is not there yet
    assert entries[1][2] == "the runtime: D-Bus StartTransientUnit(ID.scope)"
