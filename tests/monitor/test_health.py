"""Health checks: the table of what results mean, and checks of real containers."""

import json
import os
import signal
import time

import pytest
from box import until

from veloci.monitor.health import Check, judged, pause

real = pytest.mark.needs("root", "namespaces", "overlay", "busybox")
OFTEN = ("--health-interval", "100ms")


@pytest.mark.parametrize(
    ("before", "code", "age", "after"),
    [
        (("starting", 0), 0, 0, ("healthy", 0)),
        (("starting", 0), 1, 5, ("starting", 0)),  # within the start period
        (("starting", 0), 1, 15, ("starting", 1)),
        (("starting", 2), 1, 15, ("unhealthy", 3)),
        (("healthy", 0), 1, 5, ("healthy", 1)),
        (("healthy", 2), -1, 5, ("unhealthy", 3)),
        (("unhealthy", 7), 1, 15, ("unhealthy", 8)),
        (("unhealthy", 7), 0, 15, ("healthy", 0)),
    ],
)
def test_what_a_result_means(before, code, age, after):
    check = Check({"Test": ["CMD", "x"], "StartPeriod": 10 * 10**9})
    assert judged(check, *before, code=code, age=age) == after


def test_the_defaults_are_dockers():
    check = Check({"Test": ["CMD-SHELL", "curl -f x"]})
    assert check.args == ["/bin/sh", "-c", "curl -f x"]
    assert (check.interval, check.timeout, check.start_period, check.start_interval, check.retries) == (30, 30, 0, 5, 3)
    assert Check({"Test": ["NONE"]}).args == Check({}).args == []
    assert Check({"Test": ["CMD-SHELL", "x"]}, ("/bin/bash", "-lc")).args == ["/bin/bash", "-lc", "x"]


def test_it_is_asked_more_often_while_it_starts():
    check = Check({"Test": ["CMD", "x"], "StartPeriod": 10 * 10**9, "StartInterval": 10**9})
    assert (pause(check, "starting", age=1), pause(check, "starting", age=11), pause(check, "healthy", age=1)) == (
        1,
        30,
        30,
    )


def health(box):
    return json.loads(box.ok("inspect", "-f", "{{json .State.Health}}", "it"))


@real
@pytest.mark.parametrize("runtime", ["veloci", "runc", "crun"])
def test_a_container_becomes_unhealthy_and_healthy_again(box, runtime):
    command = "until test -e /look; do sleep 0.02; done; test -e /ok || { echo no; exit 5; }"
    box.started(
        "--name",
        "it",
        "--runtime",
        runtime,
        "--health-cmd",
        command,
        *OFTEN,
        "--health-retries",
        "2",
        "bb",
        "sleep",
        "60",
    )
    assert box.ok("ps", "--format", "{{.Status}}").endswith("(health: starting)\n")
    box.ok("exec", "it", "touch", "/look")
    box.until("it", "{{.State.Health.Status}}", "unhealthy")
    assert box.ok("ps", "--format", "{{.Status}}", "--filter", "health=unhealthy").endswith("(unhealthy)\n")
    result = health(box)["Log"][0]
    assert (result["ExitCode"], result["Output"]) == (5, "no\n")
    assert result["Start"] < result["End"]
    box.ok("exec", "it", "touch", "/ok")
    box.until("it", "{{.State.Health.Status}} {{.State.Health.FailingStreak}}", "healthy 0")
    assert box.ok("ps", "--format", "{{.Status}}").endswith("(healthy)\n")
    until(lambda: len(health(box)["Log"]) == 5)
    box.ok("stop", "-t", "0", "it")
    assert health(box)["Status"] == "unhealthy"


@real
def test_a_check_that_takes_too_long_or_cannot_run_fails(box):
    box.started(
        "--name",
        "it",
        "--health-cmd",
        "echo began; sleep 30",
        "--health-timeout",
        "200ms",
        *OFTEN,
        "--health-retries",
        "1",
        "bb",
        "sleep",
        "60",
    )
    box.until("it", "{{.State.Health.Status}}", "unhealthy")
    result = health(box)["Log"][0]
    assert (result["ExitCode"], result["Output"]) == (-1, "Health check exceeded timeout (0.2s)")
    until(lambda: len(health(box)["Log"]) >= 3)
    until(
        lambda: box.ok("exec", "it", "ps").count("sleep 30") <= 2
    )  # of the look that goes on: the shell and its child
    box.ok("rm", "-f", "it")
    box.started("--name", "it", "--health-cmd", "x", *OFTEN, "bb", "sh", "-c", "rm /bin/sh; exec sleep 60")
    until(lambda: [each for each in health(box)["Log"] if each["ExitCode"] == -1])  # the first may still find a shell
    said = next(each["Output"] for each in health(box)["Log"] if each["ExitCode"] == -1)
    assert "executable file not found" in said or "no such file" in said


@real
def test_what_a_check_prints_is_bounded(box):
    box.started("--name", "it", "--health-cmd", "seq 100000", *OFTEN, "bb", "sleep", "60")
    box.until("it", "{{.State.Health.Status}}", "healthy")
    assert len(health(box)["Log"][0]["Output"]) == 4096


@real
def test_the_images_check_is_used_changed_or_left_out(box):
    box.ok("create", "--name", "base", "bb", "sleep", "60")
    box.ok("commit", "-c", "HEALTHCHECK --interval=100ms CMD true", "base", "checked")
    box.started("--name", "it", "checked")
    box.until("it", "{{.State.Health.Status}}", "healthy")
    box.ok("rm", "-f", "it")
    box.started("--name", "it", "--health-cmd", "false", "--health-retries", "1", "checked")
    box.until("it", "{{.State.Health.Status}}", "unhealthy")
    box.ok("rm", "-f", "it")
    box.started("--name", "it", "--no-healthcheck", "checked")
    time.sleep(0.3)
    assert box.ok("inspect", "-f", "{{.State.Health}}", "it") == "<nil>\n"
    assert box.show("it", "{{.Config.Healthcheck.Test}}") == "[NONE]"


@real
def test_a_paused_container_is_not_asked_and_a_restarted_one_starts_anew(box):
    box.started(
        "--name", "it", "--restart", "always", "--health-cmd", "date >>/asked; true", *OFTEN, "bb", "sleep", "60"
    )
    box.until("it", "{{.State.Health.Status}}", "healthy")
    box.ok("pause", "it")
    before = []

    def still():  # once what was being asked at that time has been written down
        before[:] = health(box)["Log"]
        time.sleep(0.4)
        return health(box)["Log"] == before

    until(still)
    assert box.show("it", "{{.State.Health.Status}}") == "healthy"
    box.ok("unpause", "it")
    until(lambda: health(box)["Log"] != before)
    os.kill(int(box.show("it", "{{.State.Pid}}")), signal.SIGKILL)
    box.until("it", "{{.RestartCount}} {{.State.Health.Status}}", "1 healthy")


@real
def test_the_options_are_judged(box):
    for words, error in (
        (("--health-interval", "1"), "veloci: --health-interval: '1' is not a time of 1ms or more"),
        (("--health-timeout", "1us"), "veloci: --health-timeout: '1us' is not a time of 1ms or more"),
        (("--health-retries", "-1"), "veloci: --health-retries: cannot be negative"),
        (("--health-cmd", "x", "--no-healthcheck"), "veloci: --no-healthcheck: conflicts with --health-* options"),
    ):
        done = box.veloci("run", *words, "bb", "true")
        assert (done.returncode, done.stderr.splitlines()[0]) == (125, error)
