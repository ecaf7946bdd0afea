"""`veloci explore --html`: a page with a map of an image's files, whole in one file.

A squarified treemap (Bruls, Huizing, van Wijk 2000), drawn in the browser from data in the page. Nothing is
fetched, and no name in the image can become markup or script.
"""

from __future__ import annotations

import os
from html import escape

from veloci.spec.document import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from veloci.layer.merge import Tree

MOST = 40_000  # entries in the page; smaller files of a directory are then one
PAGE = "explore.html"  # beside this file


def page(found: dict[str, Any], whole: Tree) -> str:
    """The page. found: what `explore.summary` gives."""
    from veloci.cli.output import size

    # Within a script element only `<` could end it; JSON may have it escaped.
    data = dumps(nodes(whole)).decode().replace("<", "\\u003c")
    heading = (
        f"{size(found['size'])} in {len(found['layers'])} layers, {size(found['compressed'])} compressed; "
        f"{found['files']} files, {size(found['wasted'])} wasted, {found['efficiency']:.1%} efficient"
    )
    parts = {
        "image": _html(found["image"]),
        "heading": heading,
        "layers": _layers(found),
        "waste": _waste(found),
        "data": data,
    }
    with open(os.path.join(os.path.dirname(__file__), PAGE), encoding="utf-8") as file:
        pieces = file.read().split("{")
    whole_page = pieces[0]
    for piece in pieces[1:]:
        name, brace, rest = piece.partition("}")
        whole_page += parts[name] + rest if brace and name in parts else "{" + piece
    return whole_page


def nodes(whole: Tree) -> list[Any]:
    """The tree for the map: [name, size, layer, children]; layer 0 and children None are no file's."""
    from veloci.cli.explore import totals

    below = totals(whole)
    least = _least(whole)

    def node(path: bytes, name: str) -> list[Any]:
        children, small, count = [], 0, 0
        for child in whole.below(path):
            total = below.get(child, 0)
            if total <= least:
                small += total
                count += 1
            else:
                children.append(node(child, child.rpartition(b"/")[2].decode(errors="backslashreplace")))
        if small:
            children.append([f"{count} small ones", small, 0, None])
        children.sort(key=lambda each: -each[1])
        file = whole.files.get(path)
        is_file = file is not None and file.kind != "dir"
        return [name, below.get(path, 0), file.layer + 1 if file and is_file else 0, None if is_file else children]

    return node(b"", "")


def _least(whole: Tree) -> int:
    """The size up to which files go together, so that the page stays small; 0 leaves out empty ones alone."""
    sizes = sorted((file.size for file in whole.files.values()), reverse=True)
    return sizes[MOST] if len(sizes) > MOST else 0


def _layers(found: dict[str, Any]) -> str:
    from veloci.cli.output import size

    largest = max((layer["size"] for layer in found["layers"]), default=0) or 1
    return "".join(
        f'<tr><td><span class="swatch" data-layer="{layer["number"]}"></span>{layer["number"]}</td>'
        f'<td class="n">{size(layer["size"])}</td>'
        f'<td><div class="bar"><i data-layer="{layer["number"]}" style="width:{100 * layer["size"] / largest:.1f}%">'
        f'</i></div></td><td class="n">+{layer["added"]} ~{layer["changed"]} −{layer["removed"]}</td>'
        f'<td class="n">{size(layer["wasted"]) if layer["wasted"] else ""}</td>'
        f'<td class="c">{_html(layer["command"])}</td></tr>'
        for layer in found["layers"]
    )


def _waste(found: dict[str, Any]) -> str:
    from veloci.cli.output import size

    if not found["waste"]:
        return ""
    rows = "".join(
        f'<tr><td class="n">{size(each["size"])}</td><td class="n">{each["times"]}</td>'
        f'<td class="c">{_html(each["path"])}</td></tr>'
        for each in found["waste"][:50]
    )
    head = '<tr><th class="n">wasted</th><th class="n">layers</th><th>file that lower layers hold in vain</th></tr>'
    return f"<table>{head}{rows}</table>"


def _html(text: str) -> str:
    return escape("".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text))
