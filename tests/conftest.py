"""Fixtures for tests on the real kernel. A missing feature skips; --no-skips fails instead."""

import contextlib
import functools
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A shell that runs the tests in the background has them ignore what tests send to commands.
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

# Two slow cores: the time an example takes says nothing.
settings.register_profile("veloci", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
settings.load_profile("veloci")


def _linux():
    """The kernel's version as two numbers."""
    return tuple(int(number) for number in os.uname().release.split(".")[:2])


@functools.cache
def _checkpoints():
    """Whether there is a CRIU, and one that knows this kernel."""
    return shutil.which("criu") and subprocess.run(["criu", "check"], check=False, capture_output=True).returncode == 0


@functools.cache
def _blocks_of_a_sector():
    """Whether EROFS of a kernel before 6.4 has blocks of 512 bytes nevertheless, as 6.1's later releases do."""
    from veloci.snapshot import Snapshots
    from veloci.snapshot.drivers import problem

    with tempfile.TemporaryDirectory() as place:
        return not problem(Snapshots(f"{place}/snapshots"), "erofs")


FEATURES = {
    "root": lambda: os.geteuid() == 0,
    "namespaces": lambda: subprocess.run(["unshare", "-mpf", "true"], check=False, capture_output=True).returncode == 0,
    "overlay": lambda: "overlay" in Path("/proc/filesystems").read_text(),
    "erofs": lambda: "erofs" in Path("/proc/filesystems").read_text() and (_linux() >= (6, 4) or _blocks_of_a_sector()),
    "cni": lambda: Path("/usr/lib/cni/bridge").exists(),  # where Debian has the plugins
    "checkpoints": _checkpoints,
}


def pytest_addoption(parser):
    parser.addoption("--no-skips", action="store_true", help="a missing kernel feature or tool fails the test")


def pytest_runtest_setup(item):
    for mark in item.iter_markers("needs"):
        for feature in mark.args:
            there = FEATURES[feature]() if feature in FEATURES else shutil.which(feature)
            if not there:
                (pytest.fail if item.config.getoption("--no-skips") else pytest.skip)(f"this host lacks {feature}")


@pytest.fixture
def roots(tmp_path, monkeypatch):
    """Veloci's data and run directories, of this test alone; commands started by the test use them too."""
    monkeypatch.setenv("VELOCI_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("VELOCI_RUN", str(tmp_path / "run"))
    return tmp_path


@pytest.fixture
def own_netns():
    """The test, and what it starts, is in a network namespace of its own until its end; `lo` is down there."""
    from veloci.kernel.process import CLONE_NEWNET, setns, unshare

    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        unshare(CLONE_NEWNET)
        yield
    finally:
        setns(home, CLONE_NEWNET)
        os.close(home)


@pytest.fixture(scope="session")
def leaks():
    """The demo's module that tells what could be left behind on this host."""
    return _demo("host")


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left_behind(leaks):
    """After all tests the host's mounts, links, namespaces, rules and cgroups are as they were before."""
    peers = _demo("peers")
    before = leaks.state()
    with peers.hugetlb() if os.geteuid() == 0 else contextlib.nullcontext():  # crun wants it
        yield
    peers.forget(before["cgroups"], leaks.state()["cgroups"])
    if "/run/netns" in {line.split()[0] for line in leaks.state()["mounts"] - before["mounts"]}:
        subprocess.run(["umount", "/run/netns"], check=True)  # iproute2 binds it upon itself, once for all
    assert leaks.changes(before, leaks.state()) == []


def _demo(name):
    """A module of the demo, which compares and prepares the host as the tests do."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / f"examples/demo/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
