"""Settings of a process that trains."""

import ctypes
import sys

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)


def settle(threads: int) -> None:
    """Torch threads, and an allocator that keeps a step's buffers for the next step.

    glibc hands large blocks back to the kernel and faults them in anew at each step; keeping them is worth 10-19 %.
    """
    torch.set_num_threads(threads)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(_M_MMAP_THRESHOLD, 1 << 25)  # the largest that glibc takes
            libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
