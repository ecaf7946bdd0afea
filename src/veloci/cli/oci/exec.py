"""`exec`."""

from __future__ import annotations

from veloci.cli.oci.main import load
from veloci.cli.oci.process import wait, write_pid
from veloci.errors import InvalidInput


def exec_(
    id: str,
    /,
    *command: str,
    process: str = "",
    cwd: str = "",
    env: tuple[str, ...] = (),
    tty: bool = False,
    user: str = "",
    additional_gids: tuple[str, ...] = (),
    detach: bool = False,
    pid_file: str = "",
    console_socket: str = "",
    no_new_privs: bool = False,
    cap: tuple[str, ...] = (),
    cgroup: str = "",
    ignore_paused: bool = False,
    preserve_fds: int = 0,
) -> int:
    """Run a further process in a container.

    -p, --process FILE         the process as JSON, as config.json's
    --cwd DIR                  its working directory
    -e, --env NAME=VALUE       a variable; may be repeated
    -t, --tty                  give it a terminal
    -u, --user UID[:GID]       whose it is
    -g, --additional-gids GID  a further group; may be repeated
    -d, --detach               do not wait for its end
    --pid-file FILE            write its pid here
    --console-socket PATH      the AF_UNIX socket that gets the terminal
    --no-new-privs             no program may add privileges
    -c, --cap NAME             a further capability; may be repeated
    --cgroup PATH              a group below the container's
    --ignore-paused            although it is paused
    --preserve-fds N           keep N more descriptors than stdio
    """
    from veloci.spec.document import loads

    container = load(id)
    if process:
        with open(process, "rb") as file:
            plain = loads(file.read())
    else:
        if not command:
            raise InvalidInput("exec args cannot be empty")
        base = container.config().process
        assert base is not None
        plain = {**base.plain(), "args": list(command), "terminal": tty}
        if cwd:
            plain["cwd"] = cwd
        plain["env"] = [*plain.get("env", []), *env]
        if user:
            uid, _, gid = user.partition(":")
            if not uid.isdigit() or (gid and not gid.isdigit()):
                raise InvalidInput(f"{user!r} is not UID[:GID]", where="--user")
            plain["user"] = {"uid": int(uid), "gid": int(gid or 0)}
        if additional_gids:
            plain.setdefault("user", {"uid": 0, "gid": 0})["additionalGids"] = [int(gid) for gid in additional_gids]
        if no_new_privs:
            plain["noNewPrivileges"] = True
        if cap:
            sets = plain.setdefault("capabilities", {})
            for name in ("bounding", "effective", "permitted"):
                sets[name] = [*sets.get(name, []), *cap]
    console = -1
    if console_socket:
        from veloci.kernel import tty as terminals

        console = terminals.connect(console_socket)
    pid = container.exec(plain, console=console, preserve_fds=preserve_fds, cgroup=cgroup, ignore_paused=ignore_paused)
    write_pid(pid_file, pid)
    return 0 if detach else wait(pid)
