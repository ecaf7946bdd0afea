"""The client's HTTP/1.1, beside h11 as the oracle: the same answers are understood, and the same refused."""

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from veloci.registry import http

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
PIECES = [
    b"HTTP/1.1 ", b"HTTP/1.0 ", b"HTTP/2.0 ", b"HTTP/1.1  ", b"HTTP/11 ", b"http/1.1 ", b"200", b"204", b"304", b"099", b"20", b"2000",
    b" OK", b" ", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\n\n", b"\0", b"\t", b"\x0b", b"\x0c", b"\xff", b"\x01", b":", b"Content-Length: ",
    b"content-length:", b"Transfer-Encoding: ", b"chunked", b"Chunked", b"gzip, chunked", b"identity", b"5", b"5, 5", b"5,6", b"+5", b"-1", b"1_0",
    b"05", b"0x5", b"9" * 21, b"0", b"a", b"A;x=y", b"5 ", b"hello", b"Connection: close", b"X y: z", b" folded", b"(x): y", b"HTTP/1.1 100 Continue\r\n\r\n",
]  # fmt: skip


def heard(data, method="GET"):
    """By h11: status, reason, headers, body and what comes after it; None for what it refuses or what is cut."""
    talk = h11.Connection(h11.CLIENT, max_incomplete_event_size=http.HEAD)
    talk.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    talk.send(h11.EndOfMessage())
    talk.receive_data(data)
    body, ended, head = b"", False, None
    try:
        while True:
            event = talk.next_event()
            if event is h11.NEED_DATA:
                if ended:
                    return None
                talk.receive_data(b"")
                ended = True
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return head.status_code, head.reason, dict(http.Headers(head.headers)), body, talk.trailing_data[0]
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.RemoteProtocolError:
        return None


def read(data, method="GET", size=None):
    """The same by ours; the bytes come in pieces of `size`."""
    size = size or len(data) or 1
    pieces = iter([data[at : at + size] for at in range(0, len(data), size)])
    have = bytearray()

    def more():
        piece = next(pieces, b"")
        have.extend(piece)
        return bool(piece)

    try:
        while True:
            while (head := http.head(have)) is None:
                if not more():
                    return None
            if head.status >= 200:
                break
            if head.status == 101:
                return None
        body = b""
        if method == "HEAD" or head.status in (204, 304):
            pass
        elif head.chunked:
            chunks = http.Chunked(have)
            while (piece := chunks.read(3)) != b"":
                if piece is not None:
                    body += piece
                elif not more():
                    return None
        elif head.length is not None:
            while len(have) < head.length:
                if not more():
                    return None
            body = bytes(have[: head.length])
            del have[: head.length]
        else:
            while more():
                pass
            body = bytes(have)
            have.clear()
    except ValueError:
        return None
    while more():
        pass
    return head.status, head.reason.encode("latin-1"), dict(head.headers), body, bytes(have)


def same(ours, theirs):
    """h11 keeps a length's zeros, and writes a coding in small letters."""
    for _, _, headers, *_ in filter(None, (ours, theirs)):
        headers |= {"content-length": int(headers.get("content-length", "0"))}
        headers |= {"transfer-encoding": headers.get("transfer-encoding", "").lower()}
    return ours == theirs


