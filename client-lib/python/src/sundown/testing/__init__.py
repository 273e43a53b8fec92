"""A private broker for the tests of programs that send mail.

Example:
    from sundown.testing import Broker

    with Broker() as broker, broker.connect("test") as mapi, mapi.logon() as session:
        session.submit(b"To: anna@localhost\\nSubject: Hi\\n\\nHi!\\n")
        assert b"Subject: Hi" in broker.wait_for_mail()
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

from .. import Mapi, _errors, connect

PATIENCE = 60.0
"""For how many seconds a broker may take to start, to end, and to deliver."""


class Broker:
    """A broker in a temporary directory, which sees nothing of the user's. It is a context manager; its end stops the broker and removes the directory.

    Mail to a user of this host, as `anna@localhost`, is delivered into a Maildir (`mail`).

    Args:
        program: the program that is the broker; without it `sundown` of `SUNDOWN_TEST_PROGRAM`, or from the PATH.
        settings: the text of the settings file.
        profiles: profiles by their names: the text of each.
    """

    def __init__(self, program: Optional[str] = None, *, settings: str = "", profiles: Optional[Dict[str, str]] = None) -> None:
        found = program or os.environ.get("SUNDOWN_TEST_PROGRAM") or shutil.which("sundown")
        if not found:
            raise _errors.unreachable("there is no program `sundown` in the PATH; install it, or name it with SUNDOWN_TEST_PROGRAM")
        self.program = found
        self.home = Path(tempfile.mkdtemp(prefix="sundown-"))
        run = self.home / "run"
        run.mkdir(mode=0o700)
        folder = self.home / ".config/sundown"
        (folder / "profiles").mkdir(parents=True)
        self.config = str(folder / "config.toml")
        Path(self.config).write_text(settings)
        for name, text in (profiles or {}).items():
            (folder / "profiles" / f"{name}.toml").write_text(text)
        self.data = str(self.home / ".local/share/sundown")
        self.socket = str(run / "sundown/broker.sock")
        self._process: "Optional[subprocess.Popen[bytes]]" = None
        try:
            self.start()
        except BaseException:
            shutil.rmtree(self.home, ignore_errors=True)
            raise

    @property
    def environment(self) -> Dict[str, str]:
        """The environment of a program that is to see this broker, and nothing of the user's."""
        return {"HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.home / "run"), "PATH": os.environ.get("PATH", "")}

    @property
    def pid(self) -> int:
        """The broker's process."""
        if self._process is None:
            raise _errors.unreachable("this broker does not run; start() starts it")
        return self._process.pid

    def start(self) -> None:
        """Starts the broker, and returns when its socket accepts."""
        arguments = [self.program, "serve", "--detached", "--socket", self.socket, "--data-dir", self.data, "--config", self.config]
        with open(self.home / "broker.log", "ab") as log:
            self._process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=self.environment, cwd=self.home
            )
        output = self._process.stdout
        said = output.readline() if output else b""
        if said != b"ready\n":
            rest = said + (output.read() if output else b"")
            self.stop()
            raise _errors.unreachable(f"the broker did not start: {(rest.decode(errors='replace') or self.log).strip()}")

    def kill(self) -> None:
        """Kills the broker with SIGKILL, as a crash does, and waits for its end. `start` starts it again."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stops the broker: an orderly end that waits for nobody."""
        self._end(signal.SIGTERM, signal.SIGTERM)

    def _end(self, *signals: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for number in signals:
            process.send_signal(number)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()

    def restart(self) -> None:
        """Kills the broker and starts it again."""
        self.kill()
        self.start()

    def connect(self, program: str = "test", **options: Any) -> Mapi:
        """`sundown.connect` to this broker, which starts none."""
        return connect(program, **{"socket": self.socket, "start": None, **options})

    @property
    def log(self) -> str:
        """What the broker has logged."""
        return (self.home / "broker.log").read_text(errors="replace")

    def mail(self, profile: str = "default") -> List[bytes]:
        """The messages that were delivered to this host, oldest first."""
        folder = Path(self.data) / profile / "Maildir/new"
        found = sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime_ns) if folder.is_dir() else []
        return [file.read_bytes() for file in found]

    def wait_for_mail(self, count: int = 1, profile: str = "default", *, containing: bytes = b"") -> bytes:
        """Waits until so many messages are delivered that contain these bytes. Returns the newest of them."""
        until = time.monotonic() + PATIENCE
        while True:
            found = [message for message in self.mail(profile) if containing in message]
            if len(found) >= count:
                return found[count - 1]
            if time.monotonic() >= until:
                raise _errors.refused(f"{len(found)} of {count} messages were delivered within {PATIENCE:g} s", "MAPI_E_TIMEOUT")
            time.sleep(0.005)

    def deliver(self, message: bytes, profile: str = "default") -> None:
        """Puts a message into the profile's Maildir, as a mail system does. Programs that registered for new mail are told `Arrived`."""
        folder = Path(self.data) / profile / "Maildir"
        for name in ("tmp", "new", "cur"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        name = f"{time.time_ns()}.{os.getpid()}.test"
        (folder / "tmp" / name).write_bytes(message)
        (folder / "tmp" / name).rename(folder / "new" / name)

    def __enter__(self) -> "Broker":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)
