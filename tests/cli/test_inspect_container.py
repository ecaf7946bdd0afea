"""inspect of a container: docker's shape, whole, and what it says of what was asked for."""

import json
import os
import subprocess
import tempfile

import pytest
from peers import Dockerd

pytestmark = pytest.mark.needs("root", "namespaces", "overlay", "busybox")

ASKED = (
    "--name", "web", "-e", "A=1", "-l", "tier=web", "--tmpfs", "/t", "--restart", "on-failure:3", "-u", "guest", "-w", "/tmp",
    "--entrypoint", "sleep", "--memory", "64m", "--cap-add", "NET_ADMIN", "--stop-signal", "INT", "--hostname", "box",
)  # fmt: skip


def shape(value):
    """Every key of a document, by its path; lists and maps whose keys are data are not looked into."""
    if isinstance(value, dict):
        below = ((key, shape(item)) for key, item in value.items())
        return {path for key, paths in below for path in ({key} | {f"{key}.{each}" for each in paths})}
    return set()


@pytest.mark.needs("dockerd")
def test_every_field_of_dockers_is_there_and_of_its_type(box, tmp_path):
    tree = box.path / "tree.tar"
    subprocess.run(["tar", "-C", box.tree, "-cf", tree, "."], check=True)
    words = (*ASKED, "-v", f"{tmp_path}:/x:ro", "-p", "8080:80", "bb", "60")
    with Dockerd(tempfile.mkdtemp(prefix="docker")) as docker:  # a socket's path is short
        subprocess.run([*docker, "import", tree, "bb"], check=True, capture_output=True)
        subprocess.run([*docker, "run", "-d", "--network", "none", *words], check=True, capture_output=True)
        theirs = json.loads(subprocess.run([*docker, "inspect", "web"], check=True, capture_output=True).stdout)[0]
        subprocess.run([*docker, "rm", "-f", "web"], check=True, capture_output=True)
    box.started(*words)
    ours = json.loads(box.ok("inspect", "web"))[0]
    assert shape(theirs) - shape(ours) == {
        "HostConfig.PortBindings.80/tcp",
        "Config.ExposedPorts",
        "Config.ExposedPorts.80/tcp",
    }
    for part in ("State", "HostConfig", "Config", "NetworkSettings"):
        for key, value in theirs[part].items():
            if value is None and ours[part].get(key) == []:
                continue  # older clients leave out what newer ones send empty
            assert type(ours[part].get(key, value)) is type(value), f"{part}.{key}: {ours[part][key]!r}, {value!r}"
    same = {
        "Config": ["User", "Env", "Cmd", "Entrypoint", "WorkingDir", "Volumes", "Labels", "StopSignal", "Tty", "OpenStdin", "Hostname", "Image", "OnBuild"],
        "HostConfig": ["Binds", "RestartPolicy", "Memory", "MemorySwap", "CapAdd", "CapDrop", "Tmpfs", "NetworkMode", "ShmSize", "PidsLimit", "ReadonlyRootfs", "IpcMode", "ReadonlyPaths"],
    }  # fmt: skip
    added = theirs["HostConfig"]["CapAdd"]  # older clients leave the prefix out
    theirs["HostConfig"]["CapAdd"] = [f"CAP_{name.removeprefix('CAP_')}" for name in added]
    for part, keys in same.items():
        assert {key: ours[part][key] for key in keys} == {key: theirs[part][key] for key in keys}
    assert (ours["Path"], ours["Args"], ours["Mounts"]) == (theirs["Path"], theirs["Args"], theirs["Mounts"])


def test_what_was_asked_for_is_told(box):
    box.started(*ASKED, "-p", "127.0.0.1::80", "--expose", "53/udp", "bb", "60", network="bridge")
    [web] = json.loads(box.ok("inspect", "web"))
    assert web["Config"]["User"] == "guest"
    assert web["Config"]["ExposedPorts"] == {"53/udp": {}, "80/tcp": {}}
    assert web["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert web["HostConfig"]["PortBindings"] == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}
    settings = web["NetworkSettings"]
    assert settings["Ports"]["53/udp"] is None
    assert settings["Ports"]["80/tcp"][0]["HostIp"] == "127.0.0.1"
    assert settings["Networks"]["bridge"]["IPAddress"] == settings["IPAddress"]
    assert (
        settings["Networks"]["bridge"]["NetworkID"] == box.ok("network", "inspect", "-f", "{{.Id}}", "bridge").strip()
    )
    assert settings["MacAddress"].count(":") == 5
    assert web["State"]["Pid"] > 1
    assert box.ok("inspect", "-f", "{{.State.Health}} {{.HostConfig.Binds}}", "web") == "<nil> []\n"  # as docker


def test_its_end_is_told_and_its_network_is_gone(box):
    box.ok("run", "--name", "web", "bb", "true")
    [web] = json.loads(box.ok("inspect", "web"))
    assert (web["State"]["Status"], web["State"]["Pid"], web["State"]["ExitCode"]) == ("exited", 0, 0)
    assert web["State"]["StartedAt"] < web["State"]["FinishedAt"]
    assert (web["NetworkSettings"]["IPAddress"], web["NetworkSettings"]["Ports"]) == ("", {})


def test_one_that_could_not_start_says_why(box):
    assert box.veloci("run", "--name", "web", "--network", "none", "bb", "nope").returncode == 127
    assert box.show("web", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}") == (
        'created 127 exec: "nope": executable file not found in $PATH'
    )


def test_its_directories_lead_to_its_files(box):
    box.started("--name", "web", "bb", "sh", "-c", "echo hello >/text; echo up; sleep 60")
    [web] = json.loads(box.ok("inspect", "web"))
    data = web["GraphDriver"]["Data"]
    for directory in (data["UpperDir"], data["MergedDir"]):
        assert subprocess.run(["cat", f"{directory}/text"], capture_output=True, check=True).stdout == b"hello\n"
    assert os.path.exists(f"{data['MergedDir']}/bin/busybox")
    assert all(map(os.path.isdir, (data["WorkDir"], *data["LowerDir"].split(":"))))


def test_its_size_is_told_on_demand(box):
    box.started("--name", "web", "bb", "sh", "-c", "dd if=/dev/zero of=/big bs=1000000 count=3; echo up; sleep 60")
    while "up" not in box.ok("logs", "web"):
        pass
    assert box.ok("inspect", "-f", "{{.SizeRw}}", "web") == "<nil>\n"
    [web] = json.loads(box.ok("inspect", "-s", "web"))
    assert 3_000_000 <= web["SizeRw"] < 3_200_000
    assert web["SizeRootFs"] > web["SizeRw"] + 1_000_000


def test_a_type_chooses(box):
    box.ok("create", "--name", "bb", "bb", "true")
    assert json.loads(box.ok("inspect", "bb"))[0]["Name"] == "/bb"
    assert "RepoTags" in json.loads(box.ok("inspect", "--type", "image", "bb"))[0]
    done = box.veloci("inspect", "--type", "container", "nope")
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "[]\n",
        "veloci: no such container: nope\n  try: veloci ps -a\n",
    )
