"""Steps of the way from an image to `curl` that touch several packages: export, a pod made by hand, one command."""

import json
import os
import subprocess
import sys
import tarfile
import time
import urllib.request
from pathlib import Path

import pytest
from box import _stored, box  # noqa: F401 -- fixtures
from peers import own_network

pytestmark = pytest.mark.needs("root", "overlay", "namespaces", "busybox", "ip")
RUNTIME = str(Path(sys.executable).with_name("veloci-runtime"))
SERVE = "mkdir -p /www; echo hello world > /www/hello; exec busybox httpd -f -p 8000 -h /www"


@pytest.fixture
def network():
    with own_network():
        yield


def hello(address):
    """What the service answers, once it listens."""
    for _ in range(100):
        try:
            with urllib.request.urlopen(f"http://{address}/hello", timeout=2) as answer:
                return answer.read().decode()
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"nothing answers at {address}")


def test_a_containers_merged_tree_is_exported_as_a_tar(box, tmp_path):  # noqa: F811
    container = box.ok("create", "--network", "none", "bb", "sh", "-c", "echo new > /new; rm /bin/wc").strip()
    box.ok("start", "-a", container)
    box.ok("export", "-o", tmp_path / "merged.tar", container)
    with tarfile.open(tmp_path / "merged.tar") as archive:
        names = {name.removeprefix("./") for name in archive.getnames()}
        assert archive.extractfile(next(m for m in archive if m.name.removeprefix("./") == "new")).read() == b"new\n"
    assert "bin/busybox" in names
    assert "bin/wc" not in names
    assert not [name for name in names if "/.wh." in name]
    box.ok("import", tmp_path / "merged.tar", "again")
    assert box.ok("run", "--rm", "--network", "none", "again", "cat", "/new") == "new\n"
    box.ok("rm", container)


def bundle(box, path, namespace, *command):  # noqa: F811
    """A bundle of the image that joins the network namespace, and runs `command`."""
    box.ok("unpack", "bb", path)
    config = json.loads((path / "config.json").read_text())
    next(entry for entry in config["linux"]["namespaces"] if entry["type"] == "network")["path"] = namespace
    config["linux"].pop("sysctl", None)  # it belongs to a namespace that is made
    config["process"]["args"] = list(command)
    (path / "config.json").write_text(json.dumps(config))
    return path


def test_two_phases_and_a_pod_by_hand(box, network, tmp_path):  # noqa: F811
    name = f"vtpod{os.getpid() % 100000}"
    runtime = [RUNTIME, "--root", tmp_path / "runtime"]
    namespace = box.ok("network", "namespace", name).strip()
    try:
        box.ok("network", "bridge", name, "--address", "10.200.0.1/24")
        web = bundle(box, tmp_path / "web", namespace, "sh", "-c", SERVE)
        with (tmp_path / "log").open("w") as log:
            subprocess.run(
                [*runtime, "create", "--bundle", web, name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
            )
        state = json.loads(subprocess.run([*runtime, "state", name], check=True, capture_output=True).stdout)
        assert state["status"] == "created"
        box.ok("network", "attach", name, name, "--address", "10.200.0.2/24", "--gateway", "10.200.0.1")
        subprocess.run([*runtime, "start", name], check=True)
        assert hello("10.200.0.2:8000") == "hello world\n"
        second = bundle(box, tmp_path / "second", namespace, "busybox", "wget", "-qO-", "http://127.0.0.1:8000/hello")
        done = subprocess.run(
            [*runtime, "run", "--bundle", second, f"{name}-2"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
        )
        assert done.stdout == b"hello world\n"
    finally:
        subprocess.run([*runtime, "delete", "--force", name], check=True)
        box.veloci("network", "detach", name, name)
        box.ok("network", "namespace", name, "--rm")
        box.ok("network", "bridge", name, "--rm")


def test_one_command_publishes_a_service(box, network):  # noqa: F811
    box.ok("run", "-d", "--name", "web", "-p", "127.0.0.1:18000:8000", "bb", "sh", "-c", SERVE)
    try:
        assert hello("127.0.0.1:18000") == "hello world\n"
        assert "127.0.0.1:18000->8000/tcp" in box.ok("ps")
        assert box.ok("port", "web") == "8000/tcp -> 127.0.0.1:18000\n"
        assert box.ok("exec", "web", "busybox", "wget", "-qO-", "127.0.0.1:8000/hello") == "hello world\n"
        address = box.show("web", "{{.NetworkSettings.IPAddress}}")
        assert hello(f"{address}:8000") == "hello world\n"
    finally:
        box.ok("stop", "-t", "0", "web")
        box.ok("rm", "web")
    links = subprocess.run(["ip", "-o", "link"], check=True, capture_output=True, text=True).stdout
    assert [line.split()[1] for line in links.splitlines()] == ["lo:"]
    rules = subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout
    assert "18000" not in rules
