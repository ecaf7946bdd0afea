"""events: what happened, in docker's words, since when and while one looks on."""

import json
import subprocess
import time

import pytest

from veloci.engine.engine import Engine

pytestmark = pytest.mark.needs("root", "namespaces", "overlay", "busybox")


def lived(box):
    """A container that went through everything. Returns when that began."""
    begin = time.time()
    box.started("--name", "it", "-l", "tier=web", "bb", "sleep", "60")
    for words in (
        ("pause",),
        ("unpause",),
        ("exec", "it", "true"),
        ("kill", "-s", "USR1"),
        ("update", "--restart", "always"),
        ("stop", "-t", "0"),
        ("start",),
        ("restart", "-t", "0"),
    ):
        box.ok(*words, *(() if words[0] == "exec" else ("it",)))
    box.ok("rename", "it", "other")
    box.ok("rm", "-f", "other")
    return begin


def told(box, *words):
    return box.ok("events", *words, "--until", str(time.time()))


def test_a_containers_life_is_told_in_dockers_words(box):
    begin = lived(box)
    actions = told(box, "--since", str(begin), "--filter", "type=container", "--format", "{{.Action}}").splitlines()
    assert actions == [
        "create", "start", "pause", "unpause", "exec_create: true", "exec_start: true", "exec_die", "kill", "update",
        "kill", "kill", "die", "stop", "start", "kill", "kill", "die", "stop", "start", "restart", "rename",
        "kill", "kill", "die", "stop", "destroy",
    ]  # fmt: skip
    line = told(box, "--since", str(begin), "--filter", "event=rename").strip()
    stamp, kind, action, id, attributes = line.split(" ", 4)
    assert (len(stamp), kind, action, len(id), attributes) == (
        30,
        "container",
        "rename",
        64,
        "(image=bb, name=other, oldName=/it, tier=web)",
    )
    assert told(box, "--since", "1h") == told(box, "--since", str(begin))
    assert told(box, "--since", str(time.time() + 5)) == ""


def test_filters_choose(box):
    box.ok("run", "--name", "one", "--network", "none", "-l", "x=1", "bb", "true")
    box.veloci("run", "--name", "two", "--network", "none", "bb", "sh", "-c", "exit 3")

    def names(*filters):
        words = [word for text in filters for word in ("--filter", text)]
        return told(box, "--since", "1h", *words, "--format", "{{.Actor.Attributes.name}}").split()

    assert names("event=die") == ["one", "two"]
    assert names("event=die", "container=two") == ["two"]
    assert names("event=die", f"container={box.show('one', '{{.Id}}')}") == ["one"]
    assert names("event=create", "event=die", "label=x=1") == ["one", "one"]
    assert names("event=die", "image=bb", "type=container") == ["one", "two"]
    assert names("image=other") == names("type=volume") == []
    assert names("type=network", "event=connect") == ["none", "none"]
    events = [
        json.loads(line)
        for line in told(box, "--since", "1h", "--filter", "event=die", "--format", "json").splitlines()
    ]
    assert [event["Actor"]["Attributes"]["exitCode"] for event in events] == ["0", "3"]
    assert list(events[0]) == ["status", "id", "from", "Type", "Action", "Actor", "scope", "time", "timeNano"]
    done = box.veloci("events", "--filter", "colour=red")
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "veloci: --filter: invalid filter 'colour=red'")


def test_what_happens_is_seen_at_once(box):
    box.ok("create", "--name", "old", "--network", "none", "bb", "true")
    with box.background("events", "--format", "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}") as looking:
        time.sleep(0.5)
        box.ok("run", "--name", "it", "--rm", "--network", "none", "bb", "true")
        seen = [looking.stdout.readline().strip() for _ in range(7)]
    assert seen == [
        "container create it",
        "container attach it",
        "network connect none",
        "container start it",
        "container die it",
        "network disconnect none",
        "container destroy it",
    ]


def test_what_the_library_does_to_networks_and_volumes_is_told_as_what_the_command_does(box):
    engine = Engine()
    engine.networks.create("mine", subnet="10.213.0.0/24")
    engine.networks.remove("mine")
    engine.volumes.create("data")
    engine.volumes.remove("data")
    seen = told(box, "--since", "1h", "--format", "{{.Type}} {{.Action}}").splitlines()
    assert [line for line in seen if not line.startswith("image ")] == [
        "network create",
        "network destroy",
        "volume create",
        "volume destroy",
    ]


