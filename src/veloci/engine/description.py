"""A container in the shape of docker's API: what `inspect` and `ps` show."""

from __future__ import annotations

from veloci.monitor.logs import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from veloci.engine.record import Record
    from veloci.monitor.state import State

_NEVER = "0001-01-01T00:00:00Z"


def described(record: Record, now: State, lease: dict[str, Any] | None, data: str) -> dict[str, Any]:
    """The fields of `docker inspect` that veloci knows; times in RFC 3339, UTC."""
    running = now.status in ("running", "paused", "restarting")
    connected = lease if running and lease else {}
    return {
        "Id": record.id,
        "Created": timestamp(record.created),
        "Path": record.command[0],
        "Args": list(record.command[1:]),
        "State": {
            "Status": now.status,
            "Running": running,
            "Paused": now.status == "paused",
            "Restarting": now.status == "restarting",
            "OOMKilled": now.oom_killed,
            "Dead": False,
            "Pid": now.pid,
            "ExitCode": now.exit_code,
            "Error": now.error,
            "StartedAt": timestamp(now.started_at) if now.started_at else _NEVER,
            "FinishedAt": timestamp(now.finished_at) if now.finished_at else _NEVER,
        },
        "Image": record.image_id,
        "LogPath": f"{data}/log",
        "Name": f"/{record.name}",
        "RestartCount": now.restarts,
        "Config": {
            "Hostname": record.hostname,
            "Tty": record.tty,
            "OpenStdin": record.stdin,
            "Cmd": list(record.command),
            "Image": record.image,
            "Labels": record.labels,
            "StopSignal": record.stop_signal,
        },
        "HostConfig": {
            "NetworkMode": record.network,
            "RestartPolicy": {"Name": record.restart.policy, "MaximumRetryCount": record.restart.maximum},
            "AutoRemove": record.auto_remove,
            "Runtime": record.runtime,
        },
        "NetworkSettings": {
            "IPAddress": connected.get("address", ""),
            "Gateway": connected.get("gateway", ""),
            "MacAddress": connected.get("mac", ""),
            "Ports": {
                f"{port['containerPort']}/{port['protocol']}": [
                    {"HostIp": port["hostAddress"], "HostPort": str(port["hostPort"])}
                ]
                for port in connected.get("ports", [])
            },
        },
    }
