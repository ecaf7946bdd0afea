"""ps: what is listed, in which order, how it is shown; filters; damaged containers beside whole ones."""

import json
import subprocess
import time

import pytest
from box import Box, until

pytestmark = pytest.mark.needs("root", "namespaces", "overlay", "busybox")

NAMES = ("ps", "-a", "--format", "{{.Names}}")


def make(box):
    """`old` has ended with 3, `new` was made only, `web` runs."""
    box.veloci("run", "--name", "old", "--network", "none", "bb", "sh", "-c", "exit 3")
    box.ok("create", "--name", "new", "-l", "tier=db", "-l", "x=1", "-v", "data:/data", "bb", "echo", "a b", "c")
    box.started("--name", "web", "-l", "tier=web", "--expose", "53/udp", "-p", "127.0.0.1::80", "-p", "127.0.0.1::81", "bb", "sleep", "60", network="bridge")  # fmt: skip
    return box


@pytest.fixture
def three(box):
    return make(box)


@pytest.fixture(scope="module")
def stored_three(_stored, tmp_path_factory):
    """The same, once for all filters."""
    path = tmp_path_factory.mktemp("three")
    subprocess.run(["cp", "-a", _stored, path / "data"], check=True)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("VELOCI_ROOT", str(path / "data"))
        environment.setenv("VELOCI_RUN", str(path / "run"))
        box = make(Box(path))
        yield box
        box.ok("rm", "-f", *box.ok("ps", "-aq").split())


def test_what_runs_is_listed_or_all_the_latest_first(stored_three):
    assert stored_three.ok("ps", "--format", "{{.Names}}") == "web\n"
    assert stored_three.ok(*NAMES) == "web\nnew\nold\n"
    assert stored_three.ok("ps", "-n", "2", "--format", "{{.Names}}") == "web\nnew\n"
    assert stored_three.ok("ps", "-l", "--format", "{{.Names}}") == "web\n"
    assert stored_three.ok("ps", "-q", "--no-trunc") == stored_three.show("web", "{{.Id}}") + "\n"
    assert stored_three.ok("ps", "-aq").split() == [
        stored_three.show(name, "{{.Id}}")[:12] for name in ("web", "new", "old")
    ]


def test_the_table_is_dockers(stored_three):
    headers, *lines = stored_three.ok("ps", "-a").splitlines()
    assert headers.split() == "CONTAINER ID IMAGE COMMAND CREATED STATUS PORTS NAMES".split()
    starts = [headers.index(word) for word in ("IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES")]
    cells = [[line[a:b].strip() for a, b in zip([0, *starts], [*starts, None], strict=True)] for line in lines]
    first, second = (
        stored_three.show("web", f'{{{{(index (index .NetworkSettings.Ports "{port}/tcp") 0).HostPort}}}}')
        for port in (80, 81)
    )
    assert [row[1:3] + row[4:] for row in cells] == [
        ["bb", '"sleep 60"', cells[0][4], f"127.0.0.1:{first}->80/tcp, 127.0.0.1:{second}->81/tcp, 53/udp", "web"],
        ["bb", "\"echo 'a b' c\"", "Created", "", "new"],
        ["bb", "\"sh -c 'exit 3'\"", cells[2][4], "", "old"],
    ]
    assert cells[0][4].startswith("Up ")
    assert cells[2][4].startswith("Exited (3) ")
    assert cells[2][4].endswith(" ago")


def test_every_field_is_there_as_json(stored_three):
    web, new, _old = map(json.loads, stored_three.ok("ps", "-a", "--format", "json").splitlines())
    assert set(web) >= set(
        "Command CreatedAt ID Image Labels LocalVolumes Mounts Names Networks Ports RunningFor Size State Status".split()
    )
    assert (web["State"], web["Networks"], web["Labels"], web["LocalVolumes"]) == ("running", "bridge", "tier=web", "0")
    assert (new["State"], new["Mounts"], new["Labels"], new["LocalVolumes"]) == ("created", "data", "tier=db,x=1", "1")
    assert stored_three.ok("ps", "--format", 'table {{.Names}}\t{{.Label "tier"}}') == "NAMES     tier\nweb       web\n"
    done = stored_three.veloci("ps", "--format", "{{.Nope}}")
    assert (done.returncode, done.stdout) == (1, "")


def test_an_image_that_was_named_by_its_id_is_shown_in_short(box):
    id = box.ok("inspect", "--type", "image", "-f", "{{.Id}}", "bb").strip()
    box.ok("create", "--name", "it", id, "true")
    assert box.ok("ps", "-a", "--format", "{{.Image}}") == id.removeprefix("sha256:")[:12] + "\n"
    assert box.ok("ps", "-a", "--no-trunc", "--format", "{{.Image}}") == id + "\n"


