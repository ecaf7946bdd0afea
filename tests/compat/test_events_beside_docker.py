"""Events of images, containers, networks, volumes: the same commands make docker and us tell the same."""

import json
import sys
import time

import pytest
from peers import Built, Dockerd, Serving, busybox, run

pytestmark = pytest.mark.needs("root", "namespaces", "overlay", "busybox", "docker", "dockerd", "skopeo")


@pytest.fixture(scope="module")
def told_by(tmp_path_factory):
    """The events of one history: docker's and ours."""
    path = tmp_path_factory.mktemp("events")
    built = Built(path / "layout", busybox(), name="bb:1")
    (path / "root.tar").write_bytes(built.tars[1])
    run("skopeo", "copy", "-q", f"oci:{path}/layout:bb:1", f"docker-archive:{path}/bb.tar:bb:1")

    def history(command, repository, home):
        """What happens. `home`: a directory of the engine's own."""
        home.mkdir()

        def do(*words, check=True):
            return run(*command, *words, check=check)

        begin = time.time()
        do("load", "-i", path / "bb.tar")
        do("tag", "bb:1", f"{repository}:1")
        do("push", f"{repository}:1")
        do("rmi", f"{repository}:1")
        do("pull", f"{repository}:1")
        do("pull", f"{repository}:1")
        do("save", "-o", home / "saved.tar", "bb:1")
        do("import", "-c", "LABEL tier=web", path / "root.tar", "made:1")
        do("rmi", "made:1")
        do("import", path / "root.tar")
        do("network", "create", "--label", "a=b", "mine")
        do("volume", "create", "--label", "a=b", "data")
        do(
            "create",
            "--name",
            "it",
            "--network",
            "none",
            "-v",
            "data:/data:ro",
            "-l",
            "x=y",
            "bb:1",
            "sh",
            "-c",
            "sleep 100",
        )
        do("start", "it")
        do("stop", "-t", "0", "it")
        do("commit", "-m", "why", "it", "kept:1")
        do("rm", "it")
        do("create", "--name", "bad", "--network", "none", "-v", "data:/data", "bb:1", "nosuch")
        do("start", "bad", check=False)
        do("rm", "bad")
        do("volume", "rm", "data")
        do("network", "rm", "mine")
        do("network", "create", "other")
        for kind in ("container", "network", "image"):
            do(kind, "prune", "-f")
        do("volume", "prune", "-f")
        do("rmi", "-f", "kept:1")
        end = time.time()
        words = ("events", "--since", f"{begin:.9f}", "--until", f"{end:.9f}", "--format", "{{json .}}")
        lines = do(*words).splitlines()
        found = [json.loads(line) for line in lines]
        return [_alike(event, repository, found) for event in found if not _known(event, found)]

    with Serving(path / "registry") as (address, _), Dockerd(path / "d", "--insecure-registry", address) as docker:
        docker_says = history(docker, f"{address}/docker", path / "docker")
        ours = (sys.executable, "-m", "veloci", "--root", str(path / "data"), "--runroot", str(path / "run"))
        return docker_says, history(ours, f"{address}/ours", path / "veloci")


def _known(event, found):
    """Whether docker 20.10 tells again that a volume is made which is there already."""
    earlier = [other for other in found if other["timeNano"] < event["timeNano"]]
    return (event["Type"], event["Action"]) == ("volume", "create") and any(
        (other["Action"], other["Actor"]["ID"]) == ("create", event["Actor"]["ID"]) for other in earlier
    )


def _alike(event, repository, found):
    """An event without what differs from run to run: IDs are numbered by their first appearance."""
    ids = list(dict.fromkeys(other["Actor"]["ID"] for other in found))
    text = json.dumps(event).replace(repository, "REPOSITORY")
    for number, id in enumerate(ids):
        if len(id) >= 64:
            text = text.replace(id, f"ID{number}")
    alike = json.loads(text)
    stamps = alike.pop("time"), alike.pop("timeNano")
    assert stamps[0] == stamps[1] // 10**9
    attributes = alike["Actor"]["Attributes"]
    for name in {"reclaimed", "imageID"} & {*attributes}:
        attributes[name] = "…"
    return alike


def test_docker_and_we_tell_the_same(told_by):
    docker, ours = told_by

    def sentences(events):
        return [
            f"{event['Type']} {event['Action']} {event['Actor']['ID']} {event['Actor']['Attributes']}"
            for event in events
        ]

    assert sentences(ours) == sentences(docker)
    assert [list(event) for event in ours] == [list(event) for event in docker]
    assert ours == docker
