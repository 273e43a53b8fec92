"""A broker's socket: who listens there."""

from __future__ import annotations

import os
import socket
import struct
from typing import Optional

LAST_WORDS = 1.0
"""For how many seconds the end of a connection is read after a write has failed. That end has arrived already."""
SHORTEST = 0.001
"""The shortest time that is waited. Zero would not wait at all."""


def make() -> socket.socket:
    """A socket that does not block, and that programs started by this one do not inherit."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.setblocking(False)
    return made


def credentials(connected: socket.socket) -> "tuple[int, int]":
    """The pid and the uid of the process that listens, as the kernel knows them; pid 0 if its pid namespace is not visible."""
    size = struct.calcsize("3i")
    pid, uid, _ = struct.unpack("3i", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return pid, uid & 0xFFFFFFFF


def refuse_strangers(connected: socket.socket, path: str) -> None:
    """Raises `PermissionError` unless root, this user or the owner of the socket's directory listens: another user who replaced the socket
    would get everything that is sent."""
    broker, user = credentials(connected)[1], os.geteuid()
    owner = os.stat(os.path.dirname(path) or ".").st_uid
    if broker not in (0, user, owner):
        raise PermissionError(
            f"at {path} answers a program of user {broker}, who is neither root nor user {user}, and does not own that directory; nothing was sent to it"
        )


def parent_of(pid: int) -> Optional[int]:
    """The parent of a process."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None


class Absent(Exception):
    """Why a connection was not made: `error` is what the system or the broker says."""

    def __init__(self, error: Exception, code: str = "MAPI_E_NETWORK_ERROR") -> None:
        super().__init__(str(error))
        self.error = error
        self.code = code

    @property
    def looks_absent(self) -> bool:
        """Whether no program listens."""
        return isinstance(self.error, (FileNotFoundError, ConnectionRefusedError))

    @property
    def is_not_there(self) -> bool:
        """The same, or a file has the place of the socket's directory."""
        return self.looks_absent or isinstance(self.error, NotADirectoryError)

    @property
    def says_nothing(self) -> bool:
        """Whether no answer came in time."""
        return isinstance(self.error, (TimeoutError, BlockingIOError))

    @property
    def was_cut_off(self) -> bool:
        """Whether a program accepted the connection, and closed it before it said anything."""
        return isinstance(self.error, (EOFError, ConnectionResetError, BrokenPipeError))
