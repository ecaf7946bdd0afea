import os
import subprocess
import sys
import time

import pytest

from veloci.cli.output import ago, duration, formatted, moment, short, show, size, table, timestamp, visible
from veloci.errors import InvalidInput

ITEMS = [
    {"Names": "web", "ID": "0123456789ab", "Label": lambda key: {"a.tier-x": "front"}.get(key, "")},
    {"Names": "a-rather-long-name", "ID": "ba9876543210", "Label": lambda _key: ""},
]
TABLE = "table {{.Names}}\t{{.ID}}"


def test_columns_are_as_wide_as_what_they_hold_and_never_narrow():
    assert table(["A", "LONG HEADER", "C"], [["a", "b", ""], ["cell of 14 ch.", "", "z"]]) == (
        "A                LONG HEADER   C\n"
        "a                b             \n"
        "cell of 14 ch.                 z\n"
    )  # fmt: skip
    assert table(["A", "B"], []) == "A         B\n"


def test_the_default_is_a_table():
    expected = (
        "NAMES                CONTAINER ID\n"
        "web                  0123456789ab\n"
        "a-rather-long-name   ba9876543210\n"
    )  # fmt: skip
    for format in (None, "", "table", "table {{.Names}}\\t{{.ID}}", TABLE):
        assert formatted(ITEMS, format, TABLE, headings={"ID": "CONTAINER ID"}) == expected


def test_json_is_an_object_a_line():
    lines = formatted(ITEMS, "json", TABLE).splitlines()
    assert lines == ['{"ID":"0123456789ab","Names":"web"}', '{"ID":"ba9876543210","Names":"a-rather-long-name"}']
    assert formatted(ITEMS, "{{json .}}", TABLE).splitlines() == lines
    assert formatted([], "json", TABLE) == ""


def test_a_template_is_a_line_an_item():
    assert formatted(ITEMS, r"{{.Names}}\t{{upper .ID}}", TABLE) == (
        "web\t0123456789AB\na-rather-long-name\tBA9876543210\n"
    )


def test_headings_are_made_of_the_fields():
    assert formatted([], r"table {{.CreatedAt}}\t{{lower .ImageID}}\t{{.Label `a.tier-x`}}", TABLE) == (
        "CREATED AT   IMAGE ID   tier x\n"
    )
    assert formatted(ITEMS[:1], r"table {{.Names}}: {{.Label `a.tier-x`}}", TABLE) == "NAMES: tier x\nweb: front\n"


def test_a_field_that_no_item_has_is_an_error():
    with pytest.raises(InvalidInput) as failure:
        formatted(ITEMS, "{{.Nope}}", TABLE)
    assert str(failure.value) == (
        'template parsing error: template: :1:2: executing "" at <.Nope>: can\'t evaluate field Nope in type struct'
    )
    assert failure.value.hint == "one of .ID .Label .Names"


@pytest.mark.needs("docker")
def test_a_table_is_aligned_as_by_docker(tmp_path):
    environment = {**os.environ, "DOCKER_CONFIG": str(tmp_path)}
    words = ["docker", "context", "ls", "--format"]
    environment.pop("DOCKER_HOST", None)

    item = {"Name": "default", "Description": "Current DOCKER_HOST based configuration"}
    for format in (
        r"table {{.Name}}\t{{.Description}}\t{{title .Name}}",
        r"table {{upper .Name}}\t{{json .Name}}\t{{truncate .Name 2}}\t{{pad .Name 2 2}}|",
        r"{{.Name}}\t{{.Description}}",
        "table {{.Name}} {{title .Name}}",
        "{{.Name",
    ):
        done = subprocess.run([*words, format], env=environment, check=False, capture_output=True, text=True)
        try:
            ours = formatted([item], format, TABLE)
        except InvalidInput as error:
            ours = f"{error}\n"
        assert ours == done.stdout + done.stderr


def test_a_cell_cannot_move_the_cursor():
    assert table(["A"], [["x\x1b[2J\x9b\u202e\r\n\ty"]]) == "A\nx\\x1b[2J\\x9b\\x202e\\x0d; \\x09y\n"
    assert visible("a\tb\x1b", keep="\t") == "a\tb\\x1b"
    assert formatted([{"Names": "x\x1b", "ID": "a\tb"}], None, TABLE).splitlines()[1] == "x\\x1b     a\\x09b"


SHOW = "from veloci.cli.output import show; show('a\\x1b[31m\\tb\\n\\ud800\\n')"


def test_a_pipe_gets_the_very_characters_and_a_terminal_none_that_it_obeys():
    done = subprocess.run(
        [sys.executable, "-c", "from veloci.cli.output import show; show('a\\x1b[31m\\tb\\n')"],
        check=True,
        capture_output=True,
    )
    assert done.stdout == b"a\x1b[31m\tb\n"
    primary, secondary = os.openpty()
    subprocess.run([sys.executable, "-c", SHOW], check=True, stdout=secondary)
    os.close(secondary)
    assert os.read(primary, 1000) == b"a\\x1b[31m\tb\r\n\\xd800\r\n"
    os.close(primary)


def test_what_has_no_bytes_is_shown_by_number(capsys):
    show("x\ud800")
    assert capsys.readouterr().out == "x\\ud800"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (4259840, "4.26MB"),
        (999_999, "1MB"),
        (1.23e9, "1.23GB"),
        (5e21, "5e+03EB"),
    ],
)
def test_sizes_have_three_digits_and_decimal_units(count, text):
    assert size(count) == text


HOUR, DAY = 3600, 86400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (300, "5 minutes"),
        (HOUR, "About an hour"),
        (1.4 * HOUR, "About an hour"),
        (1.6 * HOUR, "2 hours"),
        (47 * HOUR, "47 hours"),
        (2 * DAY, "2 days"),
        (13 * DAY, "13 days"),
        (14 * DAY, "2 weeks"),
        (59 * DAY, "8 weeks"),
        (60 * DAY, "2 months"),
        (729 * DAY, "24 months"),
        (730 * DAY, "2 years"),
    ],
)
def test_durations_are_dockers_words(seconds, text):
    assert duration(seconds) == text


def test_times_are_read_and_told(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert timestamp(moment("2024-05-01T10:00:00.123456789Z")) == "2024-05-01 10:00:00 +0000 UTC"
    assert moment("2024-05-01T12:00:00+02:00") == moment("2024-05-01T10:00:00")
    assert moment(None) == moment("yesterday") == 0
    assert ago(0) == "N/A"
    assert ago(time.time() - 300.5) == "5 minutes ago"
    monkeypatch.undo()
    time.tzset()


def test_an_id_is_known_by_twelve_characters():
    assert short("sha256:0123456789abcdef") == short("0123456789abcdef") == "0123456789ab"
