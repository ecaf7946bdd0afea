"""`veloci ps`."""

from __future__ import annotations

_TABLE = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"
_HEADINGS = {"ID": "CONTAINER ID", "RunningFor": "CREATED"}


def ps(*, all: bool = False, quiet: bool = False, no_trunc: bool = False, format: str | None = None) -> int:
    """List containers.

    -a, --all          also those that do not run
    -q, --quiet        IDs only
    --no-trunc         whole IDs and commands
    --format TEMPLATE  json, or a template of Go
    """
    from veloci.cli.output import ago, duration, formatted, moment, show
    from veloci.engine.engine import Engine

    containers = Engine().containers
    found = [containers.inspect(id) for id in containers.records.ids()]
    rows = []
    for each in sorted(found, key=lambda item: str(item["Created"]), reverse=True):
        now = each["State"]
        if not (all or now["Running"]):
            continue
        from time import time

        up = duration(time() - moment(now["StartedAt"]))
        ended = f"Exited ({now['ExitCode']}) {ago(moment(now['FinishedAt']))}"
        words = {"created": "Created", "exited": ended, "restarting": f"Restarting ({now['ExitCode']})"}
        command = " ".join([each["Path"], *each["Args"]])
        ports = each["NetworkSettings"]["Ports"].items()
        shown = [f"{o['HostIp']}:{o['HostPort']}->{inner}" for inner, outer in ports for o in outer]
        rows.append(
            {
                "ID": each["Id"] if no_trunc else each["Id"][:12],
                "Image": each["Config"]["Image"],
                "Command": f'"{command if no_trunc or len(command) <= 20 else command[:19] + "…"}"',
                "CreatedAt": each["Created"],
                "RunningFor": ago(moment(each["Created"])),
                "Status": words.get(now["Status"], f"Up {up}"),
                "State": now["Status"],
                "Ports": ", ".join(shown),
                "Names": each["Name"].removeprefix("/"),
                "Labels": ",".join(f"{k}={v}" for k, v in each["Config"]["Labels"].items()),
                "Networks": each["HostConfig"]["NetworkMode"],
            }
        )
    show(formatted(rows, "{{.ID}}" if quiet else format, _TABLE, headings=_HEADINGS))
    return 0
