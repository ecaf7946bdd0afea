"""logs: both streams, the last lines, a span of time, following to the end, through rotations."""

import subprocess
import time

import pytest
from box import until

from veloci.cli.moments import nanoseconds

pytestmark = pytest.mark.needs("root", "namespaces", "overlay", "busybox")


def ran(box, script, *words):
    box.veloci("run", "--name", "it", "--network", "none", *words, "bb", "sh", "-c", script, text=False)
    return box


def test_the_streams_are_apart_and_in_order(box):
    done = ran(box, "echo one; echo two >&2; printf part; printf ial; echo; printf last").veloci("logs", "it")
    assert (done.stdout, done.stderr) == ("one\npartial\nlast", "two\n")
    assert box.ok("logs", "it", stderr=subprocess.STDOUT, capture_output=False, stdout=subprocess.PIPE).count("\n") == 3


def test_a_terminals_output_is_one_stream_as_it_was(box):
    ran(box, "echo out; echo err >&2", "-t")
    assert box.veloci("logs", "it", text=False).stdout == b"out\r\nerr\r\n"


def test_long_lines_and_many_come_back_whole(box):
    ran(box, "x=$(seq 1 9000 | while read n; do printf 12345678; done); echo $x; seq 5000")
    assert box.ok("logs", "it") == "12345678" * 9000 + "\n" + "".join(f"{n}\n" for n in range(1, 5001))


def test_bytes_that_are_no_text_are_shown_as_such_and_spoil_nothing(box):
    ran(box, r"printf '\377\376 \033[1mbold\033[0m \n'; echo after")
    assert box.ok("logs", "it") == "\ufffd\ufffd \x1b[1mbold\x1b[0m \nafter\n"


def test_the_last_lines(box):
    ran(box, "seq 5")
    every = "1\n2\n3\n4\n5\n"
    for tail, shown in (("2", "4\n5\n"), ("0", ""), ("99", every), ("all", every), ("-1", every)):
        assert box.ok("logs", "--tail", tail, "it") == shown
    assert box.ok("logs", "-n", "1", "it") == "5\n"


def test_times_and_details_stand_before_each_line(box):
    ran(box, "seq 2")
    first, second = box.ok("logs", "-t", "it").splitlines()
    stamp, _, text = first.partition(" ")
    assert (len(stamp), stamp[-1], text, second[-2:]) == (30, "Z", "1", " 2")
    assert box.ok("logs", "--details", "it") == " 1\n 2\n"
    assert box.ok("logs", "-t", "--details", "it").splitlines()[0] == f"{stamp}  1"


def test_a_span_of_time(box):
    ran(box, "echo one; sleep 0.2; echo two; sleep 0.2; echo three")
    times = [line.partition(" ")[0] for line in box.ok("logs", "-t", "it").splitlines()]
    assert box.ok("logs", "--since", times[1], "it") == "two\nthree\n"
    assert box.ok("logs", "--until", times[1], "it") == "one\ntwo\n"
    assert box.ok("logs", "--since", times[1], "--until", times[1], "it") == "two\n"
    assert box.ok("logs", "--since", "1h", "it") == "one\ntwo\nthree\n"
    assert box.ok("logs", "--until", "1h", "it") == ""
    assert box.ok("logs", "--since", str(time.time() + 60), "it") == ""
    assert box.ok("logs", "--tail", "2", "--until", times[1], "it") == "two\n"  # as docker: of the last two


def test_a_time_that_is_none_is_refused(box):
    ran(box, "true")
    done = box.veloci("logs", "--since", "yesterday", "it")
    assert (done.returncode, done.stderr) == (
        1,
        "veloci: --since: 'yesterday' is neither a time nor a duration\n"
        "  try: 2026-11-24T10:00:00Z, 2026-11-24, 1795514400, or 10m ago as 10m\n",
    )


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1700000000", 1_700_000_000_000_000_000),
        ("1700000000.5", 1_700_000_000_500_000_000),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000_000_000),
        ("2023-11-14T22:13:20.123456789Z", 1_700_000_000_123_456_789),
        ("2023-11-14T23:13:20+01:00", 1_700_000_000_000_000_000),
        ("2023-11-14T00:00Z", 1_699_920_000_000_000_000),
    ],
)
def test_times_are_read_as_docker_reads_them(text, moment):
    assert nanoseconds(text, "--since") == moment


