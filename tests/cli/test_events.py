"""events: what happened, in docker's words, since when and while one looks on."""

import json
import time

import pytest

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
    actions = told(box, "--since", str(begin), "--format", "{{.Action}}").splitlines()
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
    assert names("image=other") == names("type=network") == []
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
    with box.background("events", "--format", "{{.Action}} {{.Actor.Attributes.name}}") as looking:
        time.sleep(0.5)
        box.ok("run", "--name", "it", "--rm", "--network", "none", "bb", "true")
        seen = [looking.stdout.readline() for _ in range(5)]
    assert seen == ["create it\n", "attach it\n", "start it\n", "die it\n", "destroy it\n"]


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
