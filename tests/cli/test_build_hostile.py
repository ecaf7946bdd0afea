"""Contexts, Dockerfiles and images that reach for the host's files, and what they get: nothing of it."""

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile

import pytest

from veloci.build import stubs

pytestmark = pytest.mark.needs("root", "overlay", "namespaces", "busybox")

BASE = 'FROM scratch AS base\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "--install", "-s", "/bin"]\n'


@pytest.fixture
def context(roots):
    directory = roots / "context"
    directory.mkdir()
    shutil.copy(shutil.which("busybox"), directory / "busybox")
    (roots / "outside").mkdir()
    (roots / "outside/file").write_text("the host's")
    return directory


def build(context, text, *words, **options):
    (context / "Dockerfile").write_text(text)
    command = [sys.executable, "-m", "veloci", "build", "--network=none", *map(str, words), str(context)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=100, **options)
    done.stderr = done.stderr.decode()
    return done


def result(context, text, *words):
    done = build(context, text, "-o", "-", *words)
    assert done.returncode == 0, done.stderr
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        return {member.name: member for member in tar if not member.name.startswith("bin")}


@pytest.mark.parametrize("link", ["{outside}/file", "../outside/file", "../../../../../../../../{outside}/file"])
def test_a_symlink_in_the_context_leads_nowhere_else(context, roots, link):
    (context / "evil").symlink_to(link.format(outside=roots / "outside"))
    (context / "up").symlink_to("../outside")
    done = build(context, "FROM scratch\nCOPY evil /\n")
    assert "veloci: Dockerfile:2: COPY evil: not in the build context\n" in done.stderr
    done = build(context, "FROM scratch\nCOPY up/file /\n")
    assert "COPY up/file: not in the build context\n" in done.stderr
    done = build(context, BASE + "RUN --mount=source=evil,target=/m cat /m\n")
    assert "evil: not in the build context\n" in done.stderr
    assert result(context, "FROM scratch\nCOPY . /all/\n")["all/evil"].issym()


def test_a_dockerfile_cannot_copy_or_mount_from_above_a_stage(context, roots):
    text = (
        BASE
        + f"FROM base AS evil\nRUN ln -s {roots}/outside /dir; ln -s /../../../..{roots}/outside/file /file\nFROM base\n"
    )
    for line in (
        "COPY --from=evil /dir/file /",
        "COPY --from=evil /file /",
        "COPY --from=evil ../../..{roots}/outside/file /",
    ):
        done = build(context, text + line.format(roots=roots) + "\n")
        assert ": not in evil\n" in done.stderr, line
    for source in ("/dir", "/file"):
        done = build(context, text + f"RUN --mount=from=evil,source={source},target=/m cat /m\n")
        assert f"veloci: Dockerfile:7: {source}: not in evil\n" in done.stderr


def test_what_is_written_stays_in_the_image(context, roots):
    """COPY, WORKDIR and mounts upon symlinks that lead out (CVE-2024-9676's kin)."""
    text = BASE + (
        f"RUN ln -s /../../..{roots}/outside /link; ln -s {roots}/outside /absolute\n"
        "COPY busybox /link/copied\nWORKDIR /absolute/made\nRUN --mount=type=tmpfs,target=/link/mounted touch /link/mounted/x\n"
    )
    found = result(context, text)
    assert sorted(path.name for path in (roots / "outside").iterdir()) == ["file"]
    inside = str(roots / "outside").lstrip("/")
    assert f"{inside}/copied" in found
    assert found[f"{inside}/made"].isdir()


def test_users_come_from_the_image_alone(context, roots):
    (roots / "outside/passwd").write_text("evil:x:0:0::/:/bin/sh\n")
    text = BASE + f"RUN mkdir -p /etc; ln -s /../../..{roots}/outside/passwd /etc/passwd\nUSER evil\nRUN id\n"
    done = build(context, text)
    assert "unable to find user evil: no matching entries in passwd file\n" in done.stderr
    done = build(context, BASE + "RUN mkdir -p /etc; mkfifo /etc/passwd\nUSER evil\nRUN id\n")
    assert "unable to find user evil: no matching entries in passwd file\n" in done.stderr


def test_a_cache_id_names_no_path(context, roots):
    text = (
        BASE
        + f"RUN --mount=type=cache,id=../../../../outside,target=/c ls -A /c; touch /c/x\nRUN --mount=type=cache,id={roots}/outside,target=/c touch /c/y\n"
    )
    done = build(context, text)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (roots / "outside").iterdir()) == ["file"]
    assert all(re.fullmatch("[0-9a-f]{64}", path.name) for path in (roots / "data/build/mounts").iterdir())


def test_an_archive_unpacks_within_its_directory(context, roots):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        link = tarfile.TarInfo("up")
        link.type, link.linkname = tarfile.SYMTYPE, "../../../../../../../../.." + str(roots / "outside")
        tar.addfile(link)
        for name in ("up/evil", "../../../evil"):
            info = tarfile.TarInfo(name)
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))
    (context / "evil.tar").write_bytes(out.getvalue())
    for text, words in (
        ("FROM scratch\nADD evil.tar /deep/er/\n", []),
        ("FROM scratch\nADD --chown=5 evil.tar /deep/er/\n", ["--no-cache"]),
    ):
        build(context, text, *words)
        assert sorted(path.name for path in (roots / "outside").iterdir()) == ["file"]
        assert not list(roots.glob("evil"))
    with (context / "evil.tar").open("rb") as archive:
        build(context, "", "-", stdin=archive)
    assert sorted(path.name for path in (roots / "outside").iterdir()) == ["file"]


def test_a_secret_is_in_no_file_that_stays(context, roots):
    (roots / "secret").write_text("hunter2-hunter2")
    text = (
        BASE
        + "RUN --mount=type=secret,id=s,required --mount=type=secret,id=s,env=TOKEN test $TOKEN = $(cat /run/secrets/s); stat -c '%a %u' /run/secrets/s\n"
    )
    done = build(context, text, "-t", "t:1", "--secret", f"id=s,src={roots}/secret")
    assert done.returncode == 0, done.stderr
    assert " 400 0\n" in done.stderr
    for directory, _, names in os.walk(roots / "data"):
        for name in names:
            with open(f"{directory}/{name}", "rb") as file:
                assert b"hunter2" not in file.read()


def test_a_mount_point_that_became_a_link_is_not_followed_when_it_is_removed(tmp_path):
    """CVE-2024-23652: what was made is found again by its directory and inode, and nothing else is removed."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    (outside / "made").mkdir(parents=True)
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        made = stubs.make(descriptor, [("/a/made", True), ("/b", False)])
        assert (root / "a/made").is_dir()
        shutil.rmtree(root / "a")
        (root / "a").symlink_to(outside)
        (root / "b").unlink()
        (root / "b").write_text("")  # another file of that name
        keep = os.open(root / "b", os.O_RDONLY)  # so that its inode is a new one
        stubs.remove(descriptor, [(path, inode if path != "/b" else inode + 1) for path, inode in made])
        os.close(keep)
    finally:
        os.close(descriptor)
    assert (outside / "made").is_dir()
    assert (root / "b").exists()


def test_a_repository_cannot_reach_the_hosts_files(context, roots):
    for url in (f"file://{roots}/x.git", f"{roots}/x.git", "ext::sh -c touch% /tmp/evil.git"):
        done = build(context, f'FROM scratch\nADD ["{url}", "/"]\n')
        assert "not in the build context\n" in done.stderr
    assert not os.path.exists("/tmp/evil.git")
