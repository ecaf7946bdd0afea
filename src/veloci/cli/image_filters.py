"""Which images `veloci images` shows. Takes the list and the filters, gives a line's image and name each."""

from __future__ import annotations

import re

from veloci.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from veloci.engine.images import Images, Listed
    from veloci.spec.reference import Reference

FILTERS = ("before", "dangling", "label", "reference", "since")


def chosen(images: Images, name: str, filters: Iterable[str]) -> Iterator[tuple[Listed, Reference | None]]:
    """A pair for every line: an image, and one of its names or None. Raises InvalidInput for an unknown filter."""
    asked = _parsed(filters)
    patterns = [*asked["reference"], *([name] if name else [])]
    only = not any(asked[key] for key in ("before", "since", "reference"))
    listed = images.all(*_meant(name)) if only else images.all()
    for key in ("before", "since"):
        for other in asked[key]:
            at = [each.descriptor.digest for each in listed].index(images.find(other).digest)
            listed = listed[at + 1 :] if key == "before" else listed[:at]
    dangling = {_truth(value) for value in asked["dangling"]}
    for each in listed:
        if all(_labelled(each, label) for label in asked["label"]):
            references: list[Reference | None] = [*each.names] or [None]
            for reference in references:
                fits = not dangling or (reference is None) in dangling
                if fits and (not patterns or any(matches(pattern, reference) for pattern in patterns)):
                    yield each, reference


def _meant(name: str) -> tuple[str, str]:
    """The one repository, and the one tag in it, that a name may mean; "" for any."""
    from veloci.spec.reference import Reference

    try:
        found = Reference.parse(name)
    except InvalidInput:
        return "", ""
    return f"{found.registry}/{found.repository}", found.tag or ""


def _parsed(filters: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {key: [] for key in FILTERS}
    for text in filters:
        key, equals, value = text.partition("=")
        if not equals:
            raise InvalidInput(
                f"invalid filter {text!r}: it has no =",
                where="--filter",
                hint="--filter KEY=VALUE",
                exit_status=125,  # docker's: its flags' grammar is wrong
            )
        if key not in found:
            raise InvalidInput(f"invalid filter {key!r}", where="--filter", hint=f"one of {', '.join(FILTERS)}")
        found[key].append(value)
    return found


def _truth(value: str) -> bool:
    if value.lower() not in ("true", "1", "false", "0"):
        raise InvalidInput(f"invalid filter 'dangling={value}'", where="--filter", hint="dangling=true or false")
    return value.lower() in ("true", "1")


def _labelled(listed: Listed, label: str) -> bool:
    key, equals, value = label.partition("=")
    labels = listed.image.config.config.labels if listed.image else {}
    return key in labels and (not equals or labels[key] == value)


def matches(pattern: str, reference: Reference | None) -> bool:
    """Whether the familiar name, with its tag or without, is like the pattern: * ? [a-z], none of which is a /."""
    if reference is None:
        return False
    like = re.compile(_expression(pattern))
    return any(like.fullmatch(text) for text in (reference.familiar(), reference.familiar_name()))


def _expression(pattern: str) -> str:
    """The regular expression of a shell pattern (Go's path.Match)."""
    found = ""
    for piece in re.split(r"(\*|\?|\\.|\[\^?[^\]]+\])", pattern):
        if piece in ("*", "?"):
            found += "[^/]*" if piece == "*" else "[^/]"
        elif piece[:1] == "[" and piece[-1:] == "]" and len(piece) > 2:
            found += piece.replace("\\", "\\\\")
        else:
            found += re.escape(piece[1:] if piece[:1] == "\\" and len(piece) == 2 else piece)
    return found
