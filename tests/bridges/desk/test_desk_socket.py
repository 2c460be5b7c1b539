"""The desk over a socket: other processes, strangers, and clients and desks that die in the middle."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from banel_envs.bridges import Desk, DeskClient, DeskServer
from banel_envs.bridges.desk import link
from banel_envs.errors import (
    BadTokens,
    BadValue,
    BudgetExhausted,
    DeskClosed,
    DeskFailed,
    DeskUnreachable,
    FrameBroken,
    KeyReused,
    OpenQuestion,
)
from banel_envs.files.frames import Frames
from banel_envs.meter.ledger import Ledger
from tests.bridges.desk.test_desk import Flaky, Gate, batch, sums, task_of

ROOT = Path(__file__).parents[3]
UNIX = hasattr(socket, "AF_UNIX")
ADDRESSES = [None, ("127.0.0.1", 0)]


@pytest.fixture(params=ADDRESSES, ids=["default", "port"])
def served(request):
    with Desk.open(task_of(sums), feedback="failures") as desk, DeskServer(desk, request.param) as server:
        yield desk, server


def client_of(server, **options):
    return DeskClient(server.address, server.secret, **options)


def test_another_process_asks(served):
    desk, server = served
    code = """
import sys, numpy as np
from banel_envs.bridges import DeskClient
address = sys.argv[1] if len(sys.argv) == 3 else (sys.argv[1], int(sys.argv[2]))
with DeskClient(address, sys.argv[-1] if len(sys.argv) == 3 else sys.argv[3]) as client:
    for _ in range(2):
        print(client.ask(np.array([[3, 3, 3], [0, 1, 2]]), "a").tolist(), client.left)
assert "torch" not in sys.modules
"""
    address = [server.address] if isinstance(server.address, str) else [server.address[0], str(server.address[1])]
    out = subprocess.run(
        [sys.executable, "-c", code, *address, server.secret], check=True, text=True, capture_output=True
    ).stdout
    assert out.splitlines() == ["[nan, 0.0] 98"] * 2
    assert desk.count == 2


def test_errors_arrive_as_what_they_are(served):
    desk, server = served
    with client_of(server) as client:
        client.ask(batch("333", "012"), "a")
        with pytest.raises(KeyReused, match="'a' was used"):
            client.ask(batch("012", "333"), "a")
        with pytest.raises(BadTokens, match=r"outside 0\.\.3"):
            client.ask(batch("339"), "b")
        for tokens in (np.zeros((1, 3)), np.zeros(3, int), [[1, 2]]):
            with pytest.raises(BadTokens):
                client.ask(tokens, "b")
        for key in ("", "x" * 201, None):
            with pytest.raises(BadValue):
                client.ask(batch("333"), key)
        with pytest.raises(BudgetExhausted) as refused:
            client.ask(np.zeros((99, 3), int), "b")
        assert (refused.value.asked, refused.value.left, refused.value.budget) == (99, 98, 100)
        with pytest.raises(BadValue, match="'typed'"):
            client.typed(batch("333"), "c")
        assert (client.count, client.left, client.budget) == (desk.count, desk.left, 100) == (2, 98, 100)
        assert client.state() == {
            "task": "me/Sum-v0",
            "feedback": "failures",
            "budget": 100,
            "count": 2,
            "left": 98,
            "horizon": 3,
            "vocabulary": 4,
        }
    with pytest.raises(DeskClosed):
        client.ask(batch("333"), "a")


def test_types_travel_too():
    def why(tokens):
        return np.where(sums(tokens) == 1, 0, 2)

    with Desk.open(task_of(sums, failure_type=why), feedback="typed") as desk, DeskServer(desk) as server:
        with client_of(server) as client:
            rewards, types = client.typed(batch("333", "012"), "a")
            np.testing.assert_array_equal(rewards, [np.nan, 0])
            assert types.tolist() == [0, 2]
            np.testing.assert_array_equal(client.ask(batch("333", "012"), "a"), [np.nan, 0])
        assert desk.count == 2


def test_a_reward_that_raises_is_named_and_goes_on():
    flaky = Flaky()
    with Desk.open(task_of(flaky)) as desk, DeskServer(desk) as server, client_of(server) as client:
        with pytest.raises(DeskFailed, match="raised RuntimeError: no power"):
            client.ask(batch("333"), "a")
        with pytest.raises(OpenQuestion, match="comes first"):
            client.ask(batch("000"), "b")
        flaky.broken = False
        assert client.ask(batch("333"), "a").tolist() == [1]
        assert desk.count == 1


def test_several_clients_and_threads_share_one_meter(served):
    desk, server = served
    told = []

    def ask(client, seed):
        for step in range(5):
            told.append(client.ask(batch("333"), f"step {step}"))  # all of them the same five batches
            client.ask(batch("000"), f"{seed} {step}")

    with client_of(server) as shared, client_of(server) as own:
        threads = [threading.Thread(target=ask, args=(client, k)) for k, client in enumerate((shared, shared, own))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(told) == 15 and np.isnan(told).all()
    assert desk.count == 5 + 15


def test_a_client_that_dies_in_the_middle_of_a_frame_asked_nothing(served):
    desk, server = served
    with socket.socket(link.family(server.address)) as connection:
        connection.connect(server.address)
        frames = link.frames_of(connection)
        link.greet_server(frames, server.secret.encode())
        connection.sendall(b'{"do": "ask", "key": "a", "shape": [2, 3], "bytes": 48}\n' + b"\0" * 47)
    with client_of(server) as client:
        assert client.ask(batch("000", "000"), "a").tolist() == [0, 0]
    assert desk.count == 2


@pytest.mark.skipif(not hasattr(os, "kill") or os.name == "nt", reason="no SIGKILL here")
def test_a_client_that_is_killed_while_it_waits_finds_its_answer_under_the_key():
    gate = Gate()
    with Desk.open(task_of(gate)) as desk, DeskServer(desk) as server:
        code = (
            "import sys; from banel_envs.bridges import DeskClient; "
            "DeskClient(sys.argv[1], sys.argv[2]).ask([[3, 3, 3]], 'a')"
        )
        process = subprocess.Popen([sys.executable, "-c", code, server.address, server.secret])
        assert gate.begun.wait(300)
        process.send_signal(signal.SIGKILL)
        process.wait()
        gate.go.set()
        with client_of(server) as client:
            assert client.ask([[3, 3, 3]], "a").tolist() == [1]
        assert desk.count == 1


def test_a_connection_that_breaks_is_made_again_with_the_same_key():
    gate = Gate()
    with Desk.open(task_of(gate)) as desk, DeskServer(desk) as server, client_of(server) as client:
        told = []
        thread = threading.Thread(target=lambda: told.append(client.ask(batch("333"), "a")))
        thread.start()
        assert gate.begun.wait(20)
        link.end(next(iter(server._connections)))  # the line breaks after the batch was handed in
        gate.go.set()
        thread.join(20)
        assert told[0].tolist() == [1] and desk.count == 1


def test_an_interrupted_client_does_not_take_the_old_answer_for_the_next_question(served, monkeypatch):
    _, server = served
    with client_of(server) as client:
        client.ask(batch("333"), "a")
        receive = Frames.receive

        def interrupted(self):
            if threading.current_thread() is threading.main_thread():
                raise KeyboardInterrupt
            return receive(self)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Frames, "receive", interrupted)
            client.ask(batch("333", "333"), "b")
        assert client.ask(batch("000"), "c").tolist() == [0]


@pytest.mark.skipif(not UNIX, reason="no Unix sockets here")
def test_a_desk_that_was_killed_comes_back_with_its_keys(tmp_path):
    """The process of the desk is killed with SIGKILL while the reward runs, and started again at the same address."""
    ledger, address, secret = tmp_path / "ledger.jsonl", str(tmp_path / "desk"), "a secret of this test"
    code = f"""
