"""plan: the steps that are printed are the system calls that are made, all of them, in that order."""

import json
import re
import subprocess
import time

import pytest

pytestmark = pytest.mark.needs("root", "namespaces", "busybox", "strace")

# What changes the state of the process, of the mounts or of files. dup2, fcntl and memory are the process's own matter.
CALLS = """mount umount2 open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr pivot_root chroot chdir fchdir
mkdir mkdirat mknod mknodat symlinkat fchownat setsid keyctl unshare setns clone3 sethostname setdomainname prctl umask
setgroups setresgid setresuid capset prlimit64 sched_setattr ioprio_set set_mempolicy personality seccomp close_range
memfd_create execve execveat ioctl sendmsg pidfd_getfd write""".split()
AGAIN = "groups devices links bound capabilities".split()  # which do the same for one thing after the other
LOOKS = re.compile(
    r"= -1 E(INVAL|FAULT)|GET_ACTION_AVAIL|GET_NOTIF_SIZES|prctl\(PR_(CAPBSET_READ|GET|SET_CHILD_SUBREAPER|CAP_AMBIENT_IS)|prlimit64\(.*, NULL, |EEXIST|ENOENT"
    r"|ioctl\([^,]*, (?!SIOCSIFFLAGS|TIOCSCTTY|TIOCSWINSZ|TIOCGPTPEER)|write\(\d+<(?!/proc/|/sys/fs/cgroup|ROOT/)"
)
_SHAPE = re.compile(r"^(\d+) +(\w+)\((.*)$")


