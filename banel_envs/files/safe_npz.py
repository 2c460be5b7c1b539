"""An .npz file without trust: numpy's own reader makes room for whatever a header claims, before it looks for the data.

A zip bomb unpacks a thousand times its size, and a header of 100 bytes may claim 10^15 numbers. Here the sizes that the
file claims are added up first, no member is unpacked further than it claims, and an array is exactly the bytes that are there.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_envs.files.visible import shown, visible

MOST_MEMBERS = 1_000
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def tables(content: bytes, most: int) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by name, of at most `most` bytes together; no object is unpickled.

    Raises:
        ValueError: it is no such file, or claims more than there is.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            members = file.infolist()
            names = [member.filename for member in members]
            if len(names) > MOST_MEMBERS or len(set(names)) != len(names):
                raise ValueError(f"it has {len(names):,} members, {len(set(names)):,} of them different")
            size = sum(member.file_size for member in members)
            if size > most:
                raise ValueError(f"it has {size:,} bytes when it is unpacked; at most {most:,} are read")
            return {member.filename.removesuffix(".npy"): _array(file, member) for member in members}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"it is no .npz file: {error}") from error


def _array(file: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with file.open(member) as opened:  # gives no more bytes than the member claims, and checks their sum
        stream = io.BytesIO(opened.read())
    try:
        version = np.lib.format.read_magic(stream)
        if version not in _HEADERS:
            raise ValueError(f"it is of version {version}")
        shape, fortran, dtype = _HEADERS[version](stream)  # a literal of at most 10,000 characters
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{shown(member.filename)} has no header of an array: {visible(str(error), 200)}") from error
    data = stream.getbuffer()[stream.tell() :]
    if dtype.hasobject or dtype.names is not None:
        raise ValueError(f"{shown(member.filename)} holds {shown(str(dtype))}; only plain numbers and texts are read")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"{shown(member.filename)} claims {dtype} {shown(list(shape))} and has {len(data):,} bytes")
    if not len(data):
        return np.empty(shape, dtype)
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
