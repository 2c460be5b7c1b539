"""What every compiled step is given: checked before the kernel reads it, and each input of the first layer only once."""

from __future__ import annotations

import numpy as np

from banel_envs.errors import BadTokens, BadValue
from banel_envs.policies.autoregressive import Ints


def checked(last: Ints, prefixes: int, position: int, written: int, horizon: int) -> Ints:
    """The tokens `last` [m] as the kernel reads them.

    Args:
        last: the token before `position` of each prefix.
        prefixes: how many prefixes the state has.
        position: which token the step predicts.
        written: how many tokens each prefix of the state has, the begin token included.
        horizon: the length of a whole sequence.

    Raises:
        BadTokens: the tokens are not integers, or not as many as the prefixes.
        BadValue: the state is at another position, or the sequence is whole.
    """
    last = np.asarray(last)
    if last.shape != (prefixes,) or last.dtype.kind not in "iu":
        raise BadTokens(f"tokens are {last.dtype} {list(last.shape)}; the state takes integers [{prefixes}]")
    if position != written or position >= horizon:
        raise BadValue(f"step at position {position} of a state at {written}; the horizon is {horizon}")
    return np.ascontiguousarray(last, np.int64)


def distinct(last: Ints, vocabulary: int) -> tuple[Ints, Ints]:
    """The inputs to compute and, for each prefix [m], which of them is its own.

    Only vocabulary + 1 different inputs exist at one position, so where there are more prefixes each is computed once.
    """
    if len(last) > vocabulary + 1:
        return np.arange(vocabulary + 1), last
    return last, np.arange(len(last))


def unknown_token(token: int, position: int, vocabulary: int) -> BadTokens:
    """The error for a token that the kernel has refused."""
    return BadTokens(f"token {token} before position {position}; tokens are 0..{vocabulary}, the begin token last")
