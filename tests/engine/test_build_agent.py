"""RUN --mount=type=ssh's sockets."""

import socket
import stat
import threading
from contextlib import closing

import pytest

from veloci.engine.build_agent import Agents, agents
from veloci.errors import InvalidInput, NotFound, Unsupported


def test_what_a_step_says_reaches_the_agent_and_its_answer_comes_back(tmp_path):
    deep = tmp_path / ("d" * 120)
    deep.mkdir()

    def serve(listener):
        for _ in range(2):
            client, _ = listener.accept()
            with client:
                client.sendall(b"got " + client.recv(100))

    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(tmp_path / "agent"))
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        relayed = Agents({"default": str(tmp_path / "agent")}).listening("default", str(deep / "s"))
        with relayed:
            assert stat.S_ISSOCK((deep / "s").stat().st_mode)
            (tmp_path / "short").symlink_to(deep)
            for word in (b"one", b"two"):
                with closing(socket.socket(socket.AF_UNIX)) as client:
                    client.connect(str(tmp_path / "short/s"))
                    client.sendall(word)
                    assert client.recv(100) == b"got " + word
        thread.join()
    assert not (deep / "s").exists()


def test_an_agent_is_named_by_its_socket(tmp_path, monkeypatch):
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(tmp_path / "agent"))
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        assert agents(["default", f"other={tmp_path}/agent"]) == dict.fromkeys(
            ("default", "other"), f"{tmp_path}/agent"
        )
    assert Agents({}).listening("default", "/nowhere") is None
    (tmp_path / "key").write_text("secret")
    with pytest.raises(Unsupported, match=r"/key is no agent's socket$"):
        agents([f"default={tmp_path}/key"])
    with pytest.raises(InvalidInput, match=r"^--ssh: '=x' has no id$"):
        agents(["=x"])
    monkeypatch.delenv("SSH_AUTH_SOCK")
    with pytest.raises(NotFound, match=r"^--ssh: no SSH agent: SSH_AUTH_SOCK is not set$"):
        agents(["default"])
