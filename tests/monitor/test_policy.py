"""The restart table, row by row."""

import pytest

from veloci.errors import InvalidInput
from veloci.monitor.policy import Restart, again, pause


@pytest.mark.parametrize(
    ("policy", "succeeded", "failed"),
    [
        ("no", False, False),
        ("on-failure", False, True),
        ("on-failure:3", False, True),
        ("on-failure:2", False, False),
        ("always", True, True),
        ("unless-stopped", True, True),
    ],
)
def test_a_container_that_was_restarted_twice(policy, succeeded, failed):
    chosen = Restart.parse(policy)
    assert again(chosen, exit_code=0, restarts=2, by_hand=False) is succeeded
    assert again(chosen, exit_code=1, restarts=2, by_hand=False) is failed
    assert again(chosen, exit_code=1, restarts=0, by_hand=True) is False


def test_pauses_double_to_a_minute_and_begin_anew_after_ten_seconds():
    pauses, last = [], 0.0
    for _ in range(12):
        last = pause(last, uptime=0.1)
        pauses.append(last)
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert pauses[-1] == 60.0
    assert pause(60.0, uptime=10.0) == 0.1


@pytest.mark.parametrize("text", ["", "sometimes", "always:3", "on-failure:x", "on-failure:"])
def test_anything_else_is_refused(text):
    with pytest.raises(InvalidInput) as failure:
        Restart.parse(text)
    assert str(failure.value) == f"--restart: {text!r} is not a restart policy"
    assert failure.value.hint == "no, always, unless-stopped, on-failure[:n]"


def test_the_document_has_dockers_names():
    assert Restart.parse("on-failure:5").plain() == {"Name": "on-failure", "MaximumRetryCount": 5}
