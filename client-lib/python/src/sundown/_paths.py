"""Where the broker's socket, its data and its settings are: from options, then the environment, then the defaults.

docs/command.md, "Places", has the rules; they are those of the command and of the Rust library.
"""

from __future__ import annotations

import os
import stat
from os.path import join
from typing import Callable, Dict, Optional

from ._errors import InvalidParameter
from ._lazy import imports

MAX_SOCKET = 107
"""The longest path of a socket, in bytes."""
HOST_SOCKET = "sundown/broker.sock"
"""The socket of the host's broker, below /run."""
HOST_DATA = "sundown"
"""The data of the host's broker, below /var/lib."""
AUTOSTART_LOCK = "autostart.lock"
BROKER_LOCK = "broker.lock"
LOG = "broker.log"
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
PASSED_ON = (
    "HOME",
    "PATH",
    "USER",
    "LOGNAME",
    "LANG",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "XDG_DATA_HOME",
    "XDG_CONFIG_HOME",
    "DBUS_SESSION_BUS_ADDRESS",
    "SSH_AUTH_SOCK",
)
"""The variables that a broker is started with, as far as they are set."""

_RUNTIME = "XDG_RUNTIME_DIR"


class Environment:
    """What the paths depend on besides options. Tests give other directories and variables."""

    def __init__(
        self,
        variables: Optional[Callable[[str], Optional[str]]] = None,
        *,
        run: str = "/run",
        etc: str = "/etc",
        lib: str = "/var/lib",
        uid: Optional[int] = None,
        raised: Optional[bool] = None,
    ) -> None:
        self._variables = variables or os.environ.get
        self.run, self.etc, self.lib = run, etc, lib
        self.uid = os.geteuid() if uid is None else uid
        self.raised = is_raised() if raised is None else raised
        self.ignored: Dict[str, str] = {}
        """Variables that are set and do not count, each with the reason."""

    def variable(self, name: str) -> Optional[str]:
        """The value of a variable, if it is set, not empty, and counts."""
        value = self._variables(name)
        if value and self.raised:
            self.ignored[name] = "the program has raised privileges, as by set-user-id"
            return None
        return value or None

    def directory(self, name: str) -> Optional[str]:
        """The directory that a variable of the user names, if it counts. For root, another user's directory does not."""
        path = self.variable(name)
        if path is None:
            return None
        if not os.path.isabs(path):
            self.ignored[name] = "it is not an absolute path"
        elif self.uid == 0 and _owner_of_nearest(path) not in (None, 0):
            self.ignored[name] = "the directory is another user's"
        else:
            return path
        return None

    def home(self) -> Optional[str]:
        """The user's home: `$HOME`, or the one in the list of users or a directory service."""
        found = self.directory("HOME")
        if found is None:
            listed = self._listed_home()
            found = listed if listed is not None and os.path.isabs(listed) else None
        return found

    def _listed_home(self) -> Optional[str]:
        try:
            with open(join(self.etc, "passwd"), errors="replace") as file:
                lines = file.read().splitlines()
        except OSError:
            lines = []
        for line in lines:
            fields = line.split(":")
            if len(fields) > 5 and fields[2] == str(self.uid) and fields[5]:
                return fields[5]
        if self.etc != "/etc":
            return None
        with imports:
            import pwd

        try:
            return pwd.getpwuid(self.uid).pw_dir
        except KeyError:
            return None

    def runtime(self) -> Optional[str]:
        """`$XDG_RUNTIME_DIR`, if it counts; else `/run/user/UID`, if it belongs to the user."""
        path = self.directory(_RUNTIME)
        if path is not None:
            why = self._unusable(path, follow=True)
            if why is None:
                return path
            self.ignored[_RUNTIME] = why
        path = join(self.run, "user", str(self.uid))
        return path if self._unusable(path, follow=False) is None else None

    def _unusable(self, path: str, *, follow: bool) -> Optional[str]:
        """Why no socket can be in this directory. Mail would go to the first user who makes the socket, so others must not."""
        try:
            found = os.stat(path, follow_symlinks=follow)
        except OSError:
            return "the directory is not there, as after a logout"
        if found.st_uid != self.uid:
            return "the directory is another user's"
        if found.st_mode & 0o022:
            return "others may write to the directory"
        usable = stat.S_ISDIR(found.st_mode) and _may(path, os.W_OK | os.X_OK)
        return None if usable else "nothing can be made in the directory"


def _owner_of_nearest(path: str) -> Optional[int]:
    """The owner of the directory, or of the nearest one above it that exists."""
    while True:
        try:
            return os.stat(path).st_uid
        except OSError:
            above = os.path.dirname(path)
            if above == path:
                return None
            path = above


