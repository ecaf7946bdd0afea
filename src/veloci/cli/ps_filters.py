"""`ps --filter`: which containers are listed. Values of one filter are alternatives, but labels must all be there."""

from __future__ import annotations

from veloci.errors import InvalidInput, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from veloci.engine.engine import Engine
    from veloci.engine.record import Record
    from veloci.monitor.state import State

    Condition = Callable[[Record, State], bool]

_STATUSES = ("created", "restarting", "running", "removing", "paused", "exited", "dead")
_HEALTHS = ("starting", "healthy", "unhealthy", "none")
_FIELDS = (
    "ancestor before exited expose health id is-task label name network publish since status volume"
)  # fmt: skip


class Filters:
    """The conditions that `--filter FIELD=VALUE` states. Raises InvalidInput, NotFound for a container named there."""

    def __init__(self, engine: Engine, texts: tuple[str, ...]) -> None:
        self._engine = engine
        self._any: dict[str, list[Condition]] = {}
        for text in texts:
            field, equals, value = text.partition("=")
            if not equals or field not in _FIELDS.split():
                raise InvalidInput(
                    f"invalid filter {text!r}",
                    where="--filter",
                    hint=f"{_FIELDS}, each =VALUE",
                    exit_status=None if equals else 125,  # docker's, when a flag's grammar is wrong
                )
            condition: Condition = getattr(self, f"_{field.replace('-', '_')}")(value)
            self._any.setdefault(text if field == "label" else field, []).append(condition)
        self.ended = "status" in self._any  # whether those that do not run are meant, too

    def __call__(self, record: Record, now: State) -> bool:
        """Whether a container is one of those."""
        return all(any(one(record, now) for one in alternatives) for alternatives in self._any.values())

    def _name(self, value: str) -> Condition:
        pattern = _pattern(value)
        return lambda record, _now: bool(pattern(record.name) or pattern(f"/{record.name}"))

    def _id(self, value: str) -> Condition:
        pattern = _pattern(value)
        return lambda record, _now: pattern(record.id)

    def _label(self, value: str) -> Condition:
        key, equals, wanted = value.partition("=")
        return lambda record, _now: key in record.labels and (not equals or record.labels[key] == wanted)

    def _status(self, value: str) -> Condition:
        _one_of(value, _STATUSES, "status")
        return lambda _record, now: now.status == value

    def _exited(self, value: str) -> Condition:
        if not value.removeprefix("-").isdigit():
            raise InvalidInput(f"{value!r} is not an exit status", where="--filter exited")
        return lambda _record, now: now.status == "exited" and now.exit_code == int(value)

    def _health(self, value: str) -> Condition:
        _one_of(value, _HEALTHS, "health")
        return lambda _record, now: (now.health or "none") == value

    def _is_task(self, value: str) -> Condition:
        _one_of(value, ("true", "false", "1", "0"), "is-task")
        return lambda _record, _now: value in ("false", "0")

    def _ancestor(self, value: str) -> Condition:
        from veloci.spec.digest import chain_ids

        try:
            image = self._engine.images.resolve(value)
        except (NotFound, InvalidInput):  # containers of it may still be there
            return lambda record, _now: record.image == value or _digits(record.image_id).startswith(value)
        diff_ids = list(image.diff_ids)
        top = chain_ids(diff_ids)[-1] if diff_ids else ""
        return lambda record, _now: record.image_id == image.id or (bool(top) and self._below(record, top))

    def _below(self, record: Record, chain_id: str) -> bool:
        """Whether the layer is one of those that the container stands on."""
        import os

        layer = f"{self._engine.snapshots.layer(chain_id)}/fs"
        return os.path.isdir(layer) and layer in self._engine.snapshots.directories(record.id)[1]

    def _before(self, value: str) -> Condition:
        created = self._created(value)
        return lambda record, _now: record.created < created

    def _since(self, value: str) -> Condition:
        created = self._created(value)
        return lambda record, _now: record.created > created

    def _created(self, word: str) -> int:
        records = self._engine.containers.records
        return records.load(records.find(word)).created

    def _volume(self, value: str) -> Condition:
        return lambda record, _now: any(
            value in (point.get("name"), point["destination"], point.get("source")) for point in record.mounts
        )

    def _network(self, value: str) -> Condition:
        from veloci.engine.networks import find

        try:
            name = find(self._engine.networks, value)["Name"]
        except NotFound:
            name = value
        return lambda record, _now: record.network == name

    def _publish(self, value: str) -> Condition:
        low, high, protocol = _range(value, "publish")
        return lambda record, _now: any(
            low <= port[side] <= high and port.get("protocol", "tcp") == protocol
            for port in record.ports
            for side in ("hostPort", "containerPort")
            if port.get(side)
        )

    def _expose(self, value: str) -> Condition:
        low, high, protocol = _range(value, "expose")

        def exposed(record: Record, _now: State) -> bool:
            known = [f"{port['containerPort']}/{port.get('protocol', 'tcp')}" for port in record.ports]
            pairs = (name.partition("/") for name in (*record.exposed, *known))
            return any(low <= int(number) <= high and kind == protocol for number, _, kind in pairs)

        return exposed


def _pattern(value: str) -> Callable[[str], bool]:
    """A regular expression, as docker takes names and IDs; one that is none is a plain text."""
    import re

    try:
        found = re.compile(value)
    except re.error:
        return lambda text: value in text
    return lambda text: bool(found.search(text))


def _one_of(value: str, known: tuple[str, ...], field: str) -> None:
    if value not in known:
        raise InvalidInput(f"invalid filter '{field}={value}'", where="--filter", hint=", ".join(known))


def _range(value: str, field: str) -> tuple[int, int, str]:
    """`80`, `80-90`, `80/udp` as the first, the last, the protocol."""
    ports, _, protocol = value.partition("/")
    low, dash, high = ports.partition("-")
    if not low.isdigit() or (dash and not high.isdigit()) or (protocol or "tcp") not in ("tcp", "udp", "sctp"):
        raise InvalidInput(f"invalid filter '{field}={value}'", where="--filter", hint="80, 80-90, 80/udp")
    return int(low), int(high or low), protocol or "tcp"


def _digits(digest: str) -> str:
    return digest.removeprefix("sha256:")
