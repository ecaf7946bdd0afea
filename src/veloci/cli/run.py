"""`veloci run` and `veloci create`."""

from __future__ import annotations

from veloci.errors import InvalidInput, VelociError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from veloci.engine.containers import Settings


def run(
    image: str,
    /,
    *command: str,
    detach: bool = False,
    rm: bool = False,
    name: str = "",
    interactive: bool = False,
    tty: bool = False,
    env: tuple[str, ...] = (),
    env_file: tuple[str, ...] = (),
    volume: tuple[str, ...] = (),
    mount: tuple[str, ...] = (),
    tmpfs: tuple[str, ...] = (),
    workdir: str = "",
    user: str = "",
    entrypoint: str | None = None,
    publish: tuple[str, ...] = (),
    network: str = "bridge",
    hostname: str = "",
    add_host: tuple[str, ...] = (),
    dns: tuple[str, ...] = (),
    label: tuple[str, ...] = (),
    cap_add: tuple[str, ...] = (),
    cap_drop: tuple[str, ...] = (),
    privileged: bool = False,
    read_only: bool = False,
    memory: str | None = None,
    cpus: str | None = None,
    pids_limit: int | None = None,
    ulimit: tuple[str, ...] = (),
    shm_size: str | None = None,
    restart: str = "no",
    stop_signal: str = "",
    stop_timeout: int = 10,
    pull: str = "missing",
    runtime: str = "veloci",
    cidfile: str = "",
    detach_keys: str = "ctrl-p,ctrl-q",
    sig_proxy: bool = True,
) -> int:
    """Run a command in a new container of IMAGE.

    -d, --detach               run in the background and print the container's ID
    --rm                       remove the container when it ends
    --name NAME                its name; one is made up otherwise
    -i, --interactive          keep standard input open
    -t, --tty                  give it a terminal
    -e, --env KEY=VALUE        set an environment variable; KEY alone copies ours
    --env-file FILE            set those of a file
    -v, --volume SRC:DST[:ro]  bind a directory of the host
    --mount type=bind,…        the same, or type=tmpfs, in fields
    --tmpfs PATH[:OPTIONS]     a file system in memory
    -w, --workdir DIR          where the command runs
    -u, --user USER[:GROUP]    as whom
    --entrypoint COMMAND       instead of the image's; empty resets it
    -p, --publish [[IP:]PORT:]PORT  publish a port on the host
    --network, --net NAME      bridge, none, host, container:NAME or a network
    -h, --hostname NAME        its host name
    --add-host NAME:ADDRESS    a line of /etc/hosts
    --dns ADDRESS              a name server
    -l, --label KEY=VALUE      a label
    --cap-add CAP              a capability more
    --cap-drop CAP             a capability less
    --privileged               all capabilities, all devices, nothing masked
    --read-only                the root file system is read-only
    -m, --memory SIZE          at most this much memory (512m, 2g)
    --cpus N                   at most so many processors
    --pids-limit N             at most so many processes
    --ulimit TYPE=SOFT[:HARD]  a resource limit
    --shm-size SIZE            of /dev/shm
    --restart POLICY           no, always, unless-stopped, on-failure[:n]
    --stop-signal SIGNAL       what stop sends
    --stop-timeout SECONDS     how long stop waits
    --pull POLICY              missing, always or never
    --runtime NAME             veloci, runc, crun, runsc or a path
    --cidfile FILE             write the ID to a file
    --detach-keys KEYS         what to type to leave it running (default ctrl-p,ctrl-q)
    --sig-proxy                pass signals on to it (--sig-proxy=false does not)
    """
    arguments = {key: value for key, value in locals().items() if key not in ("image", "detach", "cidfile")}
    from os import isatty
    from os.path import lexists

    from veloci.monitor import keys

    keys.parse(detach_keys)
    if cidfile and lexists(cidfile):  # before there is a container that nobody could name
        raise InvalidInput(f"container ID file found: {cidfile}", where="--cidfile", hint=f"rm {cidfile}")
    if tty and interactive and not detach and not isatty(0):
        raise InvalidInput("the input device is not a TTY", exit_status=1)
    settings = _settings(arguments)
    from veloci.engine.engine import Engine

    engine = Engine(forks=True)
    id = engine.containers.create(image, settings)
    if cidfile:
        _write_id(cidfile, id)
    try:
        connection = engine.containers.start(id, attach=not detach)
    except VelociError:
        if rm:
            engine.containers.remove(id, force=True)
        raise
    if connection is None:
        print(id)
        return 0
    from veloci.monitor.client import Detached, serve

    try:
        return serve(connection, stdin=interactive, tty=tty, forward=sig_proxy, detach_keys=detach_keys)
    except Detached:
        return 0