import sys, time, threading
from tests.bridges.desk.test_desk import sums, task_of
from banel_envs.bridges import Desk, DeskServer
def reward(tokens):
    if sys.argv[1] == "slow" and (tokens == 3).all():
        print("begun", flush=True)
        time.sleep(600)
    return sums(tokens)
with Desk.open(task_of(reward), ledger={str(ledger)!r}) as desk, DeskServer(desk, {address!r}, {secret!r}):
    print("ready", flush=True)
    sys.stdin.read()
"""

    def start(mode):
        process = subprocess.Popen(
            [sys.executable, "-c", code, mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert process.stdout.readline() == "ready\n"
        return process

    first = start("slow")
    told = []
    with DeskClient(address, secret, patience=300) as client:
        assert client.ask(batch("000"), "a").tolist() == [0]
        thread = threading.Thread(target=lambda: told.append(client.ask(batch("333"), "b")))
        thread.start()
        assert first.stdout.readline() == "begun\n"
        first.kill()
        first.communicate()
        second = start("fast")  # the socket that was left behind is no hindrance
        thread.join(300)
        assert told[0].tolist() == [1]
        assert client.ask(batch("000"), "a").tolist() == [0]
        assert client.count == 2
    second.communicate()
    assert second.returncode == 0
    assert Ledger.read(ledger).count == 2


def test_strangers_are_refused_and_hold_nobody_up(served, monkeypatch):
    desk, server = served
    with pytest.raises(DeskUnreachable, match="refuses the secret"):
        DeskClient(server.address, "another secret of a stranger").ask(batch("333"), "a")
    silent = socket.socket(link.family(server.address))
    silent.connect(server.address)  # and says nothing
    for noise in (
        b"GET / HTTP/1.1\n\n",
        b'{"nonce": 1, "proof": 2, "bytes": 0}\n',
        b'{"nonce": "", "bytes": 9}\n' + b"x" * 9,
        b'{"nonce": "\\ud800", "proof": "\\ud800", "bytes": 0}\n',
    ):
        with socket.socket(link.family(server.address)) as loud:
            loud.settimeout(20)
            loud.connect(server.address)
            loud.sendall(noise)
            heard = b""
            while piece := loud.recv(4096):
                heard += piece
            assert b"proof" not in heard  # what knows the secret says nothing to who does not
    with client_of(server) as client:
        assert client.ask(batch("000"), "a").tolist() == [0]
    silent.close()
    assert desk.count == 1


def test_who_pretends_to_be_the_desk_is_sent_nothing(tmp_path):
    listening = socket.create_server(("127.0.0.1", 0))
    heard = []

    def pretend():
        connection, _ = listening.accept()
        frames = link.frames_of(connection)
        frames.send({"desk": 1, "nonce": "00"})
        heard.append(frames.receive()[0])
        frames.send({"proof": heard[0]["proof"]})  # says back what it was told
        try:
            heard.append(frames.receive())
        except FrameBroken:
            heard.append(None)
        connection.close()

    thread = threading.Thread(target=pretend)
    thread.start()
    with pytest.raises(DeskUnreachable, match="does not know the secret itself"):
        DeskClient(listening.getsockname(), "a secret of this test").ask(batch("333"), "a")
    thread.join(20)
    assert heard[1] is None and "a secret" not in str(heard)
    listening.close()


@pytest.mark.parametrize(
    ("header", "raw", "said"),
    [
        ({"do": "ask", "key": "a", "shape": [2, 3]}, b"\0" * 24, "says that its shape"),
        ({"do": "ask", "key": "a", "shape": [-1, -3]}, b"\0" * 24, "says that its shape"),
        ({"do": "ask", "key": "a", "shape": "all"}, b"", "says that its shape"),
        ({"do": "ask", "shape": [1, 3]}, b"\0" * 24, "characters"),
        ({"do": "ask", "key": ["a"], "shape": [1, 3]}, b"\0" * 24, "characters"),
        ({"do": "stop"}, b"", "'stop'"),
        ({}, b"", "None"),
    ],
)
def test_frames_that_ask_nothing_are_answered_with_an_error(served, header, raw, said):
    desk, server = served
    with client_of(server) as client:
        with pytest.raises((BadTokens, BadValue), match=said):
            client._exchange(header, raw)
        assert client.ask(batch("000"), "a").tolist() == [0]
    assert desk.count == 1


def test_a_desk_or_server_that_is_closed_says_so():
    desk = Desk.open(task_of(sums))
    server = DeskServer(desk)
    with client_of(server, patience=0.3) as client:
        client.ask(batch("333"), "a")
        desk.close()
        with pytest.raises(DeskClosed):
            client.ask(batch("000"), "b")
        server.close()
        begun = time.monotonic()
        with pytest.raises(DeskUnreachable, match="repeat it under the same key"):
            client.ask(batch("333"), "a")
        assert 0.2 < time.monotonic() - begun < 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_client_has_a_connection_of_its_own(served):
    desk, server = served
    with client_of(server) as client:
        client.ask(batch("000"), "a")
        child = os.fork()
        if child == 0:
            right = client.ask(batch("000"), "child").tolist() == [0]
            os._exit(0 if right else 1)
        assert client.ask(batch("111"), "parent").tolist() == [0]
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.ask(batch("111"), "parent again").tolist() == [0]
    assert desk.count == 4


@pytest.mark.parametrize(
    "address", [("example.org", 80), ("0.0.0.0", 0), ("10.0.0.1", 1), 7, ("127.0.0.1",), "/tmp/" + "x" * 120]
)
def test_addresses_of_other_machines_are_refused(address):
    with pytest.raises(BadValue, match=r"address|path"):
        DeskClient(address, "a secret of this test")


def test_bad_settings(tmp_path):
    with Desk.open(task_of(sums)) as desk:
        for secret in ("short", 3, b"bytes that are long enough"):
            with pytest.raises(BadValue, match="at least 16 characters"):
                DeskServer(desk, secret=secret)
        with DeskServer(desk) as server:
            with pytest.raises(BadValue, match="no desk can listen"):
                DeskServer(desk, server.address)
            with pytest.raises(BadValue, match="patience"):
                client_of(server, patience=-1)
            with pytest.raises(BadValue, match="patience"):
                client_of(server, patience=float("nan"))
        if UNIX:
            (tmp_path / "file").write_text("mine")
            with pytest.raises(BadValue, match="no desk can listen"):
                DeskServer(desk, str(tmp_path / "file"))
            assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not UNIX or os.name == "nt", reason="no Unix sockets here")
def test_only_this_user_can_reach_the_default_address():
    with Desk.open(task_of(sums)) as desk, DeskServer(desk) as server:
        path = Path(server.address)
        assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    assert not path.parent.exists()
