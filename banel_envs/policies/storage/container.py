"""Read the safetensors file of a policy. The file is not trusted: its header is checked before an array is made.

    8 bytes    length of the header, little-endian
    header     JSON: {"__metadata__": {"policy": STRUCTURE}, NAME: {"dtype", "shape", "data_offsets"}, ...}
    data       the arrays, one after the other, without a gap

The checks are stricter than the format: the JSON has one meaning, there are four dtypes, and every byte belongs to one
array. No memory is allocated beyond what is in the file. Source: https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_envs.files import strict_json
from banel_envs.files.visible import shown

Arrays = dict[str, NDArray[Any]]

# Weights are F32, sequences are I64, an ONNX model is U8, and the empty array of a policy without arrays is F64.
DTYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "U8": "|u1"}
MOST_HEADER = 2**22  # bytes; the header of a mixture of 1,000 transformers with 30 arrays each has 3 million
MOST_AXES = 8
METADATA = "__metadata__"


def split(content: bytes) -> tuple[Any, Arrays]:
    """A policy's structure, and its arrays as views of the content.

    Raises:
        ValueError: the content is not such a file. The message gives what the header says and what is there.
    """
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or size > len(content) - 8:
        raise ValueError(f"it has {len(content):,} bytes and claims a header of {size:,}")
    if size > MOST_HEADER:
        raise ValueError(f"its header has {size:,} bytes; at most {MOST_HEADER:,} are read")
    header = strict_json.loads(content[8 : 8 + size])
    if not isinstance(header, dict):
        raise ValueError("its header is not a table")
    metadata = header.pop(METADATA, None)
    if not isinstance(metadata, dict) or list(metadata) != ["policy"] or not isinstance(metadata["policy"], str):
        raise ValueError("its metadata is not one policy")
    return strict_json.loads(metadata["policy"]), _arrays(header, memoryview(content)[8 + size :])


def _arrays(header: dict[str, Any], data: memoryview) -> Arrays:
    """The arrays, one after the other until the data ends."""
    found: Arrays = {}
    at = 0
    for name, claim in sorted(header.items(), key=lambda item: _offsets(*item)):
        start, end = _offsets(name, claim)
        dtype, shape = claim["dtype"], claim["shape"]
        if dtype not in DTYPES:
            raise ValueError(f"{shown(name)} is of the type {shown(dtype)}; a policy has {', '.join(DTYPES)}")
        # Without gaps and overlaps no array can be read twice, and nothing can hide between two arrays.
        if start != at or end > len(data):
            raise ValueError(f"{shown(name)} claims bytes {start:,} to {end:,}; {at:,} of {len(data):,} come next")
        if math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize != end - start:
            raise ValueError(f"{shown(name)} claims the shape {shown(shape)} in {end - start:,} bytes of {dtype}")
        found[name] = np.frombuffer(data[start:end], DTYPES[dtype]).reshape(shape)
        at = end
    if at != len(data):
        raise ValueError(f"{len(data) - at:,} bytes belong to no array")
    return found


def _offsets(name: str, claim: Any) -> tuple[int, int]:
    """The first byte of an array and the byte after its last; ValueError if the header describes the array in another way."""
    if not isinstance(claim, dict) or claim.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{shown(name)} is not described by dtype, shape and data_offsets")
    offsets, shape = claim["data_offsets"], claim["shape"]
    # 2**48 is far above any file. The limit keeps the product of the shape, which is computed later, from growing huge.
    numbers = [*offsets, *shape] if isinstance(offsets, list) and isinstance(shape, list) else [None]
    if len(numbers) > 2 + MOST_AXES or not all(type(number) is int and 0 <= number < 2**48 for number in numbers):
        raise ValueError(f"{shown(name)} has the shape {shown(shape)} at {shown(offsets)}")
    if len(offsets) != 2 or not isinstance(claim["dtype"], str):
        raise ValueError(f"{shown(name)} has the type {shown(claim['dtype'])} at {shown(offsets)}")
    return offsets[0], offsets[1]
