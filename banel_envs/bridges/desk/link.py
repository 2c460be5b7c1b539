"""What both ends of a desk's socket share: the address, the proof that the other side knows the secret, and the errors.

Nothing that comes over the socket is unpickled: frames are JSON and raw arrays (banel_envs.files.frames). Before anything is
asked, each side proves that it knows the secret, without sending it: HMAC-SHA256 of two fresh random numbers, the server's
and the client's. Neither side can be fooled by a recording. What follows is not encrypted, so an address is a Unix socket or
a port of this machine.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import os
import secrets
import socket
from typing import Any, TypeAlias

from banel_envs.errors import (
    AnswersPending,
    BadReward,
    BadTokens,
    BadValue,
    BanelError,
    BudgetExhausted,
    DeskClosed,
    DeskFailed,
    DeskTimeout,
    DeskUnreachable,
    FrameBroken,
    KeyReused,
    LedgerWriteError,
    OpenQuestion,
    OracleBusy,
)
from banel_envs.files.frames import Frames

Address: TypeAlias = str | tuple[str, int]
"""The path of a Unix socket, or (host, port) with a host of this machine."""

VERSION = 1  # of what is said over the socket
GREETING = 1024  # bytes of a header while the other side is a stranger
HEADER = 2**16  # bytes of a header afterwards
RAW = 2**28  # bytes of a batch: a million sequences of 32 tokens
SHORTEST_SECRET = 16  # characters
LONGEST_PATH = 100  # bytes in the path of a Unix socket; systems allow 104 to 108

# Errors that a client may meet as what they are. Each is made of its message alone.
_SAME: dict[str, type[BanelError]] = {
    kind.__name__: kind
    for kind in (
        AnswersPending,
        BadReward,
        BadTokens,
        BadValue,
        DeskClosed,
        DeskTimeout,
        KeyReused,
        LedgerWriteError,
        OpenQuestion,
        OracleBusy,
    )
}


def check_address(address: object) -> Address:
    """The address; BadValue unless it is a path that fits, or a port of this machine."""
    if isinstance(address, str | os.PathLike):
        path = os.fspath(address)
        if not isinstance(path, str) or not hasattr(socket, "AF_UNIX"):
            raise BadValue(
                f"{address!r} names a Unix socket, which this system lacks; give ('127.0.0.1', 0) for a free port"
            )
        if len(os.fsencode(path)) > LONGEST_PATH:
            raise BadValue(
                f"the path {path!r} has more than {LONGEST_PATH} bytes, which no Unix socket can have; take a shorter one"
            )
        return path
    match address:
        case (str(host), int(port)) if host == "localhost" or _loops_back(host):
            return host, port
    raise BadValue(
        f"the address is {address!r}; it is the path of a Unix socket or (host, port) with a host of this machine such as "
        f"'127.0.0.1': what is said is not encrypted, so use a tunnel to reach another machine"
    )


def _loops_back(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_secret(secret: object) -> bytes:
    """The secret as bytes; BadValue for one that could be guessed."""
    if not isinstance(secret, str) or len(secret) < SHORTEST_SECRET:
        raise BadValue(
            f"the secret must be a text of at least {SHORTEST_SECRET} characters; DeskServer.secret is the one to give"
        )
    return secret.encode()


def family(address: Address) -> int:
    """The family of sockets of an address."""
    if isinstance(address, str):
        return int(socket.AF_UNIX)
    return int(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)


def frames_of(connection: socket.socket) -> Frames:
    """Frames over a connection to a stranger: short ones, until it has proved who it is."""
    return Frames(connection.makefile("rb"), _Sender(connection), header=GREETING, raw=0)


class _Sender:
    """Writes to a connection without a buffer, so that nothing is left to be written once it broke."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def write(self, content: bytes) -> None:
        self._connection.sendall(content)

    def flush(self) -> None:
        """Do nothing: everything has been sent."""


def end(connection: socket.socket) -> None:
    """Close a connection at once, also where something still refers to its streams."""
    with contextlib.suppress(OSError):  # it has ended by itself
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def greet_client(frames: Frames, secret: bytes) -> bool:
    """The server's side of the greeting: whether the client knows the secret."""
    ours = secrets.token_hex(32)
    frames.send({"desk": VERSION, "nonce": ours})
    theirs, _ = frames.receive()
    nonce, proof = theirs.get("nonce"), theirs.get("proof")
    if not (isinstance(nonce, str) and isinstance(proof, str) and _same(proof, _proof(secret, "client", ours, nonce))):
        frames.send({"refused": "the secret is not this desk's"})
        return False
    frames.send({"proof": _proof(secret, "server", ours, nonce)})
    frames.header, frames.raw = HEADER, RAW
    return True


def greet_server(frames: Frames, secret: bytes) -> None:
    """The client's side of the greeting; DeskUnreachable where either side refuses the other."""
    hello, _ = frames.receive()
    if hello.get("desk") != VERSION or not isinstance(hello.get("nonce"), str):
        raise DeskUnreachable(f"what answers there is no desk of version {VERSION}")
    ours = secrets.token_hex(32)
    frames.send({"nonce": ours, "proof": _proof(secret, "client", hello["nonce"], ours)})
    answer, _ = frames.receive()
    if not isinstance(answer.get("proof"), str):
        raise DeskUnreachable("the desk refuses the secret; give the client DeskServer.secret")
    if not _same(answer["proof"], _proof(secret, "server", hello["nonce"], ours)):
        raise DeskUnreachable("what answers there does not know the secret itself; nothing was sent to it")
    frames.header, frames.raw = HEADER, RAW


def _proof(secret: bytes, who: str, of_server: str, of_client: str) -> str:
    said = f"banel desk {VERSION} {who} {of_server} {of_client}"
    return hmac.new(secret, _bytes(said), "sha256").hexdigest()


def _same(proof: str, expected: str) -> bool:
    return hmac.compare_digest(_bytes(proof), _bytes(expected))


def _bytes(said: str) -> bytes:
    return said.encode(errors="surrogatepass")  # a stranger may send half of a surrogate pair


def told(error: BaseException) -> dict[str, Any]:
    """An error as the header of a frame."""
    if isinstance(error, BudgetExhausted):
        return {"error": "BudgetExhausted", "about": [error.asked, error.left, error.budget]}
    return {"error": type(error).__name__, "message": str(error)[:2000]}


def raised(header: dict[str, Any]) -> BanelError:
    """The error that a frame tells of."""
    try:
        name, message = header["error"], header.get("message", "")
        if name == "BudgetExhausted":
            return BudgetExhausted(*map(int, header["about"]))
        kind = _SAME.get(name)
        return kind(message) if kind else DeskFailed(f"the oracle behind the desk raised {name}: {message}; ask again")
    except (LookupError, TypeError, ValueError) as error:
        return FrameBroken(f"the desk answered {header!r}, which is no error: {error}")
