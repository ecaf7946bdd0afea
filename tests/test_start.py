"""Start time, as the set of modules a command imports: the same on every machine."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from peers import Serving

PLACE, SOURCE = Path(sys.executable).parent, Path(__file__).parents[1]
# What an interpreter with a virtual environment has before any of ours.
BARE = subprocess.run(
    [sys.executable, "-I", "-X", "importtime", "-c", ""], capture_output=True, text=True, check=True
).stderr
ALLOWED = {
    "_ctypes", "_json", "_sha2", "_sha256", "_signal", "_socket", "_struct", "ctypes", "ctypes._endian", "errno",
    "fcntl", "gc", "select", "struct", "time", "types",
}  # fmt: skip
RUNTIME = {"_ctypes", "_json", "_signal", "_stat", "errno", "fcntl", "gc", "select", "time"}  # and no `os`

ACROSS = {"_json", "_sha2", "_sha256", "_socket", "errno", "gc"}  # from registry to registry
STORE = {"_ctypes", "_struct", "fcntl", "struct", "zlib"}  # zlib: the sums of a tar's headers
BLOCKS = {
    "_collections", "_functools", "_operator", "collections", "contextlib", "functools", "itertools", "keyword",
    "operator", "reprlib", "types",
}  # fmt: skip
LAYERS = {
    "_compression", "_lzma", "_weakrefset", "atexit", "encodings.ascii", "isal", "isal._isal", "isal._version",
    "isal.igzip_lib", "lzma", "threading", *(("warnings",) if sys.version_info >= (3, 13) else ()),  # threading's
}  # fmt: skip
TRAVELLING = {"copy": ACROSS, "push": ACROSS | STORE | BLOCKS, "pull": ACROSS | STORE | BLOCKS | LAYERS}


def names(report):
    return {line.rpartition("|")[2].strip() for line in report.splitlines() if line.startswith("import time:")}


def imported(program, *words):
    done = subprocess.run(
        [sys.executable, "-I", "-X", "importtime", PLACE / program, *words],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    ours = {name for name in names(done.stderr) if name.partition(".")[0] in ("veloci", "__future__")}
    return done, names(done.stderr) - names(BARE) - ours


def test_the_version_is_told_by_next_to_nothing():
    done, found = imported("veloci", "--version")
    assert done.stdout.startswith("veloci version ")
    assert found <= {"_json", "gc"}


@pytest.mark.needs("root", "overlay", "busybox")
def test_a_container_starts_with_few_modules(roots):
    tree = roots / "tree/bin"
    tree.mkdir(parents=True)
    (tree / "true").write_bytes(Path("/bin/busybox").read_bytes())
    (tree / "true").chmod(0o755)
    archive = roots / "small.tar"
    subprocess.run(["tar", "-C", roots / "tree", "-cf", archive, "."], check=True)
    subprocess.run([PLACE / "veloci", "import", archive, "small"], check=True, capture_output=True)
    command = ("run", "--rm", "--network", "none", "small", "/bin/true")
    subprocess.run([PLACE / "veloci", *command], check=True)  # the layer is unpacked the first time
    done, found = imported("veloci", *command)
    assert done.returncode == 0, done.stderr
    assert found <= ALLOWED


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An environment with veloci as a wheel installs it: what `-S` leaves out is not needed there."""
    place = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    packages = next(place.glob("lib/python3*/site-packages"))
    shutil.copytree(SOURCE / "src/veloci", packages / "veloci", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(SOURCE / "scripts/veloci-runtime", place / "bin")
    (place / "bin/veloci-runtime").chmod(0o755)
    return place / "bin/veloci-runtime"


@pytest.fixture
def runtime(installed, tmp_path):
    """Run a command of veloci-runtime and give what it imported beyond a bare interpreter and our own modules."""
    programs = tmp_path / "bundle/rootfs/bin"
    programs.mkdir(parents=True)
    (programs / "true").write_bytes(Path("/bin/busybox").read_bytes())
    (programs / "true").chmod(0o755)
    (programs / "sleep").symlink_to("true")
    bundle = tmp_path / "bundle"
    (tmp_path / "r").mkdir()  # making it is the first container's, and takes `os`
    subprocess.run([installed, "spec"], cwd=bundle, check=True)
    config = json.loads((bundle / "config.json").read_text())
    config["process"] |= {"terminal": False, "args": ["/bin/sleep", "100"]}
    del config["process"]["rlimits"]  # this host may not allow them
    (bundle / "config.json").write_text(json.dumps(config))
    bare = subprocess.run(
        [installed.parent / "python3", "-IS", "-X", "importtime", "-c", ""], capture_output=True, text=True, check=True
    ).stderr

    def run(*words, status=0):
        command = [installed.parent / "python3", "-IS", "-X", "importtime", installed, "--root", tmp_path / "r", *words]
        with open(tmp_path / "report", "w+") as report:  # no pipe, which a container would keep open
            done = subprocess.run(
                command, cwd=bundle, stdin=subprocess.DEVNULL, stdout=report, stderr=report, check=False
            )
            report.seek(0)
            found = names(report.read())
        assert done.returncode == status
        assert any(name.startswith("veloci.") for name in found)
        return {name for name in found - names(bare) if name.partition(".")[0] not in ("veloci", "__future__")}

    yield run
    subprocess.run([installed, "--root", tmp_path / "r", "delete", "--force", "start"], check=False)


@pytest.mark.needs("root", "busybox")
def test_a_container_is_made_and_ended_with_few_modules(runtime):
    assert runtime("create", "start") <= RUNTIME
    assert runtime("state", "start") <= {"_json", "errno", "gc"}
    assert runtime("start", "start") <= {"_json", "errno", "fcntl", "gc"}
    assert runtime("exec", "start", "/bin/true") <= RUNTIME
    assert runtime("kill", "start", "KILL") <= {"_json", "errno", "gc"}
    assert runtime("delete", "--force", "start") <= {"_json", "_signal", "errno", "fcntl", "gc", "select"}


@pytest.mark.needs("root", "busybox")
def test_run_imports_what_create_start_and_delete_do(runtime):
    assert runtime("run", "--detach", "start") <= RUNTIME


@pytest.mark.needs("root", "busybox")
def test_a_seccomp_filter_that_is_known_already_takes_a_digest_more(runtime, tmp_path):
    file = tmp_path / "bundle/config.json"
    config = json.loads(file.read_text())
    rules = [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]
    config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
    file.write_text(json.dumps(config))
    runtime("run", "--detach", "start")
    assert runtime("exec", "start", "/bin/true") <= RUNTIME | {"_sha2", "_sha256"}
    runtime("delete", "--force", "start")
    assert runtime("run", "--detach", "start") <= RUNTIME | {"_sha2", "_sha256"}


@pytest.mark.needs("root")
@pytest.mark.parametrize("command", ["push", "copy", "pull"])
def test_an_image_travels_with_few_modules(roots, tmp_path, command):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("text")
    subprocess.run(["tar", "-C", tree, "-cf", tmp_path / "small.tar", "."], check=True)
    with Serving(tmp_path / "registry") as (address, _):
        name = f"{address}/small"
        subprocess.run([PLACE / "veloci", "import", tmp_path / "small.tar", name], check=True, capture_output=True)
        subprocess.run([PLACE / "veloci", "push", name], check=True, capture_output=True)
        words = {
            "push": ("push", name),
            "pull": ("pull", name),
            "copy": ("copy", "--src-tls-verify=false", "--dest-tls-verify=false", f"docker://{name}", f"docker://{address}/other"),
        }[command]  # fmt: skip
        if command == "pull":
            subprocess.run([PLACE / "veloci", "rmi", name], check=True, capture_output=True)
        done, found = imported("veloci", *words)
    assert done.returncode == 0, done.stderr
    assert found <= TRAVELLING[command]
