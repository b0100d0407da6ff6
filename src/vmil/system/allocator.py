"""The C library's allocator, tuned for tensors that come and go by the hundred megabytes."""

from __future__ import annotations

import ctypes
import logging
import sys

log = logging.getLogger(__name__)

# <malloc.h> and <sys/mman.h>
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_MADV_HUGEPAGE = 14
_HUGE_PAGE = 2 * 1024 * 1024
_HEAP = 6 * 1024**3  # bytes of address space, of which only what is used becomes memory


def keep_memory() -> None:
    """Makes glibc keep freed memory, in huge pages, instead of returning it after every tensor.

    By default each large tensor is mapped, zeroed page by page by the kernel, and unmapped: on two CPU cores that took
    a third of an update's time. Linux with glibc only; elsewhere nothing is changed.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
        tuned = libc.mallopt(_M_MMAP_MAX, 0) and libc.mallopt(_M_TRIM_THRESHOLD, -1)
        if not tuned or not libc.mallopt(_M_TOP_PAD, 64 * 1024 * 1024):
            return
    except (OSError, AttributeError):
        return
    _advise_huge_pages(libc)


def _advise_huge_pages(libc: ctypes.CDLL) -> None:
    """Extends the heap by address space and asks the kernel to back it by huge pages once it is touched."""
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    block = libc.malloc(_HEAP)
    if not block:
        return
    start = -(-block // _HUGE_PAGE) * _HUGE_PAGE
    if libc.madvise(start, (block + _HEAP - start) // _HUGE_PAGE * _HUGE_PAGE, _MADV_HUGEPAGE) != 0:
        log.debug("no huge pages on this machine")
    libc.free(block)