NAMES = [b"Content-Length", b"content-length", b"Transfer-Encoding", b"Connection", b"X", b"", b"a b", b"(", b" X"]
VALUES = [b"5", b"+5", b"-1", b"5, 5", b"5,6", b"1_0", b"05", b"0x5", b"9" * 21, b"\xb2", b"0", b"chunked", b"CHUNKED", b"gzip", b"a\tb", b"a\0", b"a\rb", b"\xff", b"\x01", b""]  # fmt: skip
SIZES = [b"5", b"0", b"A", b"5;x", b"5 ", b" 5", b"5 ;x", b"-5", b"+5", b"0x5", b"g", b"", b"0" * 21, b"5;\n"]
ends = st.sampled_from([b"\r\n"] * 6 + [b"\n", b"\r", b""])
fields = st.tuples(st.sampled_from(NAMES), st.sampled_from([b": ", b":", b" :", b"\t"]), st.sampled_from(VALUES), ends)
bodies = st.one_of(
    st.sampled_from([b"", b"hello", b"hello and more"]),
    st.lists(
        st.tuples(st.sampled_from(SIZES), ends, st.sampled_from([b"hello", b"", b"hellooooooo"]), ends), max_size=3
    ).map(lambda chunks: b"".join(map(b"".join, chunks))),
)
answers = st.one_of(
    st.tuples(
        st.sampled_from([OK, b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 204\n"]), st.lists(fields, max_size=2), ends, bodies
    ).map(lambda parts: parts[0] + b"".join(map(b"".join, parts[1])) + parts[2] + parts[3]),
    st.tuples(bodies, bodies).map(lambda parts: CHUNKED + b"".join(parts)),
    st.binary(max_size=60),
    st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join),
    st.lists(st.sampled_from(PIECES), max_size=9).map(lambda pieces: OK + b"".join(pieces)),
    st.lists(st.sampled_from(PIECES), max_size=9).map(lambda pieces: CHUNKED + b"".join(pieces)),
)


@given(answers, st.sampled_from(["GET", "HEAD"]), st.integers(1, 9))
@settings(max_examples=600, deadline=None)
def test_answers_are_read_as_h11_reads_them(data, method, size):
    assert same(read(data, method, size), heard(data, method)), (read(data, method), heard(data, method))
    assert read(data, method, size) == read(data, method)


HARD = [
    *(OK + b"Content-Length: " + value + b"\r\n\r\nhello more" for value in VALUES),
    *(OK + b"Transfer-Encoding: " + value + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n" for value in VALUES),
    *(OK + b"X: " + value + b"\r\n\r\n" for value in VALUES),
    *(OK + name + b": 5\r\n\r\nhello" for name in NAMES),
    *(CHUNKED + size + b"\r\nhello\r\n0\r\n\r\nmore" for size in SIZES),
    *(b"HTTP/1.1 " + status + b"\r\n\r\n" for status in (b"200", b"200 ", b"200OK", b"99 x", b"099 x", b"1000", b"2 00", b"200 a\tb", b"200 \0", b"204\r")),
    OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    OK + b"Content-Length: 5, 5\r\nContent-Length: 5\r\n\r\nhello more",
    OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    CHUNKED + b"5;x=y\r\nhello\r\n0\r\nX: y\r\n\r\nmore",
    CHUNKED + b"5\r\nhello\n0\r\n\r\n",
    CHUNKED + b"5\r\nhello0\r\n\r\n",
    CHUNKED + b"5\nhello\r\n0\r\n\r\n",
    CHUNKED + b"0\r\nContent-Length: x\r\n\r\n",
    CHUNKED + b"0\r\n no header\r\n\r\n",
    CHUNKED + b"5\r\nhelloXX0\r\n\r\n",
    CHUNKED + b"0" * 21 + b"\r\n\r\n",
    CHUNKED + b"0\n\n",
    CHUNKED + b"0\r\n\nmore",
    b"HTTP/1.1 099 x\r\n\r\nHTTP/1.1 204\r\n\r\n",
    OK + b"A: b\r\n  c\r\n\td\r\n\r\n",
    OK + b" b\r\n\r\n",
    b"HTTP/1.1 200\r\nA:\r\n\r\n",
    b"HTTP/1.1 200 OK\nA: b\n\nall of it",
    b"HTTP/1.1 103 Hints\r\nA: b\r\n\r\nHTTP/1.1 204\r\n\r\nmore",
    b"HTTP/1.1 101 Switching\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_hard_answers_are_read_as_h11_reads_them(method):
    for data in HARD:
        assert same(read(data, method), heard(data, method)), (data, read(data, method), heard(data, method))
        assert read(data, method, 1) == read(data, method)


texts = st.text(st.sampled_from("aA-:/ \t\r\n\0\x01\x7fü(%"), max_size=5)


@given(texts, texts, st.dictionaries(texts, texts, max_size=2))
@settings(max_examples=400, deadline=None)
@example("GET", "/v2/", {"Accept": "a, b"})
@example("GET", "/a", {"X": " y"})
def test_requests_are_written_as_h11_writes_them(method, target, headers):
    said = {"Host": "x", **headers}
    try:
        request = h11.Request(method=method, target=target, headers=list(said.items()))
        theirs = h11.Connection(h11.CLIENT).send(request)
    except (h11.LocalProtocolError, UnicodeError):
        theirs = None
    try:
        ours = http.request(method, target, said)
    except ValueError:
        ours = None
    assert ours == theirs


@pytest.mark.parametrize("data", [b"\x15\x03\x01\x00\x02\x02\x16", b"SSH-2.0-x\r\n", b"\r\n", b"HTTQ"])
def test_what_cannot_become_an_answer_is_refused_at_once(data):
    with pytest.raises(ValueError, match="no status line"):
        http.head(bytearray(data))
