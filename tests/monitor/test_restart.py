"""Restart policies on real containers: how often, how soon, and what ends it."""

import json
import time

import pytest
from box import until

pytestmark = pytest.mark.needs("root", "namespaces", "overlay", "busybox")

# Says when it was started, and fails at once.
FAILS = ("bb", "sh", "-c", "echo up; exit 3")
STATE = "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}"


def starts(box, container):
    """The times, in seconds, at which the container said that it is up."""
    log = box.path / "data/containers" / box.show(container, "{{.Id}}") / "log"
    times = [json.loads(line)["time"] for line in log.read_text().splitlines()]
    return [int(t[11:13]) * 3600 + int(t[14:16]) * 60 + float(t[17:-1]) for t in times]


def test_on_failure_starts_it_again_so_often_with_longer_pauses(box):
    box.started("--name", "it", "--restart", "on-failure:3", *FAILS)
    box.until("it", STATE, "exited 3 3")
    first, second, third, fourth = starts(box, "it")
    assert second - first >= 0.1
    assert third - second >= 0.2
    assert fourth - third >= 0.4


def test_on_failure_leaves_alone_what_succeeds(box):
    box.started("--name", "it", "--restart", "on-failure", "bb", "true")
    box.until("it", STATE, "exited 0 0")


def test_no_is_no(box):
    box.started("--name", "it", *FAILS)
    box.until("it", STATE, "exited 3 0")


@pytest.mark.parametrize("policy", ["always", "unless-stopped"])
def test_always_starts_again_what_succeeds(box, policy):
    box.started("--name", "it", "--restart", policy, "bb", "true")
    until(lambda: int(box.show("it", "{{.RestartCount}}")) >= 2)
    assert box.ok("stop", "it") == "it\n"
    assert box.show("it", STATE).startswith("exited 0 ")


def test_one_that_waits_to_be_started_is_restarting_and_shows_how_it_ended(box):
    box.started("--name", "it", "--restart", "on-failure", *FAILS)
    until(lambda: int(box.show("it", "{{.RestartCount}}")) >= 3)  # pauses of 0.8 s from here
    box.until(
        "it",
        "{{.State.Status}} {{.State.Restarting}} {{.State.Running}} {{.State.Pid}} {{.State.ExitCode}}",
        "restarting true true 0 3",
    )
    until(lambda: box.ok("ps", "--format", "{{.Status}}").startswith("Restarting (3) "))


@pytest.mark.parametrize("verb", ["stop", "kill"])
def test_one_that_is_stopped_by_hand_stays_so(box, verb):
    box.started(
        "--name",
        "it",
        "--restart",
        "always",
        "bb",
        "sh",
        "-c",
        "trap 'exit 4' TERM; echo up; while :; do sleep 0.1; done",
    )
    box.until("it", "{{.State.Running}}", "true")
    until(lambda: box.ok("logs", "it"))
    box.ok(verb, "it")
    box.until("it", "{{.State.Status}} {{.RestartCount}}", "exited 0")
    time.sleep(0.3)
    assert box.show("it", "{{.State.Status}}") == "exited"
    box.ok("start", "it")
    assert box.show("it", "{{.State.Status}}") == "running"


def test_stop_ends_one_that_waits_to_be_started(box):
    box.started("--name", "it", "--restart", "always", *FAILS)
    until(lambda: int(box.show("it", "{{.RestartCount}}")) >= 3)
    began = time.monotonic()
    assert box.ok("stop", "it") == "it\n"
    assert time.monotonic() - began < 5
    assert box.show("it", "{{.State.Status}} {{.State.ExitCode}}") == "exited 3"


def test_an_attached_client_ends_with_the_first_end(box):
    done = box.veloci("run", "--name", "it", "--restart", "on-failure:1", "--network", "none", *FAILS)
    assert (done.returncode, done.stdout) == (3, "up\n")
    box.until("it", STATE, "exited 3 1")
    assert box.ok("logs", "it") == "up\nup\n"


def test_a_program_that_is_gone_at_its_restart_ends_it(box):
    box.started("--name", "it", "--restart", "always", "bb", "sh", "-c", "rm -f /bin/sh; exit 1")
    box.until("it", "{{.State.Status}} {{.State.ExitCode}}", "exited 127")
    assert "executable file not found" in box.show("it", "{{.State.Error}}")


def test_rm_removes_one_that_restarts_for_ever(box):
    box.started("--name", "it", "--restart", "always", *FAILS)
    until(lambda: int(box.show("it", "{{.RestartCount}}")) >= 1)
    assert box.ok("rm", "-f", "it") == "it\n"
    assert box.ok("ps", "-aq") == ""


def test_one_with_a_network_keeps_its_address(box):
    box.started(
        "--name", "it", "--restart", "always", "bb", "sh", "-c", "ip -o addr show eth0; sleep 0.2", network="bridge"
    )
    until(lambda: int(box.show("it", "{{.RestartCount}}")) >= 2)
    address = box.show("it", "{{.NetworkSettings.IPAddress}}")
    until(lambda: box.ok("logs", "it").count(f"inet {address}/") >= 2)


def test_wait_gives_the_next_exit_status(box):
    box.started("--name", "it", "--restart", "always", "bb", "sh", "-c", "sleep 0.5; exit 6")
    assert box.ok("wait", "it") == "6\n"
