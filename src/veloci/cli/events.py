"""`veloci events`."""

from __future__ import annotations

from veloci.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Event = dict[str, Any]

_PAUSE = 0.1  # seconds between two looks
_FIELDS = "container event image label type"


def events(*, since: str = "", until: str = "", filter: tuple[str, ...] = (), format: str | None = None) -> int:
    """Show what happens to containers, until it is interrupted.

    --since TIME         also what happened since: a time (2026-11-24T10:00:00Z, or seconds since 1970), or 10m ago
    --until TIME         end there
    -f, --filter FIELD=VALUE  only of this container, event, image, label, type
    --format TEMPLATE    a Go template for each, or json
    """
    import sys
    from time import sleep, time_ns

    from veloci.cli.moments import nanoseconds
    from veloci.cli.template import Template
    from veloci.engine.engine import Engine
    from veloci.monitor.logs import Reader
    from veloci.spec.document import loads

    engine = Engine()
    begin = nanoseconds(since, "--since") if since else time_ns()
    end = nanoseconds(until, "--until") if until else 0
    fits = _filter(engine.containers.records.find, filter)
    template = Template((format or "").replace("\\t", "\t").replace("\\n", "\n"))
    reader = Reader(f"{engine.run_root}/events")
    while True:
        over = bool(end) and time_ns() > end
        for line in reader.lines():
            event = loads(line)
            if begin <= event["timeNano"] and (not end or event["timeNano"] <= end) and fits(event):
                sys.stdout.write(_shown(event, line, format, template))
        sys.stdout.flush()
        if over:
            return 0
        sleep(_PAUSE)


def _shown(event: Event, line: bytes, format: str | None, template: Any) -> str:
    from veloci.cli.output import visible

    if format in ("json", "{{json .}}"):
        return line.decode() + "\n"
    if format:
        from veloci.cli.inspect import typed

        fields = {"Time": event["time"], "TimeNano": event["timeNano"], "Status": event["status"]}
        fields |= {"ID": event["id"], "From": event["from"], "Scope": event["scope"]}
        actor = {"ID": event["Actor"]["ID"]}
        known = typed({**fields, "Type": event["Type"], "Action": event["Action"], "Actor": actor})
        known["Actor"]["Attributes"] = event["Actor"]["Attributes"]
        return template.render(known) + "\n"  # type: ignore[no-any-return]
    from veloci.monitor.logs import timestamp

    attributes = ", ".join(f"{key}={value}" for key, value in event["Actor"]["Attributes"].items())
    words = (event["Type"], event["Action"], event["Actor"]["ID"], f"({attributes})")
    return visible(f"{timestamp(event['timeNano'])} {' '.join(words)}") + "\n"


def _filter(find: Callable[[str], str], texts: tuple[str, ...]) -> Callable[[Event], bool]:
    """Whether an event is wanted: values of one field are alternatives, but labels must all be there."""
    wanted: dict[str, list[Callable[[Event], bool]]] = {}
    for text in texts:
        field, equals, value = text.partition("=")
        if not equals or field not in _FIELDS.split():
            raise InvalidInput(f"invalid filter {text!r}", where="--filter", hint=f"{_FIELDS}, each =VALUE")
        wanted.setdefault(text if field == "label" else field, []).append(_condition(find, field, value))
    return lambda event: all(any(one(event) for one in alternatives) for alternatives in wanted.values())


def _condition(find: Callable[[str], str], field: str, value: str) -> Callable[[Event], bool]:
    from veloci.errors import VelociError

    if field == "container":
        try:
            known = find(value)
        except VelociError:  # one that is gone, or not there yet
            known = value
        return lambda event: event["id"] in (known, value) or event["Actor"]["Attributes"].get("name") == value
    if field == "label":
        key, equals, wanted = value.partition("=")
        return lambda event: (
            key in event["Actor"]["Attributes"] and (not equals or event["Actor"]["Attributes"][key] == wanted)
        )
    names = {"event": "Action", "image": "from", "type": "Type"}
    return lambda event: str(event[names[field]]).partition(":")[0] == value or event[names[field]] == value