def test_the_journal_is_bounded_and_looked_through_as_it_grows(box):
    from veloci.monitor import events

    box.ok("create", "--name", "it", "bb", "true")
    data = str(box.path / "data/containers" / box.show("it", "{{.Id}}"))
    with box.background("events", "--filter", "event=many", "--format", "{{.Actor.Attributes.n}}") as looking:
        time.sleep(0.5)
        for n in range(6000):
            events.tell(str(box.path / "run"), data, "many", n=str(n))
        seen = [int(looking.stdout.readline()) for _ in range(6000)]
    assert seen == list(range(6000))
    files = sorted((box.path / "run").glob("events*"))
    assert [file.name for file in files] == ["events", "events.1"]
    assert sum(file.stat().st_size for file in files) < 3 << 20


def sentences(box, *filters):
    words = [word for text in filters for word in ("--filter", text)]
    return told(
        box, "--since", "1h", *words, "--format", "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}"
    ).splitlines()


def test_a_container_takes_its_network_and_volumes_at_each_start(box):
    box.ok("network", "create", "--subnet", "10.213.0.0/24", "mine")
    box.started(
        "--name", "it", "--restart", "on-failure:1", "-v", "data:/data", "bb", "sh", "-c", "exit 3", network="mine"
    )
    box.ok("wait", "it")
    box.ok("rm", "-v", "it")
    box.ok("volume", "rm", "data")
    box.ok("network", "rm", "mine")
    once = ["network connect mine", "volume mount <no value>", "container start it"]
    once += ["container die it", "network disconnect mine", "volume unmount <no value>"]
    assert sentences(box) == [
        "network create mine", "volume create <no value>", "container create it", *once, *once,
        "container destroy it", "volume destroy <no value>", "network destroy mine",
    ]  # fmt: skip
    assert sentences(box, "network=mine")[-1] == "network destroy mine"
    assert {line.split()[0] for line in sentences(box, "volume=data")} == {"volume"}
    shown = told(box, "--since", "1h", "--filter", "event=mount", "--format", "{{json .Actor.Attributes}}").splitlines()
    known = {key: value for key, value in json.loads(shown[-1]).items() if key != "container"}
    assert known == {"destination": "/data", "driver": "local", "propagation": "", "read/write": "true"}


def test_images_are_found_by_id_and_by_name_with_and_without_a_tag(box):
    id = box.ok("images", "-q", "--no-trunc", "bb").strip()
    box.ok("tag", "bb", "other:1")
    box.ok("rmi", "other:1")
    assert sentences(box, "image=other") == sentences(box, "image=other:1") == ["image tag other:1"]
    assert sentences(box, f"image={id}") == ["image tag other:1", f"image untag {id}"]
    assert sentences(box, "image=other", "event=untag") == []
    box.ok("create", "--name", "it", "--network", "none", "bb", "true")
    assert sentences(box, "image=bb") == sentences(box, "image=bb", "scope=local") == ["container create it"]


def test_what_is_built_and_pruned_is_told(box):
    place = box.path / "context"
    place.mkdir()
    (place / "Dockerfile").write_text("FROM bb\nENV a=b\n")
    box.ok("build", "-q", "-t", "made", place)
    box.ok("rmi", "made")
    box.ok("system", "prune", "--force", "--volumes")
    box.ok("builder", "prune", "--force", "--all")
    lines = sentences(box)
    assert "image tag made:latest" in lines
    kinds = [line.removesuffix(" prune <no value>") for line in lines if " prune " in line]
    assert kinds == ["container", "network", "volume", "image", "builder", "builder"]


def test_a_journal_on_a_full_disk_fails_nothing(box):
    """What cannot be written is not told; half a line, left by a full disk, hides no other."""
    (box.path / "full").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", box.path / "full"], check=True)
    try:
        run = box.path / "full"
        (run / "filler").write_bytes(bytes(16 << 10)[: 12 << 10])
        words = ("--runroot", run, "tag", "bb", "x" * 100)
        for _ in range(40):
            box.ok(*words)
        size = (run / "events").stat().st_size
        assert size == 4096
        (run / "filler").unlink()
        box.ok("--runroot", run, "tag", "bb", "after")
        box.ok("--runroot", run, "tag", "bb", "last")
        lines = box.ok(
            "--runroot",
            run,
            "events",
            "--since",
            "1h",
            "--until",
            str(time.time()),
            "--format",
            "{{.Actor.Attributes.name}}",
        ).splitlines()
        assert set(lines[:-1]) <= {"x" * 100 + ":latest", "after:latest"}
        assert lines[-1] == "last:latest"
    finally:
        subprocess.run(["umount", box.path / "full"], check=True)


def test_the_first_command_after_a_boot_is_told(box):
    run = box.path / "new/run"
    box.ok("--runroot", run, "tag", "bb", "other")
    shown = box.ok("--runroot", run, "events", "--since", "1h", "--until", str(time.time()))
    assert shown.split()[1:3] == ["image", "tag"]
    assert run.stat().st_mode & 0o7777 == 0o700
