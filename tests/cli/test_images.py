"""images, history, tag, rmi, import: docker's lists, words and exit statuses."""

import json
import os

import pytest
from peers import tar, veloci

from veloci.cli.image_filters import matches
from veloci.cli.main import main
from veloci.spec.reference import Reference


@pytest.fixture
def rootfs(roots, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    path = roots / "rootfs.tar"
    path.write_bytes(tar({"etc/text": b"hello\n"}))
    return str(path)


@pytest.fixture
def ran(rootfs, capsys):
    def run(*words):
        status = main(list(words))
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def app(ran, rootfs):
    """The ID of app:v0."""
    return ran("import", "-c", "LABEL tier=web", rootfs, "app:v0")[1].strip()


def test_an_imported_image_is_listed(ran, app):
    assert ran("images", "--format", "{{.Repository}} {{.Tag}} {{.ID}} {{.CreatedAt}}")[1].startswith(
        f"app v0 {app[7:19]} 2023-11-1"
    )
    lines = ran("images")[1].splitlines()
    assert lines[0].split("   ")[0] == "REPOSITORY"
    assert [word for word in lines[0].split("  ") if word][-2].strip() == "CREATED"
    assert lines[1].split()[:3] == ["app", "v0", app[7:19]]
    assert lines[1].endswith("10.2kB")
    assert ran("images", "--digests")[1].splitlines()[0].split() == [
        *["REPOSITORY", "TAG", "DIGEST", "IMAGE", "ID", "CREATED", "SIZE"]
    ]


def test_json_is_an_object_a_line(ran, app):
    ran("tag", "app:v0", "app:v1")
    found = [json.loads(line) for line in ran("images", "--format", "json")[1].splitlines()]
    assert [(each["Repository"], each["Tag"], each["ID"]) for each in found] == [
        ("app", "v0", app[7:19]),
        ("app", "v1", app[7:19]),
    ]


def test_quiet_gives_ids(ran, app):
    assert ran("images", "-q") == (0, f"{app[7:19]}\n", "")
    assert ran("images", "-aq", "--no-trunc") == (0, f"{app}\n", "")


def test_an_empty_list_has_its_headings(ran):
    assert ran("images") == (0, "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n", "")


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["app"], ["app:v0"]),
        (["app:v0"], ["app:v0"]),
        (["app:v9"], []),
        (["a*"], ["app:v0"]),
        (["-f", "reference=team/*"], ["team/tool:1"]),
        (["-f", "reference=*/tool"], ["team/tool:1"]),
        (["-f", "label=tier"], ["app:v0"]),
        (["-f", "label=tier=db"], []),
        (["-f", "dangling=true"], ["<none>:<none>"]),
        (["-f", "dangling=false"], ["app:v0", "team/tool:1"]),
    ],
    ids=" ".join,
)
def test_a_filter_chooses(ran, rootfs, app, words, shown):
    ran("import", "-m", "tool", rootfs, "team/tool:1")
    ran("import", "-m", "nameless", rootfs)
    out = ran("images", *words, "--format", "{{.Repository}}:{{.Tag}}")[1]
    assert sorted(out.split()) == sorted(shown)


def test_before_and_since_go_by_age(ran, rootfs, app, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000001")
    ran("import", rootfs, "app:new")
    assert ran("images", "-f", "before=app:new", "--format", "{{.Tag}}")[1] == "v0\n"
    assert ran("images", "-f", "since=app:v0", "--format", "{{.Tag}}")[1] == "new\n"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["-f", "color=red"], "veloci: --filter: invalid filter 'color'\n"),
        (["-f", "dangling"], "veloci: --filter: invalid filter 'dangling': it has no =\n"),
        (["-f", "dangling=maybe"], "veloci: --filter: invalid filter 'dangling=maybe'\n"),
        (["-f", "since=nope"], "veloci: no such image: nope:latest\n"),
    ],
    ids=" ".join,
)
def test_a_bad_filter_is_said(ran, words, error):
    status, out, err = ran("images", *words)
    assert (status, out) == (125 if "has no =" in error else 1, "")  # as docker: 125 for a flag's grammar
    assert err.startswith(error)


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("debian", "debian:12", True),
        ("deb*:1?", "debian:12", True),
        ("debian:[0-9]2", "debian:12", True),
        ("*", "team/app:1", False),
        ("*/*", "team/app:1", True),
        ("a.p", "app:1", False),
    ],
)
def test_patterns_are_a_shells(pattern, name, fits):
    assert matches(pattern, Reference.parse(name)) is fits


def test_history_shows_the_steps(ran, app):
    lines = ran("history", "app:v0")[1].splitlines()
    assert lines[0].split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert lines[1].startswith(app[7:19])
    assert ran("history", "-q", "--no-trunc", "app:v0")[1] == f"{app}\n"
    assert ran("history", "--human=false", "--format", "{{.CreatedAt}} {{.Size}}", "app:v0")[1] == (
        "2023-11-14T22:13:20Z 10240\n"
    )


def test_tag_prints_nothing_and_rmi_says_what_it_did(ran, app):
    assert ran("tag", app[7:19], "127.0.0.1:5000/app") == (0, "", "")
    assert ran("rmi", "app:v0") == (0, "Untagged: app:v0\n", "")
    assert ran("rmi", app) == (0, f"Untagged: 127.0.0.1:5000/app:latest\nDeleted: {app}\n", "")
    assert ran("images", "-q") == (0, "", "")


def test_rmi_goes_on_after_one_that_is_not_there(ran, app):
    assert ran("rmi", "nope", "app:v0") == (
        1,
        f"Untagged: app:v0\nDeleted: {app}\n",
        "veloci: no such image: nope:latest\n  try: veloci pull nope:latest\n",
    )


def test_import_reads_standard_input(rootfs):
    with open(rootfs, "rb") as file:
        out = veloci("import", "-", "app:v0", stdin=file)
    assert out.startswith("sha256:")
    assert veloci("images", "-q", "--no-trunc") == out


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["missing.tar"], "veloci: open missing.tar: No such file or directory\n"),
        (["/"], "veloci: read /: Is a directory\n"),
        (["/etc/passwd"], "veloci: /etc/passwd: not a root file system's tar: "),
        (["{}", "Upper"], "veloci: invalid reference 'Upper'"),
        (["{}", "app@sha256:" + "0" * 64], "veloci: app@sha256:" + "0" * 64 + ": cannot import digest reference\n"),
        (["-c", "COPY a b", "{}"], "veloci: --change: COPY is not a valid change command\n"),
        (["--platform", "a/b/c/d", "{}"], "veloci: 'a/b/c/d' is not a platform\n"),
        (["http://127.0.0.1/x"], "veloci: http://127.0.0.1/x: an import reads a file\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_bad_import_is_one_line_and_leaves_nothing(ran, rootfs, words, error):
    status, out, err = ran("import", *(rootfs if word == "{}" else word for word in words))
    assert (status, out) == (1, "")
    assert err.startswith(error)
    assert ran("images", "-q")[1] == ""
    ingest = os.path.join(os.environ["VELOCI_ROOT"], "content/ingest")
    assert not os.path.exists(ingest) or os.listdir(ingest) == []


def test_what_an_image_says_of_itself_is_shown_and_not_obeyed(ran, rootfs):
    ran("import", "-m", "red \x1b[31m\nline", rootfs, "app:v0")
    assert "\x1b" not in ran("history", "app:v0")[1]
    assert len(ran("history", "app:v0")[1].splitlines()) == 2
