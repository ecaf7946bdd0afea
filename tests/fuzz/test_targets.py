"""Whatever bytes come in, an answer or an error of ours comes out; `make fuzz` tries the same at length."""

import pytest
from fuzz.targets import BROKEN, TARGETS, tried
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.needs("root")
WORST = st.sampled_from([b"", b"\0", b"\xff" * 8, b'"', b"}", b"[" * 200, b"-1", b"99999999999999999999", b"\n", b"\x80\0\0\0\0\0\0\0\0\0\0\0"])  # fmt: skip


@st.composite
def damaged(draw, seeds):
    """One of the seeds with some pieces of it replaced, or put elsewhere."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        gone = draw(st.integers(0, 12) | st.integers(0, len(data)))
        source = draw(st.integers(0, len(data)))
        put = draw(WORST | st.binary(max_size=12) | st.just(data[source : source + 40]))
        data = data[:at] + put + data[at + gone :]
    return data


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__)
def test_whatever_comes_in_only_our_errors_come_out(target):
    for seed in TARGETS[target]:
        target(seed)
    for data in BROKEN.get(target, ()):
        tried(target, data)

    @settings(max_examples=60)
    @given(damaged(TARGETS[target]))
    def tries(data):
        tried(target, data)

    tries()