def test_a_size_is_shown_on_demand(box):
    box.started("--name", "web", "bb", "sh", "-c", "dd if=/dev/zero of=/big bs=1000000 count=3; echo up; sleep 60")
    until(lambda: "up" in box.ok("logs", "web"))
    assert box.ok("ps", "-s").splitlines()[0].split()[-1] == "SIZE"
    written, virtual, total = box.ok("ps", "-s", "--format", "{{.Size}}").split()
    assert (written, virtual, total[-3:]) == ("3.02MB", "(virtual", "MB)")


def test_ports_that_follow_each_other_are_a_range(box):
    box.started("--name", "web", "--expose", "100-103", "bb", "sleep", "60", network="bridge")
    assert box.ok("ps", "--format", "{{.Ports}}") == "100-103/tcp\n"


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["name=w"], "web new"),
        (["name=^web$"], "web"),
        (["name=^/web$"], "web"),
        (["name=old", "name=new"], "new old"),
        (["name=zz"], ""),
        (["label=tier"], "web new"),
        (["label=tier=db"], "new"),
        (["label=tier", "label=x=1"], "new"),
        (["label=tier=web", "label=tier=db"], ""),
        (["status=created"], "new"),
        (["status=created", "status=running"], "web new"),
        (["status=exited", "name=o"], "old"),
        (["exited=3"], "old"),
        (["exited=0"], ""),
        (["ancestor=bb"], "web new old"),
        (["ancestor=bb:latest", "status=running"], "web"),
        (["ancestor=other"], ""),
        (["before=new"], "old"),
        (["since=new"], "web"),
        (["since=old", "before=web"], "new"),
        (["volume=data"], "new"),
        (["volume=/data"], "new"),
        (["volume=/other"], ""),
        (["network=none"], "old"),
        (["network=bridge"], "web new"),
        (["publish=80"], "web"),
        (["publish=70-90/tcp"], "web"),
        (["publish=80/udp"], ""),
        (["expose=53/udp"], "web"),
        (["expose=80"], "web"),
        (["health=none"], "web new old"),
        (["health=healthy"], ""),
        (["is-task=false"], "web new old"),
        (["is-task=true"], ""),
    ],
)
def test_filters(stored_three, filters, names):
    words = [word for text in filters for word in ("--filter", text)]
    assert stored_three.ok(*NAMES, *words).split() == names.split()


@pytest.mark.parametrize(
    ("filter", "error"),
    [
        ("foo=1", "veloci: --filter: invalid filter 'foo=1'"),
        ("name", "veloci: --filter: invalid filter 'name'"),
        ("status=bogus", "veloci: --filter: invalid filter 'status=bogus'"),
        ("exited=x", "veloci: --filter exited: 'x' is not an exit status"),
        ("health=ill", "veloci: --filter: invalid filter 'health=ill'"),
        ("publish=http", "veloci: --filter: invalid filter 'publish=http'"),
        ("before=nobody", "veloci: no such container: nobody"),
    ],
)
def test_a_filter_that_is_none_is_refused(box, filter, error):
    done = box.veloci("ps", "--filter", filter)
    status = 1 if "=" in filter else 125  # docker's, when a flag's grammar is wrong
    assert (done.returncode, done.stdout, done.stderr.splitlines()[0]) == (status, "", error)


def test_an_id_is_matched_in_part(stored_three):
    id = stored_three.show("old", "{{.Id}}")
    assert stored_three.ok(*NAMES, "--filter", f"id={id[:10]}") == "old\n"


def test_a_damaged_container_is_told_of_and_the_others_are_listed(three):
    id = three.show("old", "{{.Id}}")
    for text in ("{", '{"id": 5}', "", "[]"):
        (three.path / "data/containers" / id / "container.json").write_text(text)
        done = three.veloci(*NAMES)
        assert (done.returncode, done.stdout) == (0, "web\nnew\n")
        told, hint = done.stderr.splitlines()
        assert told.startswith(f"veloci: {three.path}/data/containers/{id}/container.json: the file is damaged: ")
        assert hint == f"  try: veloci rm -f {id[:12]}"
    assert three.veloci("rm", "-f", id[:12]).returncode == 0
    assert three.veloci(*NAMES).stderr == ""


def test_what_runs_is_found_without_reading_what_does_not(three):
    """A listing costs as much as there is to list: the records of ended containers are not opened."""
    id = three.show("old", "{{.Id}}")
    (three.path / "data/containers" / id / "container.json").write_text("{")
    done = three.veloci("ps", "--format", "{{.Names}}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "web\n", "")
    three.ok("rm", "-f", id[:12])


def test_times_are_told_as_docker_does(stored_three):
    time.sleep(1.1)
    created, status = stored_three.ok("ps", "--format", "{{.RunningFor}}|{{.Status}}").strip().split("|")
    number, unit = created.split(" ", 1)
    assert (number.isdigit(), unit) in ((True, "seconds ago"), (True, "second ago"), (False, "a minute ago"))
    assert status.startswith("Up ")
