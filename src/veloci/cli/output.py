"""What the commands print: tables, templates, sizes, times. Takes values, gives text; only `show` prints.

    show(formatted(items, format, "table {{.Names}}\\t{{.Status}}", headings={"Names": "NAMES"}))

Shapes are docker's (https://docs.docker.com/engine/cli/formatting/), so that what reads its output reads ours.
"""

from __future__ import annotations

import sys

from veloci.cli.main import escaped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

GAP = 3  # blanks between two columns
NARROWEST = 10  # characters of the narrowest column, its gap included


def show(text: str) -> None:
    """Print `text` to standard output; a terminal gets no control characters but newlines and tabs."""
    if sys.stdout.isatty():
        text = visible(text, keep="\n\t")
    try:
        sys.stdout.write(text)
    except UnicodeEncodeError:  # a lone surrogate, or a terminal that is not UTF-8
        sys.stdout.write(text.encode("ascii", "backslashreplace").decode())


def visible(text: str, *, keep: str = "") -> str:
    """`text` with its control characters (C0, C1, bidirectional marks) shown and not obeyed, but those in `keep`."""
    return text if text.isprintable() else "".join(c if c in keep else escaped(c) for c in text)


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as what they hold, three blanks between them; one line a row, the headers first."""
    return _aligned([list(headers), *([visible(cell) for cell in row] for row in rows)])


def formatted(
    items: Iterable[Mapping[str, Any]],
    format: str | None,
    table_default: str,
    *,
    headings: Mapping[str, str] | None = None,
) -> str:
    """One line an item, as --format says.

    items: field -> text, or a method (`{{.Label "x"}}`) as a callable. format: a template,
    `table TEMPLATE`, `table`, `json`, or None for `table_default`, itself `table TEMPLATE`.
    headings: field -> column heading; one that is not here is made of its name (CreatedAt: CREATED AT).
    Raises InvalidInput for a bad template or a field that no item has.
    """
    from veloci.cli.template import Template
    from veloci.cli.template_print import Record

    if format in (None, "", "table"):
        format = table_default
    if format == "json":
        format = "{{json .}}"
    assert format
    tabular = format.startswith("table")
    text = format.removeprefix("table").strip(" ") if tabular else format
    text = text.replace("\\t", "\t").replace("\\n", "\n")
    template = Template(text)
    if not tabular:
        return "".join(template.render(Record(sorted(item.items()))) + "\n" for item in items)
    lines = [Template(text, header=True).render(_Headings(headings or {}))]
    for item in items:
        cells = {key: visible(value) if isinstance(value, str) else value for key, value in item.items()}
        lines.append(template.render(Record(cells)))
    return _aligned([line.split("\t") for line in "\n".join(lines).split("\n")])


class _Headings(dict):  # type: ignore[type-arg]  # its values are texts and one method
    """Field -> column heading, for every field there may be."""

    def get(self, name: str, default: object = None) -> object:
        """The heading of the field `name`."""
        if name == "Label":
            return _label_heading
        return super().get(name, default) if name in self else _words(name).upper()


def _label_heading(name: str) -> str:
    """The heading of a label's column: com.example.tier gives `tier`."""
    return name.rpartition(".")[2].replace("-", " ").replace("_", " ")


def _words(name: str) -> str:
    """CreatedAt -> `Created At`; ImageID -> `Image ID`."""
    pairs = zip(" " + name, name, strict=False)
    return "".join(f" {c}" if c.isupper() and before.islower() else c for before, c in pairs)


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """The cells of each line under each other; the last of a line is not padded (Go's text/tabwriter)."""
    widths: dict[int, int] = {}
    for line in lines:
        for column, cell in enumerate(line[:-1]):
            widths[column] = max(widths.get(column, NARROWEST), len(cell) + GAP)
    return "".join(
        "".join(cell.ljust(widths[column]) for column, cell in enumerate(line[:-1])) + (line[-1] if line else "") + "\n"
        for line in lines
    )


def size(count: float) -> str:
    """`count` bytes in three digits and a decimal unit: 0B, 4.26MB, 1.23GB."""
    units = iter(("B", "kB", "MB", "GB", "TB", "PB", "EB"))
    unit = next(units)
    while count >= 999.5 and (larger := next(units, "")):
        count, unit = count / 1000, larger
    return f"{count:.3g}{unit}"


def duration(seconds: float) -> str:
    """A time span as docker says it: `5 minutes`, `About an hour`, `Less than a second`."""
    whole, hours = int(seconds), int(seconds / 3600 + 0.5)
    if whole < 60:
        return "Less than a second" if whole < 1 else "1 second" if whole == 1 else f"{whole} seconds"
    if whole < 3600:
        return "About a minute" if whole < 120 else f"{whole // 60} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    for limit, unit, name in ((24 * 14, 24, "days"), (24 * 60, 168, "weeks"), (24 * 365 * 2, 720, "months")):
        if hours < limit:
            return f"{hours // unit} {name}"
    return f"{whole // 3600 // 24 // 365} years"


def ago(moment: float) -> str:
    """How long ago the `moment` (seconds since 1970) was: `5 minutes ago`; `N/A` when it is not known (0)."""
    from time import time

    return f"{duration(max(0.0, time() - moment))} ago" if moment else "N/A"


def timestamp(moment: float) -> str:
    """The `moment` (seconds since 1970) in local time as docker prints it: 2024-05-01 10:00:00 +0200 CEST."""
    from time import localtime, strftime

    return strftime("%Y-%m-%d %H:%M:%S %z %Z", localtime(moment))


def moment(text: str | None) -> float:
    """A time in RFC 3339, as the documents write it, in seconds since 1970; 0 for none and for what is no time."""
    from datetime import UTC, datetime

    try:
        when = datetime.fromisoformat(text or "")
    except ValueError:
        return 0.0
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def short(digest: str) -> str:
    """The 12 characters that stand for an ID or a digest."""
    return digest.rpartition(":")[2][:12]
