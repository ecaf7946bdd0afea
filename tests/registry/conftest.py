"""Registries to test against, and nobody's credentials or configuration."""

import os
import socket
import subprocess
import time

import pytest
from peers import Serving

VARIABLES = "DOCKER_CONFIG REGISTRY_AUTH_FILE XDG_CONFIG_HOME XDG_CACHE_HOME CONTAINERS_REGISTRIES_CONF"
PROXIES = "HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy"


@pytest.fixture(autouse=True)
def nobody(tmp_path, monkeypatch):
    """No credentials, configuration or proxies of this machine's user; gives the home directory."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    for name in (VARIABLES + " " + PROXIES).split():
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    with Serving(tmp_path_factory.mktemp("registry")) as (address, _process):
        yield address


@pytest.fixture(scope="module")
def debians(tmp_path_factory):
    """Debian's docker-registry, the reference implementation."""
    root = tmp_path_factory.mktemp("distribution")
    (root / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {root}/data}}\n"
        "  delete: {enabled: true}\nhttp: {addr: '127.0.0.1:0'}\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    process = subprocess.Popen(
        ["docker-registry", "serve", str(root / "config.yml")],
        env={**os.environ, "REGISTRY_HTTP_ADDR": address},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    host, port = address.split(":")
    for _ in range(100):
        try:
            socket.create_connection((host, int(port))).close()
            break
        except OSError:
            time.sleep(0.05)
    yield address
    process.terminate()
    process.wait(10)


@pytest.fixture(params=["ours", pytest.param("debians", marks=pytest.mark.needs("docker-registry"))])
def registry(request):
    return request.getfixturevalue(request.param)
