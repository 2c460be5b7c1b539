"""exp, log and sums whose bits are the same on every processor, with the compiled kernel and without it.

What stands between the generator of random numbers and a question must not depend on the processor: a replay elsewhere
would ask other questions. NumPy's exp and log take other instructions where a processor has them, and their last bits
differ. These take additions, products and divisions only, which are rounded in one way everywhere. Without the kernel the
same operations are done in NumPy, one after the other.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_envs import kernel

Floats = NDArray[np.float64]

ROUNDING = 6755399441055744.0  # 1.5 x 2^52: a number below 2^51 plus this has no digits behind the point
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10


@cache
def _functions() -> tuple[Any, Any] | None:
    library = kernel.library()
    if library is None:
        return None
    found = getattr(library, f"banel_exp_{library.banel_lanes()}"), library.banel_log
    for function in found:
        function.argtypes, function.restype = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p), None
    return found


def exp(x: Any) -> Floats:
    """Exp of every number, within one unit in the last place."""
    return _computed(0, x)


def log(x: Any) -> Floats:
    """The natural logarithm of every number, within one unit in the last place: -inf of 0, NaN below it."""
    return _computed(1, x)


def _computed(which: int, given: Any) -> Floats:
    x: Floats = np.ascontiguousarray(given, np.float64).reshape(
        np.shape(given)
    )  # ascontiguousarray makes a number an array of one
    functions = _functions()
    if functions is None:
        return log_in_numpy(x) if which else exp_in_numpy(x)
    out: Floats = np.empty_like(x)
    functions[which](x.ctypes.data, x.size, out.ctypes.data)
    return out


def total(values: Floats) -> Floats:
    """The sum over the last axis [..., n] -> [...], added one after the other."""
    if values.shape[-1] == 0:
        return np.zeros(values.shape[:-1])
    added: Floats = np.add.accumulate(values, axis=-1)[..., -1]
    return added


def exp_in_numpy(x: Floats) -> Floats:
    """The operations of the kernel's exp, in NumPy. Source: fdlibm's e_exp.c."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        x = np.clip(x, -746.0, 710.0)
        k = (x * 1.44269504088896338700e00 + ROUNDING) - ROUNDING
        high, low = x - k * LN2_HIGH, k * LN2_LOW
        r = high - low
        t = r * r
        c = t * 4.13813679705723846039e-08 - 1.65339022054652515390e-06
        c = t * c + 6.61375632143793436117e-05
        c = t * c - 2.77777777770155933842e-03
        c = t * c + 1.66666666666666019037e-01
        c = r - t * c
        y = 1 - ((low - (r * c) / (2 - c)) - high)
        first = (k * 0.5 + ROUNDING) - ROUNDING
        # Two factors, because 2^k itself may be too large or too small where the result is not.
        result: Floats = y * np.ldexp(1.0, _whole(first)) * np.ldexp(1.0, _whole(k - first))
        return result


def log_in_numpy(x: Floats) -> Floats:
    """The operations of the kernel's log, in NumPy. Source: fdlibm's e_log.c."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        m, k = np.frexp(x)  # x = m 2^k, m from 1/2 to 1
        below = m * 2 <= 1.4142135623730949  # so that the fraction lies between sqrt(1/2) and sqrt(2)
        f, n = np.where(below, m * 2, m) - 1, k - below.astype(np.float64)
        s = f / (2 + f)
        z = s * s
        w = z * z
        even = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01))
        odd = z * (
            6.666666666666735130e-01
            + w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01))
        )
        half = 0.5 * f * f
        result = n * LN2_HIGH - ((half - (s * (half + (odd + even)) + n * LN2_LOW)) - f)
        result = np.where(x == np.inf, np.inf, np.where(x == 0, -np.inf, result))
        return np.where(x >= 0, result, np.nan)


def _whole(x: Floats) -> NDArray[np.int32]:
    return np.nan_to_num(x).astype(np.int32)
