"""A container's network as the engine makes it: published ports, another container's namespace."""

import socket
import subprocess
import urllib.request

import pytest
from box import until

pytestmark = pytest.mark.needs("root", "namespaces", "overlay", "busybox", "nft")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def rules():
    return subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout


def serve(box, *words, name="web"):
    """A web server on port 8000 of a container: its ID."""
    serves = "mkdir /www; echo hello world >/www/hello; busybox httpd -p 8000 -h /www; echo up; sleep 60"
    id = box.started("--name", name, *words, "bb", "sh", "-c", serves, network="bridge")
    until(lambda: box.ok("logs", name) == "up\n")
    return id


def get(address):
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
        f"http://{address}/hello", timeout=10
    ) as page:
        return page.read()


def test_a_published_port_leads_to_the_container_and_is_free_after_it(box):
    port = free_port()
    id = serve(box, "-p", f"{port}:8000")
    assert get(f"127.0.0.1:{port}") == b"hello world\n"
    address = box.show("web", "{{.NetworkSettings.IPAddress}}")
    assert get(f"{address}:8000") == b"hello world\n"
    assert box.ok("port", "web") == f"8000/tcp -> 0.0.0.0:{port}\n"
    assert box.ok("ps", "--format", "{{.Ports}}") == f"0.0.0.0:{port}->8000/tcp\n"
    assert str(port) in rules()
    box.ok("rm", "-f", "web")
    assert str(port) not in rules()
    assert id[:12] not in rules()
    with socket.socket() as one:
        one.bind(("0.0.0.0", port))


def test_a_port_in_use_is_refused_and_nothing_of_the_container_is_left(box):
    with socket.socket() as one:
        one.bind(("0.0.0.0", 0))
        one.listen()
        port = one.getsockname()[1]
        done = box.veloci("run", "--rm", "--name", "web", "-p", f"{port}:8000", "bb", "true")
    assert done.returncode == 125
    assert done.stderr.splitlines()[0].startswith(f"veloci: port 0.0.0.0:{port}/tcp is in use")
    assert "in use" in done.stderr
    assert box.ok("ps", "-aq") == ""
    assert [path for path in (box.path / "run/containers").iterdir() if path.name[0] != "."] == []
    assert str(port) not in rules()
    assert box.ok("run", "--rm", "--name", "web", "-p", f"{port}:8000", "bb", "echo", "now") == "now\n"


def test_a_port_of_another_container_is_refused(box):
    port = free_port()
    serve(box, "-p", f"{port}:8000")
    done = box.veloci("run", "-d", "-p", f"{port}:8000", "bb", "true")
    assert done.returncode == 125
    assert f"{port}" in done.stderr
    assert get(f"127.0.0.1:{port}") == b"hello world\n"


def test_a_port_is_published_again_after_a_restart(box):
    port = free_port()
    serve(box, "-p", f"{port}:8000")
    address = box.show("web", "{{.NetworkSettings.IPAddress}}")
    box.ok("restart", "-t", "0", "web")
    until(lambda: box.ok("logs", "web").count("up\n") == 2)
    assert get(f"127.0.0.1:{port}") == b"hello world\n"
    assert box.show("web", "{{.NetworkSettings.IPAddress}}") == address


def test_the_network_of_another_container_is_shared(box):
    serve(box)
    words = ("run", "--rm", "--network", "container:web", "bb")
    assert box.ok(*words, "busybox", "wget", "-qO-", "http://127.0.0.1:8000/hello") == "hello world\n"
    assert box.ok(*words, "ip", "-o", "addr") == box.ok("exec", "web", "ip", "-o", "addr")
    box.ok("kill", "web")
    box.until("web", "{{.State.Running}}", "false")
    done = box.veloci(*words, "true")
    assert (done.returncode, done.stderr) == (
        125,
        "veloci: cannot join the network namespace of a container that is not running: web\n  try: veloci start web\n",
    )


def test_port_answers_for_one_port(box):
    first, second = free_port(), free_port()
    serve(box, "-p", f"127.0.0.1:{first}:8000", "-p", f"{second}:53/udp")
    assert box.ok("port", "web", "8000") == f"127.0.0.1:{first}\n"
    assert box.ok("port", "web", "8000/tcp") == f"127.0.0.1:{first}\n"
    assert box.ok("port", "web", "53/udp") == f"0.0.0.0:{second}\n"
    assert sorted(box.ok("port", "web").splitlines()) == [
        f"53/udp -> 0.0.0.0:{second}",
        f"8000/tcp -> 127.0.0.1:{first}",
    ]
    done = box.veloci("port", "web", "53")
    assert (done.returncode, done.stderr) == (
        1,
        "veloci: no public port '53/tcp' published for web\n  try: veloci port web\n",
    )
