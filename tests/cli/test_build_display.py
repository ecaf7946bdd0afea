"""What a build prints where no terminal is."""

import base64
import io
import json

import pytest

from veloci.cli.build_display import Plain, display
from veloci.errors import InvalidInput


def test_lines_are_buildkits():
    stream = io.StringIO()
    with Plain(stream) as shown:
        first = shown.start("[1/2] RUN make\nit")
        shown.output(first, b"one\ntw")
        second = shown.start("[2/2] COPY a /")
        shown.output(first, b"o\r\nhalf\x1b[1mway\rthree")
        bytes_of = shown.transfers(second)
        bytes_of.start("sha256:" + "0123456789ab" + "0" * 52, "Downloading", 10)
        bytes_of.advance("sha256:" + "0123456789ab" + "0" * 52, 10)
        bytes_of.done("sha256:" + "0123456789ab" + "0" * 52, "Pull complete")
        bytes_of.start("reading the build context", "bytes")
        bytes_of.advance("reading the build context", 31)
        bytes_of.done("reading the build context", "")
        shown.done(first, 1.23)
        shown.done(second, None)
        shown.note(second, "writing image sha256:0 done")
        shown.failed(shown.start("[3/3] RUN false"), "exit status 1")
        shown.line("[Warning] odd")
    lines = [line.split(" ", 2) for line in stream.getvalue().splitlines()]
    timed = [line for line in lines if line[1].startswith("0.")]
    assert [line[2] for line in timed] == ["one", "two", "three"]
    assert [" ".join(line) for line in lines if line not in timed] == [
        "#1 [1/2] RUN make; it",
        "#2 [2/2] COPY a /",
        "#2 0123456789ab: Pull complete",
        "#2 reading the build context: 31B",
        "#1 DONE 1.2s",
        "#2 CACHED",
        "#2 writing image sha256:0 done",
        "#3 [3/3] RUN false",
        "#3 ERROR: exit status 1",
        "[Warning] odd",
    ]


def test_raw_json_has_buildkits_shape():
    stream = io.StringIO()
    with display("rawjson", stream) as shown:
        step = shown.start("[1/1] RUN make")
        shown.output(step, b"hello\n")
        bytes_of = shown.transfers(step)
        bytes_of.start("layer", "Downloading", 10)
        bytes_of.advance("layer", 4)
        bytes_of.done("layer", "Pull complete")
        shown.done(step, None)
    begun, log, moving, moved, ended = map(json.loads, stream.getvalue().splitlines())
    vertex = begun["vertexes"][0]
    assert vertex["name"] == "[1/1] RUN make"
    assert "completed" not in vertex
    assert base64.b64decode(log["logs"][0]["data"]) == b"hello\n"
    assert log["logs"][0]["vertex"] == vertex["digest"] == moving["statuses"][0]["vertex"]
    assert moving["statuses"][0]["total"] == 10
    assert moved["statuses"][0]["name"] == "Pull complete"
    assert ended["vertexes"][0]["cached"] is True
    assert ended["vertexes"][0]["started"] == vertex["started"]


def test_quiet_shows_what_failed_alone():
    stream = io.StringIO()
    with display("quiet", stream) as shown:
        good, bad = shown.start("good"), shown.start("bad")
        shown.output(good, b"fine\n")
        shown.output(bad, b"broken")
        shown.done(good, 1.0)
        shown.failed(bad, "exit status 1")
    rule, title, said, end = stream.getvalue().splitlines()
    assert (rule, title, said.partition(" ")[2], end) == ("------", " > bad:", "broken", "------")


def test_a_picture_needs_a_terminal():
    with pytest.raises(InvalidInput, match=r"^--progress=tty: standard error is no terminal that can move its cursor$"):
        display("tty", io.StringIO())
    with pytest.raises(InvalidInput, match=r"^--progress: unknown kind 'fancy'$"):
        display("fancy", io.StringIO())
