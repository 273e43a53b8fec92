"""The sixteen bytes that name the program image: PROTOCOL.md, "The program image"."""

from __future__ import annotations

import os
import struct
from typing import Optional

from ._lazy import imports

AT_RANDOM = 25
AT_SECURE = 23
_MASK = (1 << 64) - 1


def image() -> bytes:
    """The name of this program image. Every copy of every client library in the process finds the same."""
    at_random = _at_random()
    if at_random is None:
        return struct.pack("<I12x", os.getpid())
    return mix(at_random)


def mix(at_random: bytes) -> bytes:
    """Makes the name from the kernel's bytes, which cannot be computed from it: the first of them are the stack canary.

    Example:
        >>> mix(bytes(range(16))).hex()
        'a132ee11bc216ea1dc122832994f0804'
    """
    words = (_siphash(at_random, text) for text in (b"sundown image, 1", b"sundown image, 2"))
    return struct.pack("<QQ", *words)


def is_secure() -> bool:
    """Whether the kernel has raised the privileges of this program image, as by set-user-id (`AT_SECURE`)."""
    return bool(_auxiliary(AT_SECURE))


def _auxiliary(kind: int) -> int:
    """An entry of the auxiliary vector; 0 if it has none, or cannot be read."""
    try:
        with open("/proc/self/auxv", "rb") as file:
            pairs = file.read()
    except OSError:
        return _getauxval(kind)
    size = struct.calcsize("@LL")
    entries = struct.iter_unpack("@LL", pairs[: len(pairs) // size * size])
    return next((value for key, value in entries if key == kind), 0)


def _getauxval(kind: int) -> int:
    try:
        with imports:
            import ctypes

        getauxval = ctypes.CDLL(None).getauxval
        getauxval.restype, getauxval.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
        return int(getauxval(kind))
    except (ImportError, AttributeError, OSError):
        return 0


def _at_random() -> Optional[bytes]:
    """The kernel's bytes. /proc/self/auxv cannot be read where the process is not dumpable, so `getauxval` is asked first."""
    address = _getauxval(AT_RANDOM)
    if address:
        with imports:
            import ctypes

        return ctypes.string_at(address, 16)
    # Without ctypes the memory is read as a file.
    address = _auxiliary(AT_RANDOM)
    try:
        with open("/proc/self/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            found = memory.read(16)
    except (OSError, ValueError):
        return None
    return found if address and len(found) == 16 else None


def _siphash(key: bytes, text: bytes) -> int:
    """SipHash-2-4 of sixteen bytes."""
    k0, k1 = struct.unpack("<QQ", key)
    v0, v1, v2, v3 = k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573

    def rounds(number: int) -> None:
        nonlocal v0, v1, v2, v3
        for _ in range(number):
            v0 = (v0 + v1) & _MASK
            v1 = _turn(v1, 13) ^ v0
            v0 = _turn(v0, 32)
            v2 = (v2 + v3) & _MASK
            v3 = _turn(v3, 16) ^ v2
            v0 = (v0 + v3) & _MASK
            v3 = _turn(v3, 21) ^ v0
            v2 = (v2 + v1) & _MASK
            v1 = _turn(v1, 17) ^ v2
            v2 = _turn(v2, 32)

    for word in (*struct.unpack("<QQ", text), len(text) << 56):
        v3 ^= word
        rounds(2)
        v0 ^= word
    v2 ^= 0xFF
    rounds(4)
    return int(v0 ^ v1 ^ v2 ^ v3)


def _turn(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & _MASK
