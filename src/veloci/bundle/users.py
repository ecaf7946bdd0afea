"""A user's name, as an image's passwd and group files know it. Pure: takes their bytes.

`USER name`, `--user 1000:1000`, `USER app:staff`: numbers are numbers, anything else is looked up.
A number out of range is an error and never a name (CVE-2024-40635, CVE-2026-46680).
"""

from __future__ import annotations

from veloci.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST = 2**32 - 2  # 2**32 - 1 is "no change" to chown(2) and setresuid(2)


class Account:
    """Who a process is: `uid`, `gid`, `groups` (supplementary group IDs), `home`."""

    __slots__ = ("gid", "groups", "home", "uid")

    def __init__(self, uid: int, gid: int, groups: tuple[int, ...], home: str) -> None:
        self.uid, self.gid, self.groups, self.home = uid, gid, groups, home


def resolve(text: str, passwd: bytes = b"", group: bytes = b"") -> Account:
    """`user`, `uid`, `user:group` or `uid:gid` as an account; "" is root.

    A uid without an entry has gid 0 and home `/`. Supplementary groups come from `group`,
    unless `text` names a group. Raises InvalidInput for a name that is not there or a number out of range.
    """
    name, colon, group_name = text.partition(":")
    uid = _number(name, text) if name else 0
    entry = next((e for e in _lines(passwd, 7) if (e[0] == name if uid is None else e[2] == str(uid))), None)
    if entry is None and uid is None:
        raise InvalidInput(
            f"unable to find user {name}: no matching entries in passwd file",
            where="--user",
            hint="a name from the image's /etc/passwd, or a number",
        )
    if entry is not None:
        uid, gid, login, home = _id(entry[2], text), _id(entry[3], text), entry[0], entry[5] or "/"
    else:
        gid, login, home = 0, "", "/"
    assert uid is not None
    if colon and group_name:
        return Account(uid, _group(group_name, group, text), (), home)
    groups = tuple(_id(e[2], text) for e in _lines(group, 4) if login and login in e[3].split(","))
    return Account(uid, gid, groups, home)


def _group(name: str, group: bytes, text: str) -> int:
    number = _number(name, text)
    if number is not None:
        return number
    for entry in _lines(group, 4):
        if entry[0] == name:
            return _id(entry[2], text)
    raise InvalidInput(
        f"unable to find group {name}: no matching entries in group file",
        where="--user",
        hint="a name from the image's /etc/group, or a number",
    )


def _number(word: str, text: str) -> int | None:
    """`word` as an ID, None if it is a name."""
    if not (word.isascii() and word.lstrip("+-").isdigit()):
        return None
    return _id(word, text)


def _id(word: str, text: str) -> int:
    if word.isascii() and word.isdigit() and len(word) <= 10 and int(word) <= LARGEST:
        return int(word)
    raise InvalidInput(f"{text!r}: the ID {word!r} is not between 0 and {LARGEST}", where="--user")


def _lines(file: bytes, fields: int) -> Iterator[list[str]]:
    """The entries of passwd (7 fields) or group (4), malformed ones left out."""
    for line in file.decode("utf-8", "surrogateescape").split("\n"):
        entry = line.split(":")
        if len(entry) == fields and entry[0] and not entry[0].startswith(("#", "+", "-")) and entry[2].isdigit():
            yield entry
