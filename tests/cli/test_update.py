"""update: limits of a container that runs, and of its next start; its restart policy."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("root", "namespaces", "overlay", "busybox")


def limit(id, controller, file):
    return Path(f"/sys/fs/cgroup/{controller}/veloci-{id}/{file}").read_text().strip()


@pytest.mark.parametrize("runtime", ["veloci", "runc", "crun"])
def test_limits_change_at_once_and_last(box, runtime):
    id = box.started("--name", "it", "--runtime", runtime, "--memory", "64m", "bb", "sleep", "60")
    assert box.ok("update", "--memory", "96m", "--cpus", "0.5", "--pids-limit", "50", "it") == "it\n"
    for _ in ("running", "started again"):
        assert limit(id, "memory", "memory.limit_in_bytes") == str(96 << 20)
        assert limit(id, "cpu", "cpu.cfs_quota_us") == "50000"
        assert limit(id, "pids", "pids.max") == "50"
        box.ok("restart", "-t", "0", "it")
    shown = box.show("it", "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}")
    assert shown == f"{96 << 20} 500000000 50"


def test_one_that_does_not_run_has_them_at_its_start(box):
    id = box.ok("create", "--name", "it", "--network", "none", "bb", "sleep", "60").strip()
    box.ok("update", "--memory", "80m", "it")
    box.ok("start", "it")
    assert limit(id, "memory", "memory.limit_in_bytes") == str(80 << 20)


def test_a_policy_holds_from_now_on(box):
    box.started("--name", "it", "--restart", "always", "bb", "sh", "-c", "sleep 0.3; exit 2")
    box.ok("update", "--restart", "on-failure:1", "it")
    box.until("it", "{{.State.Status}} {{.RestartCount}}", "exited 1")
    assert box.show("it", "{{.HostConfig.RestartPolicy.Name}}") == "on-failure"


def test_what_cannot_be_changed_says_why(box):
    box.started("--name", "it", "--rm", "bb", "sleep", "60")
    for words, error in (
        ((), "veloci: you must provide one or more flags when using this command"),
        (
            ("--restart", "always"),
            "veloci: restart policy cannot be updated because AutoRemove is enabled for the container",
        ),
        (("--restart", "maybe"), "veloci: --restart: 'maybe' is not a restart policy"),
        (("--memory", "lots"), "veloci: --memory: 'lots' is not a size"),
    ):
        done = box.veloci("update", *words, "it")
        assert (done.returncode, done.stdout, done.stderr.splitlines()[0]) == (1, "", error)
    assert box.veloci("update", "--memory", "64m", "nobody").returncode == 1
