"""The Triton kernels of `products.py`: two rows times a matrix `[N, K]`, alone, and as a chain in one kernel."""

# ruff: noqa: D103, N803  (a kernel's name and arguments say it)
# mypy: disable-error-code="no-untyped-def"
# Triton reads annotations, and takes none but its own.
from __future__ import annotations

import triton  # type: ignore[import-untyped,unused-ignore]
import triton.language as tl  # type: ignore[import-untyped,unused-ignore]


@triton.jit
def _fetch(w_ptr, tile, K: tl.constexpr, N: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    n = tile * BN + tl.arange(0, BN)
    return tl.load(w_ptr + n[:, None] * K + tl.arange(0, BK)[None, :], mask=(n < N)[:, None], other=0.0)


@triton.jit
def _rows(
    x_ptr,
    stride,
    w_ptr,
    tile,
    first,
    K: tl.constexpr,
    N: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """Multiply both rows by the matrix's rows of a tile; `first` is its first block, which was fetched before."""
    n = tile * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    a = tl.zeros([BN], tl.float32)
    b = tl.zeros([BN], tl.float32)
    for c in tl.static_range(K // BK):
        if c == 0:
            w = first.to(tl.float32)
        else:
            where = w_ptr + n[:, None] * K + (c * BK + k)[None, :]
            w = tl.load(where, mask=(n < N)[:, None], other=0.0).to(tl.float32)
        x = tl.load(x_ptr + c * BK + k, cache_modifier=".cg").to(tl.float32)
        y = tl.load(x_ptr + stride + c * BK + k, cache_modifier=".cg").to(tl.float32)
        a += tl.sum(w * x[None, :], axis=1)
        b += tl.sum(w * y[None, :], axis=1)
    return a, b


@triton.jit
def product(
    x_ptr,
    y_ptr,
    w_ptr,
    x_stride,
    y_stride,
    K: tl.constexpr,
    N: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    EARLY: tl.constexpr,
):
    tile = tl.program_id(0)
    n = tile * BN + tl.arange(0, BN)
    first = _fetch(w_ptr, tile, K, N, BN, BK)
    if EARLY:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    a, b = _rows(x_ptr, x_stride, w_ptr, tile, first, K, N, BN, BK)
    tl.store(y_ptr + n, a.to(y_ptr.dtype.element_ty), mask=n < N)
    tl.store(y_ptr + y_stride + n, b.to(y_ptr.dtype.element_ty), mask=n < N)


@triton.jit
def _phase(
    x_ptr,
    stride,
    y_ptr,
    w_ptr,
    pid,
    first,
    COUNT: tl.constexpr,
    K: tl.constexpr,
    N: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """One product by all programs together."""
    rounds: tl.constexpr = ((N + BN - 1) // BN + COUNT - 1) // COUNT
    for i in tl.static_range(rounds):
        tile = pid + i * COUNT
        n = tile * BN + tl.arange(0, BN)
        if i > 0:
            first = _fetch(w_ptr, tile, K, N, BN, BK)
        a, b = _rows(x_ptr, stride, w_ptr, tile, first, K, N, BN, BK)
        tl.store(y_ptr + n, a.to(y_ptr.dtype.element_ty), mask=n < N)
        tl.store(y_ptr + N + n, b.to(y_ptr.dtype.element_ty), mask=n < N)


@triton.jit
def _barrier(counter_ptr, COUNT: tl.constexpr):
    """Return when all programs are here."""
    tl.debug_barrier()
    tl.atomic_add(counter_ptr, 1, sem="acq_rel", scope="gpu")
    while tl.atomic_add(counter_ptr, 0, sem="acquire", scope="gpu") < COUNT:
        pass
    tl.debug_barrier()


@triton.jit
def whole(
    x_ptr,
    t_ptr,
    w_ptr,
    counter_ptr,
    L: tl.constexpr,
    COUNT: tl.constexpr,
    D: tl.constexpr,
    F: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    WORKS: tl.constexpr,
):
    """All layers. The first weights of a phase are fetched before the barrier that ends the phase before it."""
    pid = tl.program_id(0)
    a_ptr = t_ptr + 6 * D  # after queries, keys and values [2, 3 D]
    b_ptr = a_ptr + 2 * D
    c_ptr = b_ptr + 2 * D
    f_ptr = c_ptr + 2 * D
    w = w_ptr
    first = _fetch(w, pid, D, 3 * D, BN, BK)
    for i in range(L):
        at = counter_ptr + 6 * i
        if WORKS:
            _phase(x_ptr, D, t_ptr, w, pid, first, COUNT, D, 3 * D, BN, BK)
        w += 3 * D * D
        first = _fetch(w, pid, D, D, BN, BK)
        _barrier(at, COUNT)
        if WORKS:
            _phase(t_ptr, 3 * D, a_ptr, w, pid, first, COUNT, D, D, BN, BK)
        w += D * D
        first = _fetch(w, pid, D, D, BN, BK)
        _barrier(at + 1, COUNT)
        if WORKS:
            _phase(a_ptr, D, b_ptr, w, pid, first, COUNT, D, D, BN, BK)
        w += D * D
        first = _fetch(w, pid, D, D, BN, BK)
        _barrier(at + 2, COUNT)
        if WORKS:
            _phase(b_ptr, D, c_ptr, w, pid, first, COUNT, D, D, BN, BK)
        w += D * D
        first = _fetch(w, pid, D, F, BN, BK)
        _barrier(at + 3, COUNT)
        if WORKS:
            _phase(c_ptr, D, f_ptr, w, pid, first, COUNT, D, F, BN, BK)
        w += D * F
        first = _fetch(w, pid, F, D, BN, BK)
        _barrier(at + 4, COUNT)
        if WORKS:
            _phase(f_ptr, F, x_ptr, w, pid, first, COUNT, F, D, BN, BK)
        w += D * F
        if i + 1 < L:
            first = _fetch(w, pid, D, 3 * D, BN, BK)
        _barrier(at + 5, COUNT)