def test_following_ends_with_the_container(box):
    box.started("--name", "it", "bb", "sh", "-c", "for x in 1 2 3; do echo $x; sleep 0.3; done; printf end; exit 4")
    began = time.monotonic()
    assert box.ok("logs", "-f", "it") == "1\n2\n3\nend"
    assert time.monotonic() - began < 5
    assert box.ok("logs", "-f", "it") == "1\n2\n3\nend"  # it has ended


def test_following_shows_what_is_written_while_it_is(box):
    box.started("--name", "it", "bb", "sh", "-c", "echo old; while :; do echo new; sleep 0.2; done")
    until(lambda: box.ok("logs", "it").startswith("old\nnew\n"))
    with box.background("logs", "-f", "--tail", "0", "it") as following:
        assert [following.stdout.readline() for _ in range(3)] == ["new\n"] * 3
        box.ok("rm", "-f", "it")
        assert following.wait(20) == 0


def test_following_goes_on_through_restarts(box):
    box.started("--name", "it", "--restart", "on-failure:2", "bb", "sh", "-c", "printf up; exit 1")
    assert box.ok("logs", "-f", "it") == "upupup"


def test_following_ends_at_a_time(box):
    box.started("--name", "it", "bb", "sh", "-c", "while :; do echo new; sleep 0.1; done")
    began = time.monotonic()
    assert "new\n" in box.ok("logs", "-f", "--until", str(time.time() + 1), "it")
    assert 0.5 < time.monotonic() - began < 5


def test_rotation_bounds_the_files_and_a_follower_misses_nothing(box):
    writes = 'x=$(printf %10000d 7); sleep 0.5; seq 1 4000 | while read n; do echo $n "$x"; done'  # 40 MB
    box.started("--name", "it", "bb", "sh", "-c", writes)
    followed = box.ok("logs", "-f", "it").split()[::2]
    assert followed == [str(n) for n in range(1, 4001)]
    files = sorted((box.path / "data/containers" / box.show("it", "{{.Id}}")).glob("log*"))
    assert [file.name for file in files] == ["log", "log.1", "log.2"]
    assert sum(file.stat().st_size for file in files) <= 32 << 20
    kept = box.ok("logs", "it").split()[::2]
    assert kept == followed[-len(kept) :]
    assert len(kept) > 2000


def test_an_unknown_container_has_none(box):
    done = box.veloci("logs", "nobody")
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        "veloci: no such container: nobody\n  try: veloci ps -a\n",
    )


def test_the_log_is_as_large_as_it_may_be(box):
    writes = 'x=$(printf %1000d 7); seq 1 200 | while read n; do echo $n "$x"; done'
    ran(box, writes, "--log-opt", "max-size=50k", "--log-opt", "max-file=2")
    files = sorted((box.path / "data/containers" / box.show("it", "{{.Id}}")).glob("log*"))
    assert [file.name for file in files] == ["log", "log.1"]
    assert sum(file.stat().st_size for file in files) <= 100 << 10
    assert box.ok("logs", "it").split()[-2] == "200"
    assert (
        box.show("it", "{{json .HostConfig.LogConfig}}")
        == '{"Type":"json-file","Config":{"max-size":"50k","max-file":"2"}}'
    )


def test_labels_and_variables_stand_with_each_line_on_demand(box):
    ran(
        box,
        "echo one",
        "-l",
        "tier=web",
        "-e",
        "A=1",
        "-e",
        "B=2",
        "--log-opt",
        "labels=tier,none",
        "--log-opt",
        "env=A",
    )
    assert box.ok("logs", "--details", "it") == "A=1,tier=web one\n"
    assert box.ok("logs", "it") == "one\n"


def test_nothing_is_kept_where_that_is_asked_for(box):
    done = box.veloci("run", "--name", "it", "--log-driver", "none", "--network", "none", "bb", "echo", "seen")
    assert (done.returncode, done.stdout) == (0, "seen\n")
    done = box.veloci("logs", "it")
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "veloci: the container's log driver keeps nothing")
    for words, error in (
        (("--log-driver", "syslog"), "veloci: --log-driver: no log driver 'syslog'"),
        (("--log-opt", "colour=red"), "veloci: --log-opt: unknown log opt 'colour' for json-file log driver"),
        (("--log-opt", "max-file=0"), "veloci: --log-opt max-file: '0' is not a number of files"),
        (("--log-opt", "max-size=big"), "veloci: --log-opt max-size: 'big' is not a size"),
    ):
        done = box.veloci("run", *words, "bb", "true")
        assert (done.returncode, done.stderr.splitlines()[0]) == (125, error)
