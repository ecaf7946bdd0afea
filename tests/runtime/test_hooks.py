"""Hooks: what each of the six is told, where it runs, and what its failure does."""

import json

import pytest

pytestmark = pytest.mark.needs("root", "namespaces", "busybox")

BEFORE = ("prestart", "createRuntime", "createContainer")


def shell(script, **more):
    """A hook that runs `script` with the host's shell."""
    return {"path": "/bin/sh", "args": ["sh", "-c", script], **more}


def within(script):
    """A hook that runs `script` with the container's shell."""
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]}


@pytest.fixture
def noted(tmp_path):
    """A file on the host for hooks to write to, and what it holds."""
    file = tmp_path / "noted"
    file.touch()
    return file


def test_each_hook_reads_the_state_at_its_moment(either, noted):
    def change(config):
        note = shell(f"(cat; echo) >> {noted}")
        config["hooks"] = {name: [note] for name in (*BEFORE, "poststart", "poststop")}
        config["hooks"]["startContainer"] = [within("cat > /started")]
        config["root"]["readonly"] = False
        config["annotations"] = {"org.example.a": "b"}

    done = either.run("cat", "/started", change=change)
    assert done.returncode == 0, done.stderr
    states = [json.loads(line) for line in noted.read_text().splitlines()]
    # runc has not read the specification as we and crun have, by which a container is created after step 2.
    made, running = ("creating", "created") if either.program == "runc" else ("created", "running")
    assert [state["status"] for state in states] == [made, made, made, running, "stopped"]
    started = json.loads(done.stdout)
    assert (started["status"], started["pid"]) == ("created", 1)
    for state in (*states, started):
        assert (state["id"], state["bundle"]) == (either.id, str(either.bundle))
        assert state["annotations"] == {"org.example.a": "b"}
    # The first two and poststart count from the host, createContainer from inside; what has ended has no pid.
    assert states[0]["pid"] == states[1]["pid"] == states[3]["pid"] > 1
    assert states[2]["pid"] == 1
    assert not states[4].get("pid")


def test_hooks_run_in_the_order_of_the_specification(either, noted):
    def change(config):
        config["hooks"] = {
            name: [shell(f"echo {name} {n} >> {noted}") for n in (1, 2)]
            for name in ("poststop", "poststart", "createContainer", "createRuntime", "prestart")
        }

    assert either.run("true", change=change).returncode == 0
    order = [f"{name} {n}" for name in (*BEFORE, "poststart", "poststop") for n in (1, 2)]
    assert noted.read_text().splitlines() == order


def test_a_hooks_environment_is_its_own_and_nothing_else(runtime, noted, monkeypatch):
    monkeypatch.setenv("SECRET", "of the caller")

    def change(config):
        config["hooks"] = {
            "createRuntime": [
                {"path": "/usr/bin/env", "args": ["env", "sh", "-c", f"env >> {noted}"], "env": ["PATH=/bin", "A=b=c"]}
            ],
            "createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", f"/usr/bin/env >> {noted}"]}],
        }

    assert runtime.run("true", change=change).returncode == 0
    seen = {line for line in noted.read_text().splitlines() if not line.startswith(("PWD=", "_=", "SHLVL=", "OLDPWD="))}
    assert seen == {"PATH=/bin", "A=b=c"}


def test_hooks_of_the_runtime_are_outside_and_those_of_the_container_inside(either, noted):
    def change(config):
        look = shell(f"readlink /proc/self/ns/net >> {noted}; readlink /proc/self/ns/mnt >> {noted}")
        config["hooks"] = {"createRuntime": [look], "createContainer": [look], "poststart": [look]}

    done = either.run("sh", "-c", "readlink /proc/self/ns/net; readlink /proc/self/ns/mnt", change=change)
    lines = noted.read_text().splitlines()
    inside = done.stdout.splitlines()
    assert lines[2:4] == inside
    assert inside[0] not in lines[0:2] + lines[4:6]


def test_a_hook_gets_no_descriptor_of_ours(runtime, noted):
    def change(config):
        look = shell(f"ls /proc/self/fd >> {noted}")
        config["hooks"] = {"createRuntime": [look], "createContainer": [look], "poststart": [look]}

    assert runtime.run("true", change=change).returncode == 0
    assert set(noted.read_text().split()) == {"0", "1", "2", "3"}  # 3 is ls's own


