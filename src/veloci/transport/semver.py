"""Versions and ranges of them: `>= 1.2, < 3 || ^4`.

https://semver.org/spec/v2.0.0.html, and for the ranges https://github.com/Masterminds/semver#checking-version-constraints
"""

from __future__ import annotations

import re

from veloci.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Key = tuple[tuple[int, ...], int, tuple[tuple[int, int, str], ...]]

_VERSION = re.compile(r"v?(\d{1,18})(?:\.(\d{1,18}))?(?:\.(\d{1,18}))?(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")
_PART = r"v?(\d{1,18}|[xX*])(?:\.(\d{1,18}|[xX*]))?(?:\.(\d{1,18}|[xX*]))?(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?"
_RULE = re.compile(rf"\s*(=|!=|>=|=>|<=|=<|>|<|~>?|\^|)\s*{_PART}\s*(?:,|\s|$)\s*")
_HYPHEN = re.compile(rf"\s*{_PART}\s+-\s+{_PART}\s*")


def version(text: str) -> Key | None:
    """`text` as what sorts by precedence; None if it is no version. Parts that it leaves out are 0."""
    match = _VERSION.fullmatch(text)
    if not match:
        return None
    *numbers, early = match.groups()
    return _key([int(number or 0) for number in numbers], early)


def constraint(text: str) -> Callable[[str], bool]:
    """Whether a version is in the range `text`; what is no version is not. Raises InvalidInput."""
    either = [_all(part, text) for part in text.split("||")]

    def fits(tag: str) -> bool:
        found = version(tag)
        return found is not None and any(every(found) for every in either)

    return fits


def _key(numbers: list[int], early: str | None) -> Key:
    """Without a pre-release after all with one; in one, numbers before words (section 11)."""
    parts = (early or "").split(".") if early else []
    ranked = tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)
    return tuple(numbers), 0 if early else 1, ranked


def _all(text: str, whole: str) -> Callable[[Key], bool]:
    """All rules of one alternative hold. A pre-release is only in a range that names one, as Masterminds' are."""
    hyphen = _HYPHEN.fullmatch(text)
    if hyphen:
        first, last = hyphen.groups()[:4], hyphen.groups()[4:]
        rules = [(">=", first), ("<=", last)]
    else:
        rules, at = [], 0
        while at < len(text):
            match = _RULE.match(text, at)
            if not match or match.end() == at:
                raise InvalidInput(f"{whole!r} is no range of versions", hint="'>= 1.2, < 3'")
            rules.append((match[1], match.groups()[1:]))
            at = match.end()
        if not rules:
            raise InvalidInput(f"{whole!r} is no range of versions", hint="'>= 1.2, < 3'")
    tests = [_rule(operator, parts) for operator, parts in rules]
    early = any(parts[3] for _, parts in rules)
    return lambda found: (early or bool(found[1])) and all(test(found) for test in tests)


def _rule(operator: str, parts: tuple[str | None, ...]) -> Callable[[Key], bool]:
    """One rule: an operator, and a version whose parts may be left out or be x."""
    known = []
    for part in parts[:3]:
        if part is None or not part.isdecimal():
            break
        known.append(int(part))
    low = _key(known + [0] * (3 - len(known)), parts[3])
    above = _next(known, len(known) - 1)
    if not known:
        return lambda _found: operator not in ("!=", ">", "<")
    if operator in (">=", "=>"):
        return lambda found: found >= low
    if operator == "<":
        return lambda found: found < low
    if operator == ">":
        return lambda found: found > low if len(known) == 3 else found >= above
    if operator in ("<=", "=<"):
        return lambda found: found <= low if len(known) == 3 else found < above
    if operator.startswith("~"):
        return _between(low, _next(known, min(1, len(known) - 1)))
    if operator == "^":
        leading = next((at for at, number in enumerate(known) if number), len(known) - 1)
        return _between(low, _next(known, leading))
    same = (lambda found: found == low) if len(known) == 3 else _between(low, above)
    return (lambda found: not same(found)) if operator == "!=" else same


def _next(known: list[int], at: int) -> Key:
    """The first version after all that are as `known` up to its part `at`."""
    numbers = [*known[:at], known[at] + 1] if known else [0]
    return _key(numbers + [0] * (3 - len(numbers)), None)


def _between(low: Key, above: Key) -> Callable[[Key], bool]:
    return lambda found: low <= found < above
