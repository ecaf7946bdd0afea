"""`veloci exec`."""

from __future__ import annotations

import os

from veloci.bundle.options import Options
from veloci.engine.engine import Engine
from veloci.errors import InvalidInput


def exec(
    container: str,
    /,
    *command: str,
    detach: bool = False,
    interactive: bool = False,
    tty: bool = False,
    env: tuple[str, ...] = (),
    env_file: tuple[str, ...] = (),
    user: str = "",
    workdir: str = "",
    privileged: bool = False,
    detach_keys: str = "ctrl-p,ctrl-q",
) -> int:
    """Run a further command in a running container.

    -d, --detach         do not wait for it
    -i, --interactive    pass standard input on
    -t, --tty            give it a terminal
    -e, --env KEY=VALUE  set an environment variable
    --env-file FILE      set those of a file
    -u, --user USER      who it runs as
    -w, --workdir PATH   its working directory
    --privileged         with all capabilities
    --detach-keys KEYS   what to type to leave it running (default ctrl-p,ctrl-q)
    """
    if not command:
        raise InvalidInput("takes CONTAINER COMMAND [ARG...]", where="veloci exec", hint="veloci exec --help")
    from veloci.cli import relay
    from veloci.engine.asked import environment

    if tty and interactive and not detach:
        relay.needs_terminal()
    options = Options(env=environment(env, env_file), user=user, workdir=workdir, tty=tty, privileged=privileged)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    engine = Engine(forks=True)
    if detach:
        engine.containers.exec(container, command, options, (null, null, null))
        return 0
    reads, source = os.pipe2(os.O_CLOEXEC) if interactive else (null, -1)
    out, out_theirs = os.pipe2(os.O_CLOEXEC)
    error, error_theirs = os.pipe2(os.O_CLOEXEC)
    pid, terminal = engine.containers.exec(container, command, options, (reads, out_theirs, error_theirs))
    for descriptor in (reads, out_theirs, error_theirs):
        os.close(descriptor)
    if terminal >= 0:
        code = relay.Process(pid, {terminal: 1}, terminal if interactive else -1).relay_terminal(detach_keys)
    else:
        code = relay.Process(pid, {out: 1, error: 2}, source).relay()
    engine.containers.tell(engine.containers.records.find(container), "exec_die", exitCode=str(code))
    return code
