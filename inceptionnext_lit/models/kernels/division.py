"""Division of positions by the sides of a map, by a multiplication.

A GPU has no instruction for the division of integers: by a number that the compiler does not know, it takes about
thirty others. The compiler does not know the sides, since each size of a map would need kernels of its own then.
"""

import triton
import triton.language as tl


@triton.jit
def divide(q, divider):
    """Divide positions below 2^31 by the number that :func:`divider_of` was called with."""
    reciprocal = (divider >> 5).to(tl.uint32)
    shift = (divider & 31).to(tl.uint32)
    return (tl.umulhi(q.to(tl.uint32) << 1, reciprocal) >> shift).to(tl.int32)


def divider_of(number: int) -> int:
    """Return what :func:`divide` needs to divide by a number: its reciprocal in 32 bits, rounded up, and an exponent.

    The quotients are exact (Granlund and Montgomery, 1994, Theorem 4.2).

    Args:
        number: 1 or more, below 2^31.
    """
    shift = (number - 1).bit_length()
    return (-(-(1 << (31 + shift)) // number) << 5) + shift
