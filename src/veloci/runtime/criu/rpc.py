"""CRIU's messages: the few fields of its protocol buffers that we send and read.

Own code, not the library `protobuf`: that wants a module generated of rpc.proto, 400 lines bound to the library's
version, and 30 ms of imports for messages of some twenty numbers and texts. The format is one page.

https://github.com/checkpoint-restore/criu/blob/v4.2/images/rpc.proto
https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    Table: TypeAlias = Mapping[str, tuple[int, "Table | None"]]  # field -> number, the fields of a nested message
    Fields: TypeAlias = dict[int, list[int | bytes]]  # number -> what came under it, in order

# enum criu_req_type
DUMP, RESTORE, PRE_DUMP, NOTIFY, FEATURE_CHECK, VERSION = 1, 2, 4, 6, 9, 10
KINDS = {1: "DUMP", 2: "RESTORE", 4: "PRE_DUMP", 6: "NOTIFY", 9: "FEATURE_CHECK", 10: "VERSION"}
# enum criu_cg_mode
CGROUP_MODES = {"": 6, "ignore": 0, "soft": 3, "full": 4, "strict": 5}


def _table(**numbers: int | tuple[int, Table]) -> Table:
    return {name: (number, None) if isinstance(number, int) else number for name, number in numbers.items()}


_OPTIONS = _table(
    images_dir_fd=1,
    pid=2,
    leave_running=3,
    ext_unix_sk=4,
    tcp_established=5,
    evasive_devices=6,
    shell_job=7,
    file_locks=8,
    log_level=9,
    log_file=10,
    ps=(11, _table(address=1, port=2)),
    notify_scripts=12,
    root=13,
    parent_img=14,
    track_mem=15,
    auto_dedup=16,
    work_dir_fd=17,
    link_remap=18,
    ext_mnt=(23, _table(key=1, val=2)),
    manage_cgroups=24,
    cg_root=(25, _table(ctrl=1, path=2)),
    rst_sibling=26,
    inherit_fd=(27, _table(key=1, fd=2)),
    manage_cgroups_mode=34,
    external=37,
    empty_ns=38,
    join_ns=(39, _table(ns=1, ns_file=2)),
    freeze_cgroup=44,
    tcp_skip_in_flight=46,
    lazy_pages=48,
    orphan_pts_master=50,
    config_file=51,
    lsm_profile=53,
    lsm_mount_context=63,
)
FEATURES = _table(mem_track=1, lazy_pages=2)
REQUEST = _table(type=1, opts=(2, _OPTIONS), notify_success=3, features=(5, FEATURES))


def encode(message: Mapping[str, object], table: Table = REQUEST) -> bytes:
    """A message as bytes: numbers, truths, texts, nested messages as mappings, and lists of them."""
    found = b""
    for name, value in message.items():
        number, nested = table[name]
        for each in value if isinstance(value, list) else [value]:
            found += _field(number, each, nested)
    return found


def _field(number: int, value: object, nested: Table | None) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value & 0xFFFFFFFFFFFFFFFF)  # a negative one as 64 bits
    if nested is not None:
        assert isinstance(value, dict)
        data = encode(value, nested)
    else:
        assert isinstance(value, str)
        data = value.encode(errors="surrogateescape")
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def decode(data: bytes) -> Fields:
    """The fields of a message: numbers, and the bytes of texts and nested messages. Raises ValueError."""
    fields: Fields = {}
    place = 0
    while place < len(data):
        key, place = _number(data, place)
        value: int | bytes
        if key & 7 == 0:
            value, place = _number(data, place)
        elif key & 7 == 2:
            length, place = _number(data, place)
            value, place = data[place : place + length], place + length
        else:
            raise ValueError(f"field {key >> 3} is of wire type {key & 7}")
        if place > len(data):
            raise ValueError("the message is cut off")
        fields.setdefault(key >> 3, []).append(value)
    return fields


def _number(data: bytes, place: int) -> tuple[int, int]:
    """The varint at `place`, and what comes after it."""
    value = shift = 0
    while place < len(data):
        value |= (data[place] & 0x7F) << shift
        shift += 7
        place += 1
        if not data[place - 1] & 0x80:
            return value, place
    raise ValueError("the message is cut off")


class Response:
    """What CRIU answers. Raises ValueError for bytes that are none."""

    def __init__(self, data: bytes) -> None:
        self._fields = decode(data)
        self.kind = self._integer(1)
        self.succeeded = bool(self._integer(2))
        self.errno = self._integer(7)
        notify = self._nested(5)
        self.script = _text(notify.get(1, [b""])[-1])
        self.pid = _plain(notify.get(2, [0])[-1])

    @property
    def features(self) -> set[str]:
        """The names of those of FEATURES that are there."""
        fields = self._nested(8)
        return {name for name, (number, _) in FEATURES.items() if fields.get(number, [0])[-1]}

    @property
    def version(self) -> int:
        """CRIU's, as it counts: 31701 is 3.17.1; a version with a commit beyond it counts as the next minor one."""
        fields = self._nested(10)
        major, minor, sublevel = (_plain(fields.get(number, [0])[-1]) for number in (1, 2, 4))
        return major * 10000 + (minor + (3 in fields)) * 100 + (0 if 3 in fields else sublevel)

    def _integer(self, number: int) -> int:
        return _plain(self._fields.get(number, [0])[-1])

    def _nested(self, number: int) -> Fields:
        value = self._fields.get(number, [b""])[-1]
        return decode(value) if isinstance(value, bytes) else {}


def _plain(value: int | bytes) -> int:
    return value if isinstance(value, int) else 0


def _text(value: int | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else ""