def create(
    image: str,
    /,
    *command: str,
    name: str = "",
    rm: bool = False,
    interactive: bool = False,
    tty: bool = False,
    env: tuple[str, ...] = (),
    env_file: tuple[str, ...] = (),
    volume: tuple[str, ...] = (),
    workdir: str = "",
    user: str = "",
    entrypoint: str | None = None,
    publish: tuple[str, ...] = (),
    network: str = "bridge",
    hostname: str = "",
    label: tuple[str, ...] = (),
    restart: str = "no",
    pull: str = "missing",
    runtime: str = "veloci",
) -> int:
    """Make a container of IMAGE that `veloci start` runs, and print its ID.

    --name NAME                its name; one is made up otherwise
    --rm                       remove the container when it ends
    -i, --interactive          keep standard input open
    -t, --tty                  give it a terminal
    -e, --env KEY=VALUE        set an environment variable
    --env-file FILE            set those of a file
    -v, --volume SRC:DST[:ro]  bind a directory of the host
    -w, --workdir DIR          where the command runs
    -u, --user USER[:GROUP]    as whom
    --entrypoint COMMAND       instead of the image's
    -p, --publish [[IP:]PORT:]PORT  publish a port on the host
    --network, --net NAME      bridge, none, host, container:NAME or a network
    -h, --hostname NAME        its host name
    -l, --label KEY=VALUE      a label
    --restart POLICY           no, always, unless-stopped, on-failure[:n]
    --pull POLICY              missing, always or never
    --runtime NAME             veloci, runc, crun, runsc or a path
    """
    settings = _settings({key: value for key, value in locals().items() if key != "image"})
    from veloci.engine.engine import Engine

    print(Engine(forks=True).containers.create(image, settings))
    return 0


def _settings(a: dict[str, Any]) -> Settings:
    """What the flags say, as the engine takes it."""
    from veloci.bundle import values
    from veloci.bundle.options import Options
    from veloci.engine.containers import Settings
    from veloci.monitor.policy import Restart
    from veloci.network import ports

    restart = Restart.parse(a["restart"])
    if a["rm"] and restart.policy != "no":
        raise InvalidInput("conflicting options: cannot specify both --restart and --rm")
    options = Options(
        args=a["command"] or None,
        entrypoint=None if a["entrypoint"] is None else tuple(filter(None, (a["entrypoint"],))),
        env=_environment(a),
        user=a["user"],
        workdir=a["workdir"],
        hostname=a["hostname"],
        tty=a["tty"],
        mounts=_mounts(a),
        shm_size=values.size(a["shm_size"], "--shm-size") if a.get("shm_size") else 64 << 20,
        read_only=a.get("read_only", False),
        privileged=a.get("privileged", False),
        cap_add=a.get("cap_add", ()),
        cap_drop=a.get("cap_drop", ()),
        rlimits=tuple(values.ulimit(text) for text in a.get("ulimit", ())),
        memory=values.size(a["memory"], "--memory") if a.get("memory") else None,
        cpus=_number(a.get("cpus")),
        pids_limit=a.get("pids_limit"),
    )
    return Settings(
        options=options,
        name=a["name"],
        network=a["network"],
        ports=tuple(port.plain() for text in a["publish"] for port in ports.parse(text)),
        restart=restart,
        auto_remove=a["rm"],
        stdin=a["interactive"],
        pull=a["pull"],
        runtime=a["runtime"],
        stop_signal=a.get("stop_signal", ""),
        stop_timeout=a.get("stop_timeout", 10),
        labels=dict(values.annotation(text, "--label") for text in a["label"]),
        hosts=a.get("add_host", ()),
        dns=a.get("dns", ()),
    )


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        raise InvalidInput(f"{text!r} is not a number", where="--cpus") from None


def _mounts(a: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    from os import makedirs
    from os.path import abspath, exists, expanduser

    from veloci.bundle import values

    found = [values.volume(text) for text in a["volume"]] + [values.mount(text) for text in a.get("mount", ())]
    for each in found:
        if each["type"] == "volume":
            raise InvalidInput("named volumes are not there yet", where="--volume", hint="bind a directory: /DIR:/DIR")
        if each["type"] == "bind":
            each["source"] = abspath(expanduser(each["source"]))
    for text, each in zip(a["volume"], found, strict=False):
        if not exists(each["source"]):
            makedirs(each["source"])  # as docker does for -v, not for --mount
        del text
    for each in found[len(a["volume"]) :]:
        if each["type"] == "bind" and not exists(each["source"]):
            raise InvalidInput(f"bind source path does not exist: {each['source']}", where="--mount")
    return (*found, *(values.tmpfs(text) for text in a.get("tmpfs", ())))


def _environment(a: dict[str, Any]) -> tuple[str, ...]:
    from os import environ

    entries = []
    for path in a["env_file"]:
        try:
            with open(path, encoding="utf-8-sig") as file:
                lines = [line.rstrip("\n").lstrip() for line in file]
        except OSError as error:
            raise InvalidInput(f"{path}: {error.strerror}", where="--env-file") from None
        for line in lines:
            if line and not line.startswith("#"):
                if any(c.isspace() for c in line.partition("=")[0]):
                    raise InvalidInput(f"variable {line!r} contains whitespaces", where=f"--env-file {path}")
                entries.append(line)
    entries += a["env"]
    return tuple(e if "=" in e else f"{e}={environ[e]}" for e in entries if "=" in e or e in environ)


def _write_id(path: str, id: str) -> None:
    try:
        with open(path, "x") as file:
            file.write(id)
    except FileExistsError:
        raise InvalidInput(f"container ID file found: {path}", where="--cidfile", hint=f"rm {path}") from None
