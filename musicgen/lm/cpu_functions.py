"""The exponential and GELU, lane by lane, in the words of `machine_code.py`. Import it only to compile."""

from __future__ import annotations

from .machine_code import Code, Value


def exponential(code: Code, x: Value) -> Value:
    """e^x for x <= 0 (Cephes' expf); below -87 it is e^-87, and NaN stays."""
    x = (x < -87.0).then(x.like(-87.0), x)
    shifted = code.fused(x, x.like(1.44269504), x.like(12582912.0))
    whole = shifted - 12582912.0
    r = code.fused(whole, x.like(-0.693359375), x)
    r = code.fused(whole, x.like(2.12194440e-4), r)
    p = x.like(1.9875691500e-4)
    for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        p = code.fused(p, r, x.like(c))
    return code.fused(p, r * r, r + 1.0) * code.power_of_two(shifted)


def _error_function(code: Code, x: Value) -> Value:
    """erf(x), off by less than a unit of the last place: two polynomials that meet at 0.93."""
    t, square = code.absolute(x), x * x
    far = code.fused(x.like(-1.72853470e-5), t, x.like(3.83197126e-4))
    far = code.fused(far, square, code.fused(x.like(-3.88396438e-3), t, x.like(2.42546219e-2)))
    for c in (-1.06777877e-1, -6.34846687e-1, -1.28717512e-1):
        far = code.fused(far, t, x.like(c))
    far = code.fused(far, t, x.like(0.0) - t)
    far = code.with_sign(x.like(1.0) - exponential(code, far), x)
    near = x.like(-5.96761703e-4)
    for c in (4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1, 1.28379166e-1):
        near = code.fused(near, square, x.like(c))
    return (x.like(0.927734375) < t).then(far, code.fused(near, x, x))


def gelu(code: Code, x: Value) -> Value:
    """GELU by the error function."""
    half = x * 0.5
    return code.fused(half, _error_function(code, x * 0.70710678), half)
