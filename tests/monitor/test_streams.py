"""Attached without a terminal: output, input and its end, signals, clients that leave or do not read."""

import os
import signal
import time

import pytest
from box import until

pytestmark = pytest.mark.needs("root", "namespaces", "overlay", "busybox")

TRAPS = "trap 'echo got TERM; exit 5' TERM; trap 'echo got INT; exit 6' INT; echo ready; while :; do sleep 0.1; done"


def ready(process):
    assert process.stdout.readline() == "ready\n"


def running(box, name):
    """Wait until it is there, and runs."""
    until(lambda: box.veloci("inspect", "-f", "{{.State.Running}}", name).stdout == "true\n")


@pytest.mark.parametrize(
    ("number", "said", "status"), [(signal.SIGINT, "got INT\n", 6), (signal.SIGTERM, "got TERM\n", 5)]
)
def test_a_signal_reaches_the_container(box, number, said, status):
    with box.background("run", "--rm", "--network", "none", "bb", "sh", "-c", TRAPS) as client:
        ready(client)
        client.send_signal(number)
        assert client.communicate(timeout=20)[0] == said
        assert client.returncode == status


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--sig-proxy=false", "--name", "it", "--network", "none", "bb", "sh", "-c", TRAPS),
        ("attach", "--sig-proxy=false", "it"),
    ],
)
def test_a_signal_that_is_not_passed_on_ends_the_client_alone(box, words):
    if words[0] == "attach":
        box.started("--name", "it", "bb", "sh", "-c", "while :; do echo ready; sleep 0.1; done")
    with box.background(*words) as client:
        ready(client)
        client.send_signal(signal.SIGINT)
        assert client.wait(20) == 130
    assert box.show("it", "{{.State.Running}}") == "true"


def test_a_program_finds_no_signal_ignored_or_blocked(box):
    looks = ("grep", "-E", "Sig(Ign|Blk)", "/proc/self/status")

    def masks(said):
        names, values = said.split()[::2], said.split()[1::2]
        assert names == ["SigBlk:", "SigIgn:"]
        return [int(value, 16) & ~(3 << 31) for value in values]  # the C library keeps 32 and 33 to itself

    assert masks(box.ok("run", "--rm", "--network", "none", "bb", *looks)) == [0, 0]
    box.started("--name", "it", "bb", "sleep", "60")
    assert masks(box.ok("exec", "it", *looks)) == [0, 0]


def test_input_is_passed_on_whole_and_ends(box):
    data = os.urandom(3_000_000).hex()
    assert box.ok("run", "-i", "--rm", "--network", "none", "bb", "wc", "-c", input=data) == f"{len(data)}\n"


def test_a_container_that_does_not_read_bounds_what_is_sent_to_it(box):
    read, write = os.pipe()
    with box.background("run", "-i", "--name", "it", "--network", "none", "bb", "sleep", "60", stdin=read) as client:
        os.close(read)
        os.set_blocking(write, False)
        sent = 0
        while True:
            try:
                sent += os.write(write, bytes(1 << 16))
            except BlockingIOError:
                time.sleep(0.3)
                try:
                    sent += os.write(write, bytes(1 << 16))
                except BlockingIOError:
                    break
            assert sent < 4 << 20
        running(box, "it")
        box.ok("kill", "it")
        client.wait(20)
        os.close(write)


def test_input_that_nobody_reads_any_more_is_no_reason_to_wait(box):
    program = "exec <&-; echo closed; sleep 1; echo end"
    assert (
        box.ok("run", "-i", "--rm", "--network", "none", "bb", "sh", "-c", program, input="x" * 1_000_000)
        == "closed\nend\n"
    )


def test_a_client_that_is_killed_ends_the_containers_input(box):
    with box.background(
        "run", "-i", "--name", "it", "--network", "none", "bb", "sh", "-c", "echo ready; cat; echo end; exit 3"
    ) as client:
        ready(client)
        client.kill()
    box.until("it", "{{.State.Status}} {{.State.ExitCode}}", "exited 3")
    assert box.ok("logs", "it") == "ready\nend\n"


def test_input_of_one_that_was_started_in_the_background_stays_open(box):
    box.started("-i", "--name", "it", "bb", "sh", "-c", "echo ready; while read x; do echo got $x; done; exit 3")
    for word in ("one", "two"):
        with box.background("attach", "it") as client:
            client.stdin.write(f"{word}\n")
            client.stdin.flush()
            assert client.stdout.readline() == f"got {word}\n"
            client.kill()
    assert box.show("it", "{{.State.Running}}") == "true"


def test_two_clients_see_the_same(box):
    box.started("-i", "--name", "it", "bb", "sh", "-c", "while read x; do echo got $x; done; exit 3")
    with box.background("attach", "--no-stdin", "it") as one, box.background("attach", "it") as two:
        os.set_blocking(one.stdout.fileno(), False)
        seen = []
        while not seen:  # until it has joined
            two.stdin.write("x\n")
            two.stdin.flush()
            assert two.stdout.readline() == "got x\n"
            seen = one.stdout.readlines()
        assert set(seen) == {"got x\n"}
        box.ok("kill", "it")
        assert (one.wait(20), two.wait(20)) == (137, 137)


def test_a_client_that_does_not_read_makes_the_container_wait_and_then_misses_nothing(box):
    with box.background(
        "run", "--name", "it", "--network", "none", "bb", "sh", "-c", "seq 1000000; echo end >&2"
    ) as client:
        running(box, "it")
        time.sleep(0.5)
        assert box.show("it", "{{.State.Running}}") == "true"
        seen, errors = client.communicate(timeout=60)
    assert (client.returncode, errors) == (0, "end\n")
    assert seen == "".join(f"{n}\n" for n in range(1, 1000001))


def test_exec_passes_streams_input_signals_and_the_status(box):
    box.started("--name", "it", "bb", "sleep", "60")
    done = box.veloci("exec", "-i", "it", "sh", "-c", "cat; echo e >&2; exit 4", input="in\n")
    assert (done.stdout, done.stderr, done.returncode) == ("in\n", "e\n", 4)
    with box.background("exec", "it", "sh", "-c", TRAPS) as client:
        ready(client)
        client.send_signal(signal.SIGTERM)
        assert client.communicate(timeout=20)[0] == "got TERM\n"
        assert client.returncode == 5
    assert box.veloci("exec", "it", "nope").returncode == 127
    assert box.veloci("exec", "it", "/etc").returncode == 126


def test_a_container_killed_for_want_of_memory_says_so(box):
    box.started("--name", "it", "--memory", "16m", "bb", "sh", "-c", "x=0123456789; while :; do x=$x$x; done")
    box.until("it", "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}", "exited 137 true")
    box.started("--name", "other", "--memory", "16m", "bb", "true")
    box.until("other", "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}", "exited 0 false")


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_another_runtimes_container_killed_for_want_of_memory_says_so_too(box, runtime):
    box.started(
        "--name",
        "it",
        "--runtime",
        runtime,
        "--memory",
        "16m",
        "bb",
        "sh",
        "-c",
        "x=0123456789; while :; do x=$x$x; done",
    )
    box.until("it", "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}", "exited 137 true")