@pytest.mark.parametrize("name", BEFORE)
def test_a_hook_that_fails_before_the_start_ends_the_container(runtime, noted, name):
    def change(config):
        config["hooks"] = {
            name: [shell("true"), shell("echo told; echo why >&2; exit 3")],
            "poststop": [shell(f"echo poststop >> {noted}")],
        }

    done = runtime.run("true", change=change)
    assert done.returncode == 1
    assert done.stderr == (
        f"veloci-runtime run failed: config.json: $.hooks.{name}[1]: "
        f"error running {name} hook #1: /bin/sh failed with status 3: told; why\n"
    )
    assert noted.read_text() == "poststop\n"
    assert runtime.traces() == []


@pytest.mark.parametrize("name", [*BEFORE, "startContainer", "poststart"])
def test_a_failing_hook_fails_the_command_and_leaves_nothing(either, name):
    done = either.run("sleep", "100", change=lambda c: c.update(hooks={name: [within("exit 3")]}))
    assert done.returncode == 1
    assert "status 3" in done.stderr
    assert either.traces() == []


def test_a_container_whose_start_hook_fails_has_stopped(runtime, noted):
    def change(config):
        config["hooks"] = {
            "startContainer": [within("echo no >&2; exit 3")],
            "poststop": [shell(f"echo poststop >> {noted}")],
        }

    runtime.created("sleep", "100", change=change)
    done = runtime("start", runtime.id)
    assert (done.returncode, done.stderr) == (
        1,
        "veloci-runtime: config.json: $.hooks.startContainer[0]: "
        "error running startContainer hook #0: /bin/sh failed with status 3: no\n",
    )
    assert runtime.state()["status"] == "stopped"
    assert runtime("delete", runtime.id).returncode == 0
    assert noted.read_text() == "poststop\n"


def test_a_failing_poststop_hook_does_not_stop_the_others(runtime, noted):
    def change(config):
        config["hooks"] = {"poststop": [shell("exit 1"), shell(f"echo second >> {noted}")]}

    assert runtime.run("true", change=change).returncode == 0
    assert noted.read_text() == "second\n"
    assert runtime.traces() == []


@pytest.mark.parametrize("name", ["createRuntime", "createContainer"])
def test_a_hook_that_outlasts_its_timeout_is_killed(runtime, name):
    done = runtime.run("true", change=lambda c: c.update(hooks={name: [shell("exec sleep 50", timeout=1)]}))
    assert done.stderr == (
        f"veloci-runtime run failed: config.json: $.hooks.{name}[0]: "
        f"error running {name} hook #0: /bin/sh: took more than 1 s\n"
    )
    assert runtime.traces() == []


def test_a_program_that_is_not_there_is_named(runtime):
    done = runtime.run("true", change=lambda c: c.update(hooks={"prestart": [{"path": "/nope"}]}))
    assert done.stderr.endswith("prestart hook #0: /nope failed with status 127: No such file or directory\n")


def test_the_filter_holds_for_hooks_that_run_at_the_start(runtime):
    (runtime.bundle / "rootfs/bin/mkdir").symlink_to("busybox")
    rules = [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]

    def change(config):
        config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
        config["hooks"] = {"startContainer": [within("mkdir /dev/shm/new")]}

    assert "can't create directory '/dev/shm/new': Operation not permitted" in runtime.run("true", change=change).stderr
    assert runtime.traces() == []


def test_a_hook_in_the_container_has_its_place_and_environment(runtime):
    place = within("test -d ./bin && pwd > ./here")
    given = shell('test "$ONE$HOME" = two/')
    done = runtime.run(
        "cat",
        "/here",
        change=lambda c: (
            c["process"].update(env=["ONE=two", "PATH=/bin"]),
            c["root"].update(readonly=False),
            c.update(hooks={"createContainer": [place], "startContainer": [given]}),
        ),
    )
    assert (done.stdout, done.stderr) == (f"{runtime.bundle}/rootfs\n", "")


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        ({"path": "sh"}, "$.hooks.poststop[0].path: 'sh' is not an absolute path"),
        ({"path": "/bin/sh", "timeout": 0}, "$.hooks.poststop[0].timeout: must be greater than zero"),
        ({"path": "/bin/sh", "env": ["A"]}, "$.hooks.poststop[0].env[0]: 'A' is not NAME=VALUE"),
        ({"args": []}, "$.hooks.poststop[0]: missing 'path'"),
    ],
)
def test_a_hook_that_cannot_be_is_refused_before_anything_is_made(runtime, hook, message):
    done = runtime.run("true", change=lambda c: c.update(hooks={"poststop": [hook]}))
    assert done.stderr.splitlines()[0] == f"veloci-runtime run failed: config.json: {message}"
    assert runtime.traces() == []
