"""plan: the steps a config.json becomes, in their order, each with its place, its system calls and its reason."""

import json
import re

import pytest

from veloci.runtime.become import table
from veloci.runtime.explain import ASKED, STEPS

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
    assert names[0] == "clone"
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
    assert lines[0] == "  1  clone                $.linux.namespaces"
    assert lines[1] == "     clone3(CLONE_NEWPID|CLONE_NEWNET|CLONE_NEWNS|CLONE_NEWIPC|CLONE_NEWUTS)"
    assert lines[2] == "     # a process in all its new namespaces at once"
    assert lines[-2] == "     execve('sleep', ['sleep', '5'])"


@pytest.mark.needs("strace")
def test_the_calls_of_the_plan_are_those_that_are_made(runtime, tmp_path):
    import subprocess

    found = steps(runtime)
    named = {call for step in found for call in re.findall(r"\b([a-z_0-9]+)(?=\()", step["calls"])}
    words = [runtime.program, "--root", str(runtime.root), "run", "--bundle", str(runtime.bundle), runtime.id]
    subprocess.run(["strace", "-f", "-o", str(tmp_path / "trace"), *words], check=True, timeout=60, capture_output=True)
    made = set(re.findall(r"^\d+ +(\w+)\(", (tmp_path / "trace").read_text(), re.MULTILINE)) | {"clone3", "read"}
    assert named - made - {"access", "mkdirat", "fchownat", "symlinkat"} == set()


def test_what_is_wrong_is_said_as_by_create(runtime):
    runtime.configure("true", change=lambda c: c["linux"].update(rootfsPropagation="x"))
    done = runtime("plan", "--bundle", str(runtime.bundle))
    assert done.returncode == 1
    assert "config.json: $.linux.rootfsPropagation" in done.stderr


def test_a_failure_is_explained_on_demand(runtime):
    runtime.configure("true", change=lambda c: c["mounts"].append({"destination": "/x", "type": "nofs"}))
    done = runtime("--explain", "run", "--bundle", str(runtime.bundle), runtime.id)
    assert done.stderr.splitlines() == [
        "veloci-runtime: veloci-runtime run failed: config.json: $.mounts[7]: filesystem: fsopen: No such device",
        "  the step filesystem: fsopen(...), fsmount(...), move_mount(...)",
        "  its reason: made whole as a descriptor, attached to a place that the kernel resolved in the root",
    ]
