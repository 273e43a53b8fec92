"""Starts a broker when none runs: PROTOCOL.md, "Starting a broker". Programs that start one at the same moment start a single one."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import time
from typing import Awaitable, Callable, Dict, List, Optional

from .. import _errors, _limits, _paths
from .._lazy import imports
from . import _io

PATIENCE = 30.0
"""For how many seconds a program waits for its turn, and for the broker to be ready."""
LOOK = 0.025
"""Seconds between two attempts."""
READY = "ready"
OCCUPIED = "another broker is running with the data directory"
LONGEST = 4096

_children: List[int] = []
"""Brokers that this process has started, until they have ended. A child that is not waited for stays a zombie until this process ends."""


class NotStarted(Exception):
    """Why no broker was started. `occupied`: another broker has the data, and may be about to end."""

    def __init__(self, error: _errors.Error, occupied: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.occupied = occupied


def _cannot(what: str, path: str, error: object) -> NotStarted:
    return NotStarted(_errors.unreachable(f"no broker runs, and one cannot be started: cannot {what} {path}: {error}"), False)


async def start(
    program: str, logging: Dict[str, Optional[str]], paths: _paths.Paths, until: Optional[float], running: Callable[[], Awaitable[bool]]
) -> None:
    """Starts a broker, unless `running` finds one once this program has the lock. Raises `NotStarted`."""
    data = paths.data
    try:
        directory = _open_directory(data)
    except OSError as error:
        raise _cannot("use the data directory", data, error) from error
    lock = None
    try:
        lock_path = os.path.join(data, _paths.AUTOSTART_LOCK)
        try:
            lock = _open_private(directory, _paths.AUTOSTART_LOCK)
        except OSError as error:
            raise _cannot("open", lock_path, error) from error
        await _take_turn(lock, _limits.earlier(until, time.monotonic() + PATIENCE))
        if await running():
            return
        log_path = os.path.join(data, _paths.LOG)
        try:
            log = _open_private(directory, _paths.LOG)
            if not stat.S_ISREG(os.fstat(log).st_mode):
                os.close(log)
                raise OSError("it is no file; remove it")
        except OSError as error:
            raise _cannot("open the log file", log_path, error) from error
        try:
            said = await _spawn(program, logging, paths, log, _limits.earlier(until, time.monotonic() + PATIENCE))
        finally:
            os.close(log)
        if said.strip() == READY:
            return
        why = said.strip() or _last_line(log_path)
        occupied = OCCUPIED in why
        holder = paths.holder() if occupied else None
        other = f"; it is process {holder}, and `sundown doctor` says more" if holder else ""
        text = f"no broker runs, and one could not be started: {why}{other}; its log is {log_path}"
        raise NotStarted(_errors.unreachable(text), occupied)
    finally:
        for descriptor in (lock, directory):
            if descriptor is not None:
                os.close(descriptor)


async def _take_turn(lock: int, until: Optional[float]) -> None:
    """Waits until no other program starts a broker."""
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if _limits.left(until) == 0:
                what = "no broker runs, and another program that starts one is not done with it"
                raise NotStarted(_errors.unreachable(what), False) from None
            await _io.sleep(LOOK)


async def _spawn(program: str, logging: Dict[str, Optional[str]], paths: _paths.Paths, log: int, until: Optional[float]) -> str:
    """Starts a broker, detached. Returns what it writes until it is ready, or until its end."""
    arguments = [program, "serve", "--detached", "--socket", paths.socket, "--data-dir", paths.data]
    options = {"--config": paths.config, "--log-level": logging.get("level"), "--log-format": logging.get("format")}
    for option, value in options.items():
        if value:
            arguments += [option, value]
    if paths.environment.raised:
        # A user must not choose what a program with raised privileges starts.
        environment = {"PATH": _paths.SYSTEM_PATH}
    else:
        environment = {name: os.environ[name] for name in _paths.PASSED_ON if name in os.environ}
    near, far = os.pipe()
    try:
        found = _found(program, paths.environment.raised)
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, far, 1),
            (os.POSIX_SPAWN_DUP2, log, 2),
        ]
        # Python ignores these two, and a broker does not.
        defaults = [signal.SIGPIPE, signal.SIGXFSZ]
        _children.append(os.posix_spawn(found, [found, *arguments[1:]], environment, file_actions=actions, setsigdef=defaults))
        _reap()
    except OSError as error:
        os.close(near)
        raise _cannot("start", program, error) from error
    finally:
        os.close(far)
    try:
        return await _read_word(near, until)
    finally:
        os.close(near)


def _found(program: str, raised: bool) -> str:
    """The path of the program, which is looked for in this program's PATH, and not in the broker's."""
    with imports:
        import shutil

    found = program if os.sep in program else shutil.which(program, path=_paths.SYSTEM_PATH if raised else None)
    if found is None:
        raise FileNotFoundError("it is not in the PATH; install sundown, or name it with connect(start=…), or connect to a broker that runs")
    return found


def _reap() -> None:
    """Takes the status of brokers that have ended."""
    for child in list(_children):
        try:
            ended = os.waitpid(child, os.WNOHANG)[0]
        except ChildProcessError:
            ended = child
        if ended:
            _children.remove(child)


async def _read_word(pipe: int, until: Optional[float]) -> str:
    said = b""
    while said != f"{READY}\n".encode() and len(said) < LONGEST:
        if not await _io.readable(pipe, until):
            raise NotStarted(_errors.unreachable("no broker runs, and the one that was started is not ready in time"), False)
        more = os.read(pipe, 1024)
        if not more:
            break
        said += more
    return said.decode(errors="replace")


def _open_directory(data: str) -> int:
    """Opens the data directory, and makes it if it does not exist. Fails if others may write to it: a file in it could be a link of theirs."""
    _make_directories(data)
    user = os.geteuid()
    named = os.lstat(data)
    directory = os.open(data, os.O_RDONLY | os.O_CLOEXEC)
    found = os.fstat(directory)
    why = ""
    if stat.S_ISLNK(named.st_mode) and named.st_uid not in (user, 0):
        why = f"it is a link of user {named.st_uid}"
    elif not stat.S_ISDIR(found.st_mode):
        why = "it is not a directory"
    elif found.st_uid != user:
        why = f"it belongs to user {found.st_uid}, not to {user}"
    elif found.st_mode & 0o022:
        why = f"it has mode {found.st_mode & 0o777:04o} and can be changed by others"
    if why:
        os.close(directory)
        raise PermissionError(why)
    return directory


def _make_directories(path: str) -> None:
    """Makes a directory and those above it with mode 0700, whatever the umask. Directories that exist are not changed."""
    if os.path.isdir(path) or not path:
        return
    _make_directories(os.path.dirname(path))
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
        return
    os.chmod(path, 0o700)


def _open_private(directory: int, name: str) -> int:
    """Opens a file for appending; one that does not exist is made with mode 0600. Links are not followed."""
    flags = os.O_APPEND | os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        made = os.open(name, flags | os.O_EXCL, 0o600, dir_fd=directory)
    except FileExistsError:
        return os.open(name, flags, 0o600, dir_fd=directory)
    os.fchmod(made, 0o600)
    return made


def _last_line(path: str) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - (1 << 20)))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else "it said nothing"