def _may(path: str, access: int) -> bool:
    return os.access(path, access, effective_ids=os.access in os.supports_effective_ids)


def is_raised() -> bool:
    """Whether the program can do more than the user who started it."""
    if os.getuid() != os.geteuid() or os.getgid() != os.getegid():
        return True
    from . import _image

    return _image.is_secure()


class Paths:
    """The resolved paths.

    `socket` and `data` are strings; `config` is the settings file that is given, if one is. `own` says whether the broker is the user's, which a program
    may start; `named` says whether an option or a variable names the socket.
    """

    def __init__(
        self,
        socket: Optional[str] = None,
        data_dir: Optional[str] = None,
        config: Optional[str] = None,
        environment: Optional[Environment] = None,
    ) -> None:
        env = environment or Environment()
        self.environment = env
        chosen = [_given(option, env.variable(name)) for option, name in
                  ((socket, "SUNDOWN_SOCKET"), (data_dir, "SUNDOWN_DATA_DIR"), (config, "SUNDOWN_CONFIG"))]
        asked, data, self.config = chosen
        self.named = asked is not None
        self.own = True
        host = join(env.run, HOST_SOCKET)
        may_use_host = not any(chosen) and _may(host, os.W_OK)
        try:
            self.data = data or _default_data(env)
            self.socket = asked or _default_socket(env, self.data)
            takes_host = may_use_host and not self._is_in_use()
        except InvalidParameter:
            if not may_use_host:
                raise
            takes_host = True
        if takes_host:
            self.own = False
            self.socket, self.data = host, join(env.lib, HOST_DATA)
            self.config = join(env.etc, "sundown/config.toml")
        size = len(os.fsencode(self.socket))
        if size > MAX_SOCKET:
            raise InvalidParameter(
                f"the path of the socket is too long: {self.socket} has {size} bytes, and {MAX_SOCKET} are allowed; "
                "choose a shorter one with socket=… or SUNDOWN_SOCKET",
                code="MAPI_E_INVALID_PARAMETER",
            )

    def _is_in_use(self) -> bool:
        """Whether the user has a socket, data or settings of their own."""
        settings = self.environment.directory("XDG_CONFIG_HOME")
        if settings is None:
            home = self.environment.home()
            settings = join(home, ".config") if home else None
        places = [self.socket, self.data] + ([join(settings, "sundown")] if settings else [])
        return any(os.path.exists(place) for place in places)

    def elsewhere(self) -> Optional[str]:
        """The socket of the data directory's broker, read from its lock file, if it is another one: a broker that was started in another environment."""
        if self.named or not self.own:
            return None
        try:
            with open(join(self.data, BROKER_LOCK), "rb") as file:
                other = os.fsdecode(file.read(4096))
        except OSError:
            return None
        return other if os.path.isabs(other) and other != self.socket else None

    def holder(self) -> Optional[int]:
        """The process that has the lock of the data directory, as the kernel lists it; `None` if none has."""
        if self.named or not self.own:
            return None
        try:
            found = os.stat(join(self.data, BROKER_LOCK))
            with open("/proc/locks") as file:
                locks = [line.split() for line in file]
        except OSError:
            return None
        wanted = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        pids = [int(words[4]) for words in locks if len(words) > 5 and words[1] == "FLOCK" and words[5] == wanted]
        return next((pid for pid in pids if pid > 0), None)

    def note(self) -> str:
        """The part of an error that names variables that do not count, and may have been meant to choose the broker."""
        ignored = self.environment.ignored
        names = [name for name in ("SUNDOWN_SOCKET", "SUNDOWN_DATA_DIR", _RUNTIME) if name in ignored]
        return "".join(f"; {name} does not count: {ignored[name]}" for name in names)


def _given(option: Optional[str], variable: Optional[str]) -> Optional[str]:
    """The option or else its variable, as an absolute path, because the broker may run in another directory."""
    chosen = os.fspath(option) if option else variable
    return join(os.getcwd(), chosen) if chosen else None


def _default_data(env: Environment) -> str:
    found = env.directory("XDG_DATA_HOME")
    if found is not None:
        return join(found, "sundown")
    home = env.home()
    if home is not None:
        return join(home, ".local/share/sundown")
    raise InvalidParameter(
        "there is no place for the data: HOME is not set to an absolute path, neither is XDG_DATA_HOME, and the system knows no home "
        "for the user; set HOME, or name a directory with data_dir=… or SUNDOWN_DATA_DIR",
        code="MAPI_E_INVALID_PARAMETER",
    )


def _default_socket(env: Environment, data: str) -> str:
    runtime = env.runtime()
    # Never /tmp: the first user to make the socket there could pretend to be the broker.
    return join(runtime, "sundown/broker.sock") if runtime else join(data, "run/broker.sock")
