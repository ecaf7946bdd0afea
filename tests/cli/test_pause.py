"""pause, unpause, top, stats: a container that runs, looked at and held."""

import json
import os
import signal
import time

import pytest
from box import until

pytestmark = pytest.mark.needs("root", "namespaces", "overlay", "busybox")

COUNTS = ("bb", "sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done")


@pytest.mark.parametrize("runtime", ["veloci", "runc", "crun"])
def test_a_paused_container_stands_still_and_goes_on(box, runtime):
    box.started("--name", "it", "--runtime", runtime, *COUNTS)
    until(lambda: box.ok("logs", "it"))
    assert box.ok("pause", "it") == "it\n"
    assert box.show("it", "{{.State.Status}} {{.State.Paused}} {{.State.Running}}") == "paused true true"
    assert box.ok("ps", "--format", "{{.Status}}").endswith("(Paused)\n")
    before = box.ok("logs", "it")
    time.sleep(0.3)
    assert box.ok("logs", "it") == before
    assert box.ok("unpause", "it") == "it\n"
    until(lambda: box.ok("logs", "it") != before)
    assert box.show("it", "{{.State.Status}} {{.State.Paused}}") == "running false"


def test_what_cannot_be_paused_says_why(box):
    box.started("--name", "it", *COUNTS)
    box.ok("create", "--name", "other", "bb", "true")
    box.ok("pause", "it")
    for words, error in (
        (("pause", "it"), "veloci: container it is already paused\n  try: veloci unpause it\n"),
        (("start", "it"), "veloci: cannot start a paused container, try unpause instead\n  try: veloci unpause it\n"),
        (("attach", "it"), "veloci: you cannot attach to a paused container, unpause it first\n"),
        (("pause", "other"), "veloci: container other is not running\n  try: veloci start other\n"),
        (("unpause", "other"), "veloci: container other is not paused\n"),
        (("top", "other"), "veloci: container other is not running\n  try: veloci start other\n"),
    ):
        done = box.veloci(*words)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", error)


@pytest.mark.parametrize("words", [("kill",), ("stop", "-t", "1"), ("rm", "-f")])
def test_a_paused_container_can_be_ended(box, words):
    box.started("--name", "it", *COUNTS)
    box.ok("pause", "it")
    assert box.ok(*words, "it") == "it\n"
    if words[0] != "rm":
        box.until("it", "{{.State.Status}} {{.State.ExitCode}}", "exited 137")


def test_one_whose_monitor_was_killed_can_be_paused(box):
    box.started("--name", "it", "bb", "sleep", "60")
    os.kill(box.monitor("it"), signal.SIGKILL)
    time.sleep(0.1)
    box.ok("pause", "it")
    assert box.show("it", "{{.State.Status}}") == "paused"
    box.ok("unpause", "it")
    assert box.show("it", "{{.State.Status}}") == "running"


@pytest.mark.needs("ps")
def test_top_shows_its_processes_and_no_others(box):
    box.started("--name", "it", "bb", "sh", "-c", "sleep 61 & sleep 62; true")
    until(lambda: box.ok("top", "it").count("sleep 6") == 4)
    headers, *rows = box.ok("top", "it").splitlines()
    assert headers.split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert sorted(row.split(maxsplit=7)[7] for row in rows) == [
        "sh -c sleep 61 & sleep 62; true",
        "sleep 61",
        "sleep 62",
    ]
    headers, *rows = box.ok("top", "it", "-o", "pid,args").splitlines()
    assert (headers.split(), len(rows)) == (["PID", "COMMAND"], 3)
    assert box.show("it", "{{.State.Pid}}") in {row.split()[0] for row in rows}
    done = box.veloci("top", "it", "-o", "args")
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        1,
        "veloci: veloci top: couldn't find PID field in ps output",
    )


def test_stats_tell_what_it_uses(box):
    box.started("--name", "busy", "--memory", "64m", "bb", "sh", "-c", "while :; do :; done", network="bridge")
    box.started("--name", "idle", "bb", "sleep", "60")
    box.ok("create", "--name", "other", "bb", "true")
    idle, busy = map(json.loads, box.ok("stats", "--no-stream", "--format", "json").splitlines())
    assert (busy["Name"], idle["Name"]) == ("busy", "idle")
    assert float(busy["CPUPerc"].rstrip("%")) > 20
    assert float(idle["CPUPerc"].rstrip("%")) < 5
    assert busy["MemUsage"].endswith(" / 64MiB")
    assert (busy["PIDs"], idle["PIDs"], idle["NetIO"]) == ("1", "1", "0B / 0B")
    headers, line = box.ok("stats", "--no-stream", "idle").splitlines()
    assert headers.split() == "CONTAINER ID NAME CPU % MEM USAGE / LIMIT MEM % NET I/O BLOCK I/O PIDS".split()
    assert line.split()[1] == "idle"
    assert len(box.ok("stats", "--no-stream", "-a", "--format", "{{.Name}}").split()) == 3
    assert box.veloci("stats", "--no-stream", "nobody").returncode == 1
    with box.background("stats", "--format", "{{.Name}}", "idle") as client:
        assert [client.stdout.readline() for _ in range(2)] == ["idle\n"] * 2
        client.kill()
