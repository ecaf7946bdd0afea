"""`veloci exec`."""

from __future__ import annotations


def exec(
    container: str,
    /,
    *command: str,
    detach: bool = False,
    interactive: bool = False,
    env: tuple[str, ...] = (),
    user: str = "",
    workdir: str = "",
    privileged: bool = False,
) -> int:
    """Run another command in a running container.

    -d, --detach             do not wait for it
    -i, --interactive        pass standard input to it
    -e, --env KEY=VALUE      set an environment variable
    -u, --user USER[:GROUP]  as whom
    -w, --workdir DIR        where
    --privileged             with all capabilities
    """
    import os

    from veloci.bundle.options import Options
    from veloci.engine.engine import Engine
    from veloci.errors import InvalidInput
    from veloci.kernel.process import exit_status

    if not command:
        raise InvalidInput("needs a command", where="veloci exec", hint="veloci exec --help")
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    stdio = (null, null, null) if detach else (0 if interactive else null, 1, 2)
    options = Options(env=env, user=user, workdir=workdir, privileged=privileged)
    pid, _ = Engine(forks=True).containers.exec(container, command, options, stdio)
    return 0 if detach else exit_status(os.waitpid(pid, 0)[1])
