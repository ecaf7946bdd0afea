"""The wheel: pure Python, two programs, and the way to a container without anything but it."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from peers import Built, busybox
from test_start import ALLOWED, names

SOURCE = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    to = tmp_path_factory.mktemp("wheel")
    command = ["-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", to, SOURCE]
    subprocess.run([sys.executable, *command], check=True, stderr=subprocess.PIPE)
    (made,) = to.iterdir()
    return made


@pytest.fixture(scope="module")
def clean(wheel, tmp_path_factory):
    """The programs of an environment in which nothing is but the wheel."""
    place = tmp_path_factory.mktemp("clean")
    venv.create(place, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", place / "bin/python", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*pip, wheel], check=True, stderr=subprocess.PIPE)
    return place / "bin"


def test_it_is_for_every_python_3_and_machine(wheel):
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = archive.namelist()
    assert [name for name in held if name.endswith((".so", ".o", ".pyc"))] == []
    assert sorted(name.rpartition("/")[2] for name in held if ".data/scripts/" in name) == ["veloci", "veloci-runtime"]
    assert [name for name in held if name.endswith("/LICENSE")] != []


@pytest.mark.needs("root", "overlay", "busybox")
def test_a_container_runs_with_the_wheel_alone(clean, roots):
    Built(roots / "layout", busybox())
    (roots / "runtime").mkdir()  # as runc's, one that is named must be there
    subprocess.run([sys.executable, "-m", "veloci", "copy", "-q", f"oci:{roots}/layout:v0", "bb"], check=True)
    subprocess.run(
        [sys.executable, "-m", "veloci", "run", "--rm", "--network", "none", "bb", "busybox", "true"], check=True
    )
    for words in (
        ["veloci", "--version"],
        ["veloci", "run", "--rm", "--network", "none", "bb", "busybox", "true"],
        ["veloci-runtime", "--root", str(roots / "runtime"), "list"],
    ):
        command = [clean / "python", "-I", "-X", "importtime"]
        bare = subprocess.run([*command, "-c", ""], capture_output=True, text=True, check=True)
        done = subprocess.run([*command, clean / words[0], *words[1:]], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found = names(done.stderr) - names(bare.stderr)
        assert {name for name in found if name.partition(".")[0] not in ("veloci", "__future__")} <= ALLOWED
        assert os.access(clean / words[0], os.X_OK)
