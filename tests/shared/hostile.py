"""What the tests of hostile files share: things that are no files, a limit on time and memory, and changes to JSON."""

from __future__ import annotations

import os
import signal
import socket
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st


@contextmanager
def within(seconds: float = 20.0, megabytes: float | None = None) -> Iterator[None]:
    """The body ends in time (it is interrupted if not) and allocates no more memory than that at once."""

    def late(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    if megabytes is not None:
        tracemalloc.start()
    try:
        yield
        if megabytes is not None:
            assert tracemalloc.get_traced_memory()[1] < megabytes * 1e6
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        tracemalloc.stop()


def _socket(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)  # a socket's address may have 108 characters
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def _link(path: Path) -> None:
    target = path.with_name("target")
    target.write_bytes(path.read_bytes() if path.exists() else b"{}")
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(5 * 2**30)


ODD: dict[str, tuple[Callable[[Path], None], str]] = {
    "pipe": (os.mkfifo, "is a pipe"),
    "folder": (Path.mkdir, "is a folder"),
    "socket": (_socket, "is a socket"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a link"),
    "dangling link": (lambda path: path.symlink_to("nowhere"), "is a link"),
    "link to itself": (lambda path: path.symlink_to(path.name), "is a link"),
    "link": (_link, "is a link"),
    "5 GB": (_sparse, "has 5,368,709,120 bytes; at most"),
}
"""What may stand where a file should: how it is made, and what is said of it."""


def put(path: Path, odd: str) -> str:
    """Put it in the place of a file; what a refusal says of it."""
    make, says = ODD[odd]
    if odd != "link":
        path.unlink(missing_ok=True)
    make(path)
    return says


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(
        [0, 1, -1, 2**31, 2**40, 2**63, 10**30, -(10**30), 0.5, -0.0, 1e-320, 1e308, -1e308, "", "x" * 3_000]
    ),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(
        ["\u202etxt", "\x1b[2J", "\x00", "a\nb", "$x^2$", "<b>", "`|[a](b)", "../../etc/passwd", "os:abort"]
    ),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where values stand in JSON."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        yield from places(inner, (*path, key))


def changed(data: Any, value: Any) -> Any:
    """A copy of JSON with one to three of its values replaced, removed, added or repeated, as hypothesis draws it."""
    import copy

    value = copy.deepcopy(value)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from([p for p in places(value) if p]))
        holder = value
        for key in path[:-1]:
            holder = holder[key]
        match data.draw(st.sampled_from(["replace", "replace", "remove", "add", "repeat"])):
            case "replace":
                holder[path[-1]] = data.draw(ANYTHING)
            case "remove":
                del holder[path[-1]]
            case "add" if isinstance(holder, dict):
                holder[data.draw(st.text(max_size=10))] = data.draw(ANYTHING)
            case "repeat" if isinstance(holder, list):
                holder.extend([holder[path[-1]]] * data.draw(st.integers(1, 400)))
            case _:
                holder[path[-1]] = data.draw(ANYTHING)
        if not any(p for p in places(value) if p):
            break
    return value
