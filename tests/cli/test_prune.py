"""rmi, the prune commands and `system df`: what nobody needs goes, what somebody needs stays."""

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import pytest
from peers import veloci

pytestmark = pytest.mark.needs("root", "overlay", "namespaces", "busybox")

PROGRAM = [sys.executable, "-m", "veloci"]
BASE = 'FROM scratch\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "--install", "-s", "/bin"]\n'


@pytest.fixture
def context(roots):
    directory = roots / "context"
    directory.mkdir()
    shutil.copy(shutil.which("busybox"), directory / "busybox")
    return directory


def build(context, text, *words, tag="t:1"):
    (context / "Dockerfile").write_text(text)
    done = subprocess.run(
        [*PROGRAM, "build", "--network=none", "-t", tag, *words, str(context)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture
def imported(roots):
    """An image `big` of one layer, made without a build."""
    (roots / "zeros").write_bytes(os.urandom(300_000))
    with tarfile.open(roots / "tree.tar", "w") as tar:
        tar.add(roots / "zeros", "zeros")
        tar.add(shutil.which("busybox"), "bin/busybox")
        tar.add(shutil.which("busybox"), "bin/sh")
    veloci("import", str(roots / "tree.tar"), "big")
    return "big"


def blobs(roots):
    return {path.name for path in (roots / "data/content/blobs/sha256").iterdir()}


def unpacked(roots):
    return {path.name for path in (roots / "data/snapshots/layers").glob("sha256-*")}


def reclaimed(text):
    assert text.splitlines()[-1].startswith("Total reclaimed space: ")
    return text.splitlines()[-1].rpartition(" ")[2]


def test_rmi_frees_blobs_and_unpacked_layers(imported, roots):
    veloci("run", "--rm", "--network=none", imported, "/bin/busybox", "true")
    assert len(unpacked(roots)) == 1
    veloci("rmi", imported)
    assert blobs(roots) == set()
    assert unpacked(roots) == set()
    assert list((roots / "data/snapshots/ingest").iterdir()) == []


def test_layers_that_another_image_or_a_container_stands_on_stay(imported, roots):
    veloci("tag", imported, "other:1")
    id = veloci("run", "-d", "--network=none", imported, "/bin/busybox", "sleep", "600").strip()
    try:
        veloci("rmi", imported)
        assert len(unpacked(roots)) == 1
        running = subprocess.run([*PROGRAM, "rmi", "-f", "other:1"], capture_output=True, text=True, check=False)
        assert "(cannot be forced) - container" in running.stderr
        assert len(blobs(roots)) == 3
    finally:
        veloci("rm", "-f", id)
    stopped = veloci("create", "--network=none", "other:1", "/bin/busybox", "echo", "alive").strip()
    veloci("rmi", "-f", "other:1")
    assert blobs(roots) == set()
    assert len(unpacked(roots)) == 1
    assert veloci("start", "-a", stopped) == "alive\n"
    veloci("rm", stopped)
    veloci("image", "prune", "-f")
    assert unpacked(roots) == set()


def test_the_build_cache_outlives_the_image(context, roots):
    build(context, BASE + "RUN echo one > /one\n")
    before = unpacked(roots)
    veloci("rmi", "t:1")
    assert unpacked(roots) == before
    assert build(context, BASE + "RUN echo one > /one\n").count("CACHED") == 3
    assert veloci("run", "--rm", "--network=none", "t:1", "cat", "/one") == "one\n"


def test_a_cached_step_whose_files_are_gone_is_unpacked_from_its_blob(context, roots):
    build(context, BASE)
    shutil.rmtree(roots / "data/snapshots/layers")
    shown = build(context, BASE + "RUN echo two\n")
    assert shown.count("CACHED") == 2
    assert "Pull complete" in shown


def test_builder_prune_drops_what_no_image_needs_and_all_of_it_when_asked(context, roots):
    build(context, BASE + "RUN --mount=type=cache,target=/c echo x > /c/x; echo kept\n")
    build(context, BASE + "RUN echo other > /other\n", tag="gone:1")
    veloci("rmi", "gone:1")
    lines = veloci("builder", "prune", "-f", "--verbose").splitlines()
    assert lines[0] == "Deleted build cache objects:"
    assert [line for line in lines if "echo other" in line and "  regular  " in line]
    assert [line for line in lines if line.endswith("cached mount /c")]
    assert len(lines) == 5
    assert build(context, BASE + "RUN --mount=type=cache,target=/c echo x > /c/x; echo kept\n").count("CACHED") == 3
    veloci("rmi", "t:1")
    text = veloci("builder", "prune", "-a", "-f")
    assert len(text.splitlines()) == 6
    assert reclaimed(text).endswith("MB")
    assert blobs(roots) == set()
    assert unpacked(roots) == set()
    assert list((roots / "data/build/steps").iterdir()) == []
    assert veloci("builder", "prune", "-a", "-f") == "Total reclaimed space: 0B\n"


def test_the_least_recently_used_goes_until_the_rest_fits(context, roots):
    for number in range(3):
        (context / "random").write_bytes(os.urandom(1_000_000))
        build(context, f"FROM scratch\nCOPY random /{number}\n", tag=f"r{number}:1")
    build(context, "FROM scratch\nCOPY random /2\n")
    for number in range(3):
        veloci("rmi", f"r{number}:1")
    veloci("rmi", "t:1")
    veloci("builder", "prune", "-f", "--keep-storage", "2.5m")
    assert build(context, "FROM scratch\nCOPY random /2\n").count("CACHED") == 1
    assert len(list((roots / "data/build/steps").iterdir())) == 1
    veloci("builder", "prune", "-af", "--filter", "unused-for=1h")
    assert len(list((roots / "data/build/steps").iterdir())) == 1
    veloci("builder", "prune", "-af", "--filter", "type=exec.cachemount")
    assert len(list((roots / "data/build/steps").iterdir())) == 1
    veloci("builder", "prune", "-af", "--filter", "description=COPY random")
    assert len(list((roots / "data/build/steps").iterdir())) == 0


def test_prune_asks_first(imported):
    done = subprocess.run([*PROGRAM, "image", "prune", "-a"], input="n\n", capture_output=True, text=True, check=False)
    assert done.stdout == (
        "WARNING! This will remove all images without at least one container associated to them.\n"
        "Are you sure you want to continue? [y/N] "
    )
    assert veloci("images", "-q")
    done = subprocess.run([*PROGRAM, "image", "prune", "-a"], input="y\n", capture_output=True, text=True, check=False)
    assert "\nuntagged: big:latest\ndeleted: sha256:" in done.stdout
    assert veloci("images", "-q") == ""


def test_image_prune_takes_nameless_images_alone_and_heeds_filters(imported, roots):
    build_of = f"import {roots}/tree.tar"
    veloci(*build_of.split(), "-c", "LABEL keep=1", "big")  # the first image has no name now
    assert veloci("image", "prune", "-f", "--filter", "label=keep").splitlines() == ["Total reclaimed space: 0B"]
    assert veloci("image", "prune", "-f", "--filter", "until=1h").splitlines() == ["Total reclaimed space: 0B"]
    assert "deleted: sha256:" in veloci("image", "prune", "-f", "--filter", "label!=keep")
    assert veloci("images", "--format", "{{.Repository}}") == "big\n"
    bad = subprocess.run([*PROGRAM, "image", "prune", "--filter", "x=1"], capture_output=True, text=True, check=False)
    assert bad.stderr.startswith("veloci: --filter: invalid filter 'x=1'\n")


def test_system_prune_takes_what_nobody_uses_and_df_shows_it_before(context, imported, roots):
    build(context, BASE)
    veloci("create", "--network=none", imported, "true")
    rows = [line.split() for line in veloci("system", "df").splitlines()]
    assert rows[0] == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert rows[1][:3] == ["Images", "2", "1"]
    assert rows[2][:3] == ["Containers", "1", "0"]
    assert rows[4][:4] == ["Build", "Cache", "2", "0"]
    shown = veloci("system", "df", "-v")
    assert "Images space usage:\n\nREPOSITORY" in shown
    assert "RUN [" in shown
    text = veloci("system", "prune", "-af")
    for title in ("Deleted Containers:", "Deleted Images:", "Deleted build cache objects:"):
        assert title in text
    assert (blobs(roots), unpacked(roots)) == (set(), set())
    rows = [line.split() for line in veloci("system", "df").splitlines()]
    assert [row[-4:] for row in rows[1:]] == [["0", "0", "0B", "0B"]] * 4


@pytest.mark.needs("strace")
@pytest.mark.parametrize("when", [1, 5, 20])
@pytest.mark.parametrize("call", ["unlink,unlinkat,rmdir", "rename,renameat,renameat2"])
def test_a_kill_in_the_middle_of_a_removal_leaves_what_the_next_prune_finds(imported, roots, call, when):
    veloci("tag", imported, "other:1")
    veloci("run", "--rm", "--network=none", imported, "/bin/busybox", "true")
    veloci("rmi", "other:1")
    killed = subprocess.run(
        ["strace", "-qq", "-o", "/dev/null", "-e", f"inject={call}:signal=KILL:when={when}", *PROGRAM, "rmi", imported],
        capture_output=True,
        check=False,
    )
    assert killed.returncode in (0, -signal.SIGKILL, 137)
    named = veloci("images", "-q")
    if named:
        assert veloci("run", "--rm", "--network=none", imported, "/bin/busybox", "echo", "whole") == "whole\n"
        veloci("rmi", imported)
    else:
        veloci("image", "prune", "-f")
    assert (blobs(roots), unpacked(roots)) == (set(), set())
    assert list((roots / "data/snapshots/ingest").iterdir()) == []


def test_builds_and_removals_at_once_do_not_harm_each_other(context, roots):
    """Four builds, each of its own last step, beside a command that removes all images all the time."""
    build(context, BASE)
    remover = subprocess.Popen(
        [
            "sh",
            "-c",
            f"while :; do {sys.executable} -m veloci image prune -af; {sys.executable} -m veloci builder prune -af; done",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        builders = []
        for number in range(4):
            place = roots / f"c{number}"
            place.mkdir()
            shutil.copy(context / "busybox", place)
            text = f"RUN echo {number} > /n && cat /n\nFROM scratch\nCOPY --from=0 /n /bin /x/\n"
            (place / "Dockerfile").write_text(BASE + text)
            command = [*PROGRAM, "build", "--network=none", "-q", str(place)]
            builders.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
            time.sleep(0.2)
        for builder in builders:
            _, problem = builder.communicate(timeout=120)
            assert builder.returncode == 0, problem
    finally:
        os.killpg(remover.pid, signal.SIGKILL)
        remover.wait()
        remover.stderr.close()
    veloci("system", "prune", "-af")
    assert (blobs(roots), unpacked(roots)) == (set(), set())
