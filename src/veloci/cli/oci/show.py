"""`state`, `list` and `ps`."""

from __future__ import annotations

import sys

from veloci.cli.oci.main import called, load, root, value
from veloci.errors import InvalidInput, NotFound
from veloci.kernel.cgroupfs import exists
from veloci.spec.document import dumps


def state(id: str, /) -> int:
    """Print a container's state as JSON."""
    from veloci.runtime.quick import shown

    sys.stdout.write(shown(load(id).state()).decode())
    return 0


def list_(*, format: str = "table", quiet: bool = False) -> int:
    """List the containers.

    -f, --format FORMAT  table or json
    -q, --quiet          IDs only
    """
    from veloci.runtime.container import Container

    if value("root", "") and not exists(root()):
        raise NotFound(f"open {root()}: no such file or directory", where="--root")
    containers = Container.list(root(), _say_damaged)
    found = [{**container.state(), "owner": _owner(container.saved.owner)} for container in containers]
    if quiet:
        sys.stdout.write("".join(f"{each['id']}\n" for each in found))
        return 0
    if format == "json":
        sys.stdout.write(dumps(found or None).decode() + "\n")
        return 0
    if format != "table":
        raise InvalidInput("invalid format option", where="--format", hint="table or json")
    rows: list[tuple[str, ...]] = [("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")]
    rows += [tuple(str(each[key]) for key in ("id", "pid", "status", "bundle", "created", "owner")) for each in found]
    widths = [max(12, *(len(row[column]) + 3 for row in rows)) for column in range(6)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:5], widths[:5], strict=True)]
        sys.stdout.write("".join([*cells, row[5]]) + "\n")
    return 0


def _say_damaged(id: str, error: InvalidInput) -> None:
    """In runc's words; the others are listed."""
    print(f"load container {id}: {error}", file=sys.stderr)


def _owner(uid: int) -> str:
    try:
        with open("/etc/passwd", encoding="utf-8") as file:
            lines = (line.split(":") for line in file)
            return next((line[0] for line in lines if len(line) > 2 and line[2] == str(uid)), f"#{uid}")
    except OSError:
        return f"#{uid}"


def ps(id: str, /, *command: str, format: str = "table") -> int:
    """Show a container's processes.

    -f, --format FORMAT  table (what ps -ef shows of them) or json (their pids)
    """
    if format not in ("table", "json"):
        raise InvalidInput("invalid format option", where="--format", hint="table or json")
    pids = load(id).group.pids()
    if format == "json":
        sys.stdout.write(dumps(pids).decode() + "\n")
        return 0
    import subprocess

    try:
        shown = subprocess.run(["ps", *(command or ("-ef",))], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise NotFound("ps is not on PATH", hint=f"{called()} ps --format json {id}") from None
    header, *lines = shown.stdout.splitlines() or [""]
    if shown.returncode > 1 or (shown.returncode and not lines) or "PID" not in header.split():
        said = shown.stderr.strip().splitlines() or ["it shows no PID"]
        raise InvalidInput(f"ps {' '.join(command)}: {said[0]}")
    column = header.split().index("PID")
    wanted = {str(pid) for pid in pids}
    sys.stdout.write("\n".join([header, *(line for line in lines if line.split()[column] in wanted)]) + "\n")
    return 0
