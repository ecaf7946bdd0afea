"""veloci-runtime on the real kernel: what a container sees, what its life looks like, what is left behind."""

import json
import time

import pytest

pytestmark = pytest.mark.needs("root", "namespaces", "busybox")


def test_run_gives_the_programs_output_and_status(runtime):
    done = runtime.run("sh", "-c", "echo hello; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "hello\n", "")
    assert runtime.traces() == []


def test_the_container_is_process_one_with_its_own_name_and_capabilities(runtime):
    lines = runtime.run("sh", "-c", "echo $$; hostname; grep CapInh /proc/self/status").stdout.split("\n")
    assert lines[0] == "1"
    assert lines[2] == "CapInh:\t0000000000000000"


def test_only_standard_descriptors_are_open(runtime):
    assert runtime.run("ls", "/proc/self/fd").stdout.split() == ["0", "1", "2", "3"]  # 3 is ls's own


def test_the_host_python_is_nowhere_to_be_seen(runtime):
    runtime.created("sleep", "100")
    pid = json.loads(runtime("state", runtime.id).stdout)["pid"]
    with open(f"/proc/{pid}/comm") as file:
        assert "python" not in file.read()


def test_two_phases(runtime):
    runtime.created("sleep", "100")
    assert json.loads(runtime("state", runtime.id).stdout)["status"] == "created"
    assert runtime("start", runtime.id).returncode == 0
    assert json.loads(runtime("state", runtime.id).stdout)["status"] == "running"
    again = runtime("start", runtime.id)
    assert (again.returncode, again.stderr) == (1, "veloci-runtime: cannot start an already running container\n")
    refused = runtime("delete", runtime.id).stderr
    assert refused.startswith(f"veloci-runtime: cannot delete container {runtime.id} that is not stopped: running\n")
    assert runtime("kill", runtime.id, "KILL").returncode == 0
    time.sleep(0.2)
    assert json.loads(runtime("state", runtime.id).stdout)["status"] == "stopped"
    assert runtime("delete", runtime.id).returncode == 0
    assert runtime.traces() == []


@pytest.mark.parametrize("hooks", [{}, {"startContainer": [{"path": "/bin/true"}]}], ids=["", "with a hook"])
@pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
def test_a_created_container_is_ended_by_a_signal(either, name, hooks):
    either.created("sleep", "100", change=lambda c: c.update(hooks=hooks))
    assert either.state()["status"] == "created"
    assert either("kill", either.id, name).returncode == 0
    for _ in range(100):
        if (status := either.state()["status"]) == "stopped":
            break
        time.sleep(0.05)
    assert status == "stopped"
    assert either("delete", either.id).returncode == 0
    assert either.traces() == []


def test_exec_joins_the_container(runtime):
    runtime.detached("sleep", "100")
    assert runtime("exec", runtime.id, "sh", "-c", "exit 7").returncode == 7
    assert runtime("exec", runtime.id, "cat", "/proc/1/comm").stdout == "sleep\n"
    inherited = runtime("exec", runtime.id, "grep", "CapInh", "/proc/self/status").stdout
    assert inherited == "CapInh:\t0000000000000000\n"
    failed = runtime("exec", runtime.id, "nope")
    assert failed.returncode == 255
    assert 'exec: "nope": executable file not found in $PATH' in failed.stderr


def test_pause_and_resume(runtime):
    runtime.detached("sleep", "100")
    assert runtime("pause", runtime.id).returncode == 0
    assert json.loads(runtime("state", runtime.id).stdout)["status"] == "paused"
    assert "cannot exec in a paused container" in runtime("exec", runtime.id, "true").stderr
    assert runtime("resume", runtime.id).returncode == 0
    assert runtime("exec", runtime.id, "true").returncode == 0


def test_limits_are_set_and_updated(runtime):
    def limit(config):
        config["linux"]["resources"]["pids"] = {"limit": 20}
        config["linux"]["resources"]["memory"] = {"limit": 32 << 20}

    runtime.detached("sleep", "100", change=limit)
    read = ("exec", runtime.id, "sh", "-c", "cd /sys/fs/cgroup; [ -d pids ] && cd pids; cat pids.max")
    assert runtime(*read).stdout == "20\n"
    assert runtime("update", "--pids-limit", "30", runtime.id).returncode == 0
    assert runtime(*read).stdout == "30\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["mounts"].append({"destination": "/x", "type": "nofs"}), "config.json: $.mounts[7]: filesystem: fsopen: No such device"),
        (lambda c: c["process"].update(args=["nope"]), 'unable to start container process: exec: "nope": executable file not found in $PATH'),
        (lambda c: c["process"].update(args=["/nope"]), 'unable to start container process: exec: "/nope": stat /nope: no such file or directory'),
        (lambda c: c["process"]["user"].update(uid=2**32), "config.json: $.process.user.uid: 4294967296 is not between 0 and 4294967294"),
        (lambda c: c["linux"].update(namespaces={}), "config.json: $.linux.namespaces: expected an array, got {}"),
        (lambda c: c["linux"].update(cgroupsPath="/../x"), "config.json: $.linux.cgroupsPath: '/../x' is not a path below the hierarchy"),
        (lambda c: c["linux"].update(intelRdt={"closID": "x"}), "config.json: $.linux.intelRdt: intelRdt is specified in config, but Intel RDT is not enabled: no resctrl file system is mounted"),
    ],
)  # fmt: skip
def test_a_failure_names_its_place_and_leaves_nothing(runtime, change, message):
    done = runtime.run("true", change=change)
    assert (done.returncode, done.stderr.split("\n")[0]) == (1, f"veloci-runtime run failed: {message}")
    assert runtime.traces() == []


def test_a_proc_that_is_a_symlink_is_refused(runtime):
    (runtime.bundle / "rootfs/elsewhere").mkdir()
    (runtime.bundle / "rootfs/proc").symlink_to("/elsewhere")
    assert "proc must be mounted on ordinary directory" in runtime.run("true").stderr


def test_a_dev_that_is_a_symlink_makes_nothing_on_the_host(runtime, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (runtime.bundle / "rootfs/dev").symlink_to(outside)
    runtime.run(
        "true", change=lambda c: c.update(mounts=[m for m in c["mounts"] if not m["destination"].startswith("/dev")])
    )
    assert list(outside.iterdir()) == []


def test_the_log_is_json_as_containerd_reads_it(runtime, tmp_path):
    runtime("--log", str(tmp_path / "log"), "--log-format", "json", "state", "none")
    line = json.loads((tmp_path / "log").read_text())
    assert (line["level"], line["msg"]) == ("error", "container does not exist")


def test_a_container_that_dies_slowly_is_deleted_by_force(runtime):
    """Its first process ends only after its 300 others: it may be there at one look and gone at the next."""
    runtime.detached("sh", "-c", "for i in $(seq 300); do sleep 100 & done; wait")
    for _ in range(100):
        if runtime("ps", runtime.id).stdout.count("sleep") == 300:
            break
        time.sleep(0.05)
    assert runtime("delete", "--force", runtime.id).stderr == ""
    assert runtime.traces() == []
