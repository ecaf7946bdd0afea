"""A user without privilege: images, layouts and registries work; what needs root says so in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from peers import Built, Serving, busybox

pytestmark = pytest.mark.needs("root", "setpriv")
PROGRAMS = Path(sys.executable).parent
NOBODY = 65534
# It may read every file: the interpreter may be in root's home. It may do nothing else.
STRANGER = (
    f"setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups "
    "--inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search"
).split()


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """Runs a command as nobody, in a home of its own that holds an image's layout and two Dockerfiles."""
    home = tmp_path_factory.mktemp("home")
    home.chmod(0o755)
    for above in home.parents[:2]:
        above.chmod(0o755)
    Built(home / "layout", busybox())
    (home / "runs").mkdir()
    (home / "runs/Dockerfile").write_text("FROM bb\nRUN true\n")
    (home / "broken").mkdir()
    (home / "broken/Dockerfile").write_text("FORM bb\n")
    for path in (home, *home.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}

    def run(words):
        program, *rest = words.split(" ")
        return subprocess.run(
            [*STRANGER, PROGRAMS / program, *rest], cwd=home, env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    run.home = home
    assert run("veloci copy -q oci:layout:v0 bb").returncode == 0
    return run


@pytest.mark.parametrize(
    "words",
    [
        "veloci", "veloci --version", "veloci --help", "veloci version", "veloci run --help", "veloci images",
        "veloci history bb", "veloci inspect bb", "veloci tag bb other", "veloci ps -a", "veloci network ls",
        "veloci save -o saved.tar bb", "veloci load -q -i saved.tar", "veloci rmi other",
        "veloci copy -q oci:layout:v0 oci:copied:v0", "veloci copy -q oci:layout:v0 docker-archive:a.tar:x:v0",
        "veloci copy -q oci:layout:v0 oci-archive:o.tar:v0", "veloci copy -q oci:layout:v0 dir:plain",
        "veloci copy -q docker-archive:a.tar bb2", "veloci unpack --rootless bb bundle",
        "veloci-runtime", "veloci-runtime --help", "veloci-runtime --version", "veloci-runtime features",
        "veloci-runtime spec", "veloci-runtime list",
    ],
)  # fmt: skip
def test_it_works_without_privilege(stranger, words):
    done = stranger(words)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_registry_is_served_written_and_read_without_privilege(stranger, tmp_path):
    with Serving(tmp_path) as (address, _):
        for words in (f"push -q {address}/bb", f"pull -q {address}/bb", f"copy -q docker://{address}/bb oci:pulled:v0"):
            stranger(f"veloci tag bb {address}/bb")
            done = stranger(f"veloci {words}")
            assert (done.returncode, done.stderr) == (0, "")


ROOT = "making a container needs root\n  try: sudo veloci …"
ROOTLESS = "rootless container requires user namespaces\n  try: sudo, or veloci-runtime spec --rootless"


@pytest.mark.parametrize(
    ("words", "message", "status"),
    [
        ("veloci run --rm bb true", f"veloci: {ROOT}", 125),
        ("veloci run --rm --network none bb true", f"veloci: {ROOT}", 125),
        ("veloci create bb true", f"veloci: {ROOT}", 1),
        ("veloci build -q runs", "veloci: Dockerfile:2: RUN needs root: it makes a container\n  try: sudo veloci …", 1),
        ("veloci build -q broken", "veloci: Dockerfile:1: unknown instruction: FORM (did you mean FROM?)", 1),
        ("veloci network bridge vtno", "veloci: make bridge vtno: Operation not permitted\n  try: run it as root: networks need CAP_NET_ADMIN", 1),
        ("veloci network namespace vtno", "veloci: /run/netns*: Permission denied\n  try: run it as root, or as the owner of the file", 1),
        ("veloci network show", "veloci: read this namespace: setns: Operation not permitted\n  try: run it as root: networks need CAP_NET_ADMIN", 1),
        ("veloci start nosuch", "veloci: no such container: nosuch\n  try: veloci ps -a", 1),
        ("veloci-runtime run x", f"veloci-runtime run failed: {ROOTLESS}", 1),
        ("veloci-runtime create x", f"veloci-runtime create failed: {ROOTLESS}", 1),
        ("veloci-runtime --root /nosuch state x", "veloci-runtime: container does not exist", 1),
    ],
)  # fmt: skip
def test_what_needs_root_says_so(stranger, words, message, status):
    before = sorted(stranger.home.rglob("*"))
    done = stranger(words)
    head, _, tail = message.partition("*")
    assert done.stderr.startswith(head)
    assert done.stderr.endswith(f"{tail}\n")
    assert done.stderr.count("\n") == message.count("\n") + 1
    assert done.returncode == status
    assert [
        path
        for path in sorted(stranger.home.rglob("*"))
        if path not in before and path.is_file() and path.name != "lock"
    ] == []


def test_a_store_of_root_is_not_changed(stranger, tmp_path):
    roots = f"--root {tmp_path}/data --runroot {tmp_path}/run"
    subprocess.run(
        [PROGRAMS / "veloci", *roots.split(), "copy", "-q", f"oci:{stranger.home}/layout:v0", "bb"], check=True
    )
    for words in ("tag bb other", "rmi bb", "network create x", "load -q -i saved.tar", "copy -q oci:layout:v0 bb2"):
        done = stranger(f"veloci {roots} {words}")
        assert done.returncode == 1
        assert done.stderr.startswith("veloci: ")
        assert "ermission denied" in done.stderr or "not permitted" in done.stderr
        assert len(done.stderr.splitlines()) <= 2, done.stderr
    listed = subprocess.run([PROGRAMS / "veloci", *roots.split(), "images", "-q"], check=True, capture_output=True)
    assert len(listed.stdout.splitlines()) == 1
