"""When two computations of one number count as equal: on any CPU, in any order of summation."""

import torch


def assert_equal_but_rounding(actual: torch.Tensor, expected: torch.Tensor, *, steps: float = 64) -> None:
    """Fails where a difference exceeds so many rounding steps of the largest expected value.

    An absolute tolerance holds for one size and one precision, and another instruction set sums in another order.

    Args:
        actual: What was computed.
        expected: What is right, of the same shape and type.
        steps: Rounding steps (``eps`` of the type, at the largest magnitude) that are allowed.
    """
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    step = torch.finfo(expected.dtype).eps * float(expected.detach().abs().max())
    worst = float((actual - expected).detach().abs().max())
    assert worst <= steps * step, f"{worst:.3g} apart, that is {worst / step:.1f} rounding steps; {steps} are allowed"
