"""`veloci top`."""

from __future__ import annotations

from veloci.errors import InvalidInput, Unsupported


def top(container: str, /, *command: str) -> int:
    """Show the processes of a running container, by the host's `ps`.

    What follows the container are options of `ps`, instead of -ef; among its columns must be PID.
    """
    import subprocess

    from veloci.cli.output import show, table
    from veloci.engine.engine import Engine
    from veloci.engine.resources import pids

    wanted = {str(pid) for pid in pids(Engine(), container)}
    try:
        done = subprocess.run(["ps", *(command or ("-ef",))], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Unsupported("this host has no ps", hint="apt install procps") from None
    if done.returncode:
        raise InvalidInput(f"ps: {done.stderr.strip() or 'failed'}", where="veloci top")
    headers, *rows = (line.split() for line in done.stdout.splitlines() if line.strip())
    if "PID" not in headers:
        raise InvalidInput("couldn't find PID field in ps output", where="veloci top", hint="add pid to its columns")
    column, width = headers.index("PID"), len(headers) - 1
    chosen = [row for row in rows if len(row) > column and row[column] in wanted]
    # The last column, the command, holds blanks of its own.
    show(table(headers, [[*row[:width], " ".join(row[width:])] for row in chosen]))
    return 0
