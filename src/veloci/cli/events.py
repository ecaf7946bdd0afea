"""`veloci events`."""

from __future__ import annotations

from veloci.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Event = dict[str, Any]

_PAUSE = 0.1  # seconds between two looks
_FIELDS = "container event image label network scope type volume"


def events(*, since: str = "", until: str = "", filter: tuple[str, ...] = (), format: str | None = None) -> int:
    """Show what happens to containers, images, networks and volumes, until it is interrupted.

    --since TIME         also what happened since: a time (2026-11-24T10:00:00Z, or seconds since 1970), or 10m ago
    --until TIME         end there
    -f, --filter FIELD=VALUE  only of this container, event, image, label, network, scope, type, volume
    --format TEMPLATE    a Go template for each, or json
    """
    import sys
    from time import sleep, time_ns

    from veloci.cli.moments import nanoseconds
    from veloci.cli.template import Template
    from veloci.engine.engine import Engine
    from veloci.monitor.logs import Reader

    engine = Engine()
    begin = nanoseconds(since, "--since") if since else time_ns()
    end = nanoseconds(until, "--until") if until else 0
    fits = _filter(engine.containers.records.find, filter)
    template = Template((format or "").replace("\\t", "\t").replace("\\n", "\n"))
    reader = Reader(f"{engine.run_root}/events")
    while True:
        over = bool(end) and time_ns() > end
        for line in reader.lines():
            event = _read(line)
            if event and begin <= event["timeNano"] and (not end or event["timeNano"] <= end) and fits(event):
                sys.stdout.write(_shown(event, line, format, template))
        sys.stdout.flush()
        if over:
            return 0
        sleep(_PAUSE)


def _read(line: bytes) -> Event | None:
    """The event of a line; None for half a line, of a disk that was full."""
    from veloci.spec.document import loads

    try:
        event: Event = loads(line)
    except ValueError:
        return None
    return event if "timeNano" in event else None


def _shown(event: Event, line: bytes, format: str | None, template: Any) -> str:
    from veloci.cli.output import visible

    if format in ("json", "{{json .}}"):
        return line.decode() + "\n"
    if format:
        from veloci.cli.go_types import typed

        fields = {"Time": event["time"], "TimeNano": event["timeNano"], "Status": event.get("status", "")}
        fields |= {"ID": event.get("id", ""), "From": event.get("from", ""), "Scope": event["scope"]}
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
    if field in ("container", "network", "volume"):
        known = _known(find, value) if field == "container" else value

        def of_its_own(event: Event) -> bool:  # as docker: the beginning of an ID or a name
            actor = event["Actor"]
            return any(text.startswith((known, value)) for text in (actor["ID"], actor["Attributes"].get("name", "")))

        return of_its_own
    if field == "image":
        return lambda event: value in _images(event)
    if field == "label":
        key, equals, wanted = value.partition("=")
        return lambda event: (
            key in event["Actor"]["Attributes"] and (not equals or event["Actor"]["Attributes"][key] == wanted)
        )
    name = {"event": "Action", "scope": "scope", "type": "Type"}[field]
    return lambda event: str(event[name]).partition(":")[0] == value or event[name] == value


def _known(find: Callable[[str], str], word: str) -> str:
    """The ID of a container, also under the name that it has now; a word that is none stays."""
    from veloci.errors import VelociError

    try:
        return find(word)
    except VelociError:  # one that is gone, or not there yet
        return word


def _images(event: Event) -> set[str]:
    """What `--filter image=` may call the image of an event: its ID or name, with its tag or without."""
    name = event["Actor"]["Attributes"].get("name" if event["Type"] == "image" else "image", "")
    return {name, event["Actor"]["ID"], _untagged(name), _untagged(event["Actor"]["ID"])}


def _untagged(name: str) -> str:
    from veloci.errors import InvalidInput
    from veloci.spec.reference import Reference

    if name.startswith("sha256:"):
        return name
    try:
        return Reference.parse(name).familiar_name()
    except InvalidInput:
        return name