def steps(runtime):
    done = runtime("plan", "--bundle", str(runtime.bundle), "--format", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def traced(runtime, tmp_path, *words):
    """Create and start. pid -> the calls that it made, each as strace shows it; and the container's pid."""
    trace, pid_file = tmp_path / "trace", tmp_path / "pid"
    create = ["create", "--bundle", str(runtime.bundle), "--pid-file", str(pid_file), *words, runtime.id]
    strace = ["strace", "-f", "-y", "-s", "200", "-o", str(trace), runtime.program, "--root", str(runtime.root)]
    with (tmp_path / "out").open("w") as out:
        tracing = subprocess.Popen([*strace, *create], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    wait_until(lambda: tracing.poll() is not None or (pid_file.exists() and pid_file.read_text()))
    assert tracing.poll() is None, (tmp_path / "out").read_text()
    assert runtime("start", runtime.id).returncode == 0
    tracing.wait(30)
    made = {}
    for line in trace.read_text().splitlines():
        found = _SHAPE.match(line.replace(str(runtime.root), "ROOT").replace(runtime.id, "ID"))
        if found and found[2] in CALLS and not LOOKS.search(f"{found[2]}({found[3]}"):
            made.setdefault(int(found[1]), []).append(f"{found[2]}({found[3]}")
    return made, int(pid_file.read_text())


def wait_until(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it does not come")


def names(call):
    """How a plan may call it: by its name, and for a write by its file too."""
    name = call.partition("(")[0]
    if name in ("open_tree", "move_mount"):
        fields = call.partition(" = ")[0].split(", ")
        path = fields[1].strip('"') if name == "open_tree" else fields[3].strip('")')
        path = path or re.search(r"<(.*)>", fields[0 if name == "open_tree" else 2])[1].partition("rootfs")[2] or "/"
        if name == "move_mount":
            return [rf"\bmove_mount\([^)]*{re.escape(path)}\b", r"\bmove_mount(?!\()"]
        own = r"\bopen_tree\b(?!\(/)"
        return [rf"\bopen_tree\({re.escape(path)}[,)]", *([own] if "AT_RECURSIVE" not in call else [])]
    if name == "prctl":
        return [re.escape(call.partition(",")[0].partition(")")[0])]
    if name == "write":
        path = re.search(r"<(.*?)>", call)[1]
        file = "ROOT/.seccomp/" if ".seccomp" in path else path.rpartition("/")[2].removeprefix(".")
        return [rf"write\({re.escape(file)}"]
    return [r"\bmkfifo\("] if "S_IFIFO" in call else [rf"\b{name}\b"]


def follow(calls, plan):
    """Walk along the plan with the calls. Returns the steps that were met, and those of the calls that no step has."""
    met, strange, step, at = [], [], -1, 0
    for call in calls:
        for index in range(max(step, 0), len(plan)):
            text = plan[index]["calls"]
            start = at if index == step and plan[index]["step"] not in AGAIN else 0
            place = max((found.start() for name in names(call) if (found := re.search(name, text[start:]))), default=-1)
            begins = start + place < len(text.partition(", ")[0]) or plan[index]["step"] == "mask"
            if place >= 0 and (index == step or begins):
                if index != step:
                    met.append(index)
                step, at = index, start + place
                break
        else:
            strange.append(f"{call} after {plan[step]['step']}")
    return met, strange


def everything(runtime, tmp_path, config):
    hook = runtime.bundle / "hook"
    hook.write_text("#!/bin/sh\ncat >/dev/null\n")
    hook.chmod(0o755)
    kinds = "prestart createRuntime createContainer poststart".split()
    config["hooks"] = {kind: [{"path": str(hook)}] for kind in kinds}
    config["hooks"]["startContainer"] = [{"path": "/bin/true"}]
    config["process"].update(
        terminal=True, oomScoreAdj=5, noNewPrivileges=False, ioPriority={"class": "IOPRIO_CLASS_IDLE"}
    )
    config["process"].update(scheduler={"policy": "SCHED_BATCH"}, cwd="/made/here")
    config["process"]["user"] = {"uid": 3, "gid": 4, "additionalGids": [5], "umask": 0o77}
    config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    config["domainname"] = "there"
    linux = config["linux"]
    linux["namespaces"] += [{"type": "time"}, {"type": "cgroup"}]
    linux.update(timeOffsets={"boottime": {"secs": 1}}, sysctl={"net.ipv4.ip_forward": "1"}, rootfsPropagation="slave")
    linux.update(personality={"domain": "LINUX"}, memoryPolicy={"mode": "MPOL_LOCAL"})
    linux["resources"] = {
        "memory": {"limit": 1 << 26, "swap": 1 << 27},
        "pids": {"limit": 9},
        "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0"},
        "devices": [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 10, "access": "r"}],
    }
    linux["devices"] = [{"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "uid": 3, "gid": 4}]
    linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}
    (tmp_path / "tree").mkdir()
    bound = {"source": str(tmp_path / "tree"), "type": "bind"}
    config["mounts"] += [
        {**bound, "destination": "/a", "options": ["rbind", "rro", "rshared"]},
        {**bound, "destination": "/b", "options": ["bind", "ro", "nosuid"]},
        {"destination": "/tmp", "type": "tmpfs", "options": ["size=1m", "ro"]},
        {"destination": "/tmp", "options": ["remount", "nosuid", "size=2m"]},
    ]


def users(config):
    ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"].update(uidMappings=ids, gidMappings=ids)
    config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    config["linux"]["resources"] = {"pids": {"limit": 9}}
    config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}
    config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
    config["process"]["noNewPrivileges"] = True


def compare(runtime, tmp_path, *words):
    """Create and start under strace. Returns the plan's steps that were not met."""
    plan = [each for each in steps(runtime) if each["step"] not in ("join", "clone")]
    created, pid = traced(runtime, tmp_path, *words)
    parent = [call for call in created[next(iter(created))] if not call.startswith(("execve", "clone3"))]
    left = []
    for made, asked in ((created[pid], False), (parent, True)):
        side = [each for each in plan if ("the runtime:" in each["calls"]) == asked]
        met, strange = follow(made, side)
        assert not strange, "\n".join(strange)
        left += [each["step"] for index, each in enumerate(side) if index not in met]
    return left


OFTEN = {"ask cgroup", "mask", "protect", "stdio", "cwd", "find"}  # which need not change anything


def test_the_default_configuration(runtime, tmp_path):
    runtime.configure("true")
    assert set(compare(runtime, tmp_path)) <= OFTEN | {"directory"}


def test_nearly_every_field(runtime, tmp_path, console):
    runtime.configure("true", change=lambda config: everything(runtime, tmp_path, config))
    left = compare(runtime, tmp_path, "--console-socket", console.path)
    # Hooks are processes of their own, and `start` has its own trace.
    assert set(left) <= OFTEN - {"stdio"} | {"ask hooks", "start hooks", "poststart"}


def test_a_user_namespace(mapped, tmp_path):
    def change(config):
        users(config)
        (mapped.bundle / "tree").mkdir()
        bound = {"source": str(mapped.bundle / "tree"), "type": "bind"}
        config["mounts"] += [
            {**bound, "destination": "/a", "options": ["bind", "ro"]},
            {**bound, "destination": "/b", "options": ["bind", "idmap", "nosuid"]},
        ]

    mapped.configure("true", change=change)
    left = compare(mapped, tmp_path)
    assert set(left) <= OFTEN | {"directory"}
