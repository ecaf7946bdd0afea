"""`--progress=rawjson`: a line of JSON for each thing that happens, in the shape of buildkit's SolveStatus."""

from __future__ import annotations

from veloci.cli.build_display import Display
from veloci.spec import digest as digests
from veloci.spec.document import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from veloci.cli.build_display import Step


class RawJson(Display):
    """Vertexes (steps), statuses (their bytes) and logs (their output, base64)."""

    def line(self, text: str) -> None:
        """A warning."""
        with self.lock:
            self._write({"warnings": [{"short": _base64(text)}]})

    def began(self, step: Step) -> None:
        """The step's vertex, started."""
        step.kept.append(_now())  # the first line kept is when it began
        self._write({"vertexes": [self._vertex(step)]})

    def said(self, step: Step, line: str) -> None:
        """A line of its log."""
        data = line.partition(" ")[2] + "\n"
        log = {"vertex": _name(step), "stream": 1, "data": _base64(data), "timestamp": _now()}
        self._write({"logs": [log]})

    def moves(self, number: int, key: str, text: str, total: int | None) -> None:
        """A status that begins."""
        with self.lock:
            super().moves(number, key, text, total)
            self._status(self.steps[number - 1], key, text)

    def goes_on(self, step: Step, text: str) -> None:
        """A status: where its bytes are, or how they ended."""
        key, _, how = text.partition(": ")
        self._status(step, key, how)

    def ended(self, step: Step, message: str) -> None:
        """The step's vertex, completed."""
        more: dict[str, Any] = {"completed": _now()}
        if step.state == "cached":
            more["cached"] = True
        if message:
            more["error"] = message
        self._write({"vertexes": [self._vertex(step) | more]})

    def _vertex(self, step: Step) -> dict[str, Any]:
        return {"digest": _name(step), "name": step.title, "started": step.kept[0]}

    def _status(self, step: Step, key: str, text: str) -> None:
        going = step.moving.get(key)
        status: dict[str, Any] = {"id": key, "vertex": _name(step), "name": text, "timestamp": _now()}
        if going is not None:
            status |= {"current": going.count, "total": going.total or 0}
        else:
            status["completed"] = status["timestamp"]
        self._write({"statuses": [status]})

    def _write(self, value: dict[str, Any]) -> None:
        self.stream.write(dumps(value).decode() + "\n")
        self.stream.flush()


def _name(step: Step) -> str:
    return digests.of(f"{step.number} {step.title}".encode())


def _base64(text: str) -> str:
    from binascii import b2a_base64

    return b2a_base64(text.encode(errors="replace"), newline=False).decode()


def _now() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
