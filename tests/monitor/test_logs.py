"""The log: docker's form, cut, bounded; read whole, from its tail, and while it grows."""

import json
import time

import pytest

from veloci.monitor.logs import LONGEST, Log, Reader, nanoseconds, timestamp


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "log")


def entries(path, **options):
    reader = Reader(path, **options)
    try:
        return [(stream, text) for _, stream, text, _ in reader.entries()]
    finally:
        reader.close()


def test_an_entry_is_a_line_of_json_as_docker_writes_it(path, tmp_path):
    log = Log(path)
    log.write("stdout", b'say "hi"\x1b[1m\n')
    log.close()
    (line,) = (tmp_path / "log").read_text().splitlines()
    entry = json.loads(line)
    assert list(entry) == ["log", "stream", "time"]
    assert (entry["log"], entry["stream"]) == ('say "hi"\x1b[1m\n', "stdout")
    assert "\x1b" not in line
    assert abs(nanoseconds(entry["time"]) - time.time_ns()) < 5e9


def test_a_line_waits_for_its_end_and_the_last_may_lack_one(path):
    log = Log(path)
    log.write("stdout", b"one\ntw")
    log.write("stderr", b"oops\n")
    log.write("stdout", b"o\nthree")
    assert entries(path) == [("stdout", "one\n"), ("stderr", "oops\n"), ("stdout", "two\n")]
    log.close()
    assert entries(path)[-1] == ("stdout", "three")


def test_a_long_line_is_cut_and_none_is_kept_in_memory(path):
    log = Log(path)
    for _ in range(5):
        log.write("stdout", b"x" * LONGEST)
    log.write("stdout", b"\n")
    assert [len(text) for _, text in entries(path)] == [LONGEST] * 5 + [1]
    assert log._partial == {"stdout": b"", "stderr": b""}
    log.close()


def test_lines_cannot_be_forged(path):
    log = Log(path)
    log.write("stdout", b'a"}\n{"log":"forged\\n","stream":"stderr"}\n')
    log.close()
    assert entries(path) == [("stdout", 'a"}\n'), ("stdout", '{"log":"forged\\n","stream":"stderr"}\n')]


def test_it_is_bounded_and_keeps_the_newest(path, tmp_path):
    log = Log(path, max_size=2000, max_files=3)
    for number in range(200):
        log.write("stdout", b"%d\n" % number)
    log.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 6000
    numbers = [int(text) for _, text in entries(path)]
    assert numbers == list(range(numbers[0], 200))
    assert [int(text) for _, text in entries(path, tail=3)] == [197, 198, 199]


def test_what_an_earlier_start_has_written_counts(path, tmp_path):
    for number in range(100):
        log = Log(path, max_size=2000, max_files=2)
        log.write("stdout", b"%d\n" % number)
        log.close()
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 4000


def test_one_file_only_is_begun_again(path, tmp_path):
    log = Log(path, max_size=500, max_files=1)
    for number in range(50):
        log.write("stdout", b"%d\n" % number)
    log.close()
    assert [p.name for p in tmp_path.iterdir()] == ["log"]
    assert entries(path)[-1] == ("stdout", "49\n")


def test_a_reader_follows_through_rotations(path):
    log = Log(path, max_size=500, max_files=2)
    reader, seen = Reader(path), []
    for number in range(60):
        log.write("stdout", b"%d\n" % number)
        seen += [int(text) for _, _, text, _ in reader.entries()]
    assert seen == list(range(60))
    reader.close()
    log.close()


def test_no_log_is_no_entries(path):
    assert entries(path) == []
    assert entries(path, tail=5) == []


@pytest.mark.parametrize("moment", [0, 1, 1_700_000_000_123_456_789])
def test_times_have_nanoseconds(moment):
    assert nanoseconds(timestamp(moment)) == moment


def test_a_time_is_written_as_go_writes_it():
    assert timestamp(1_700_000_000_000_000_001) == "2023-11-14T22:13:20.000000001Z"
