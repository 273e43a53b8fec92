"""The shell as a program."""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import signal
import sys
from typing import Dict, Optional, Union

from .. import _errors, _paths
from .._blocking._mapi import Mapi, connect
from ..protocol import codes
from . import _values
from ._commands import COMMANDS, Shell
from ._line import Input
from ._values import Value

PROMPT = "sundown> "
UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u115f-\u1160\u17b4-\u17b5\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e00ff\U000e01f0-\U000e0fff]"
)
"""Characters that a terminal obeys, hides, or moves text by (`protocol/src/seen.rs`)."""
_READ = 1 << 16


class Printer:
    """Standard output, written one whole line at a time."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self.prompts = not as_json and sys.stdin.isatty() and sys.stdout.isatty()
        self._prompted = False
        self.failed: Optional[OSError] = None

    def _write(self, text: str) -> None:
        data = text.encode()
        try:
            while data:
                data = data[os.write(1, data) :]
        except BrokenPipeError:
            pass  # A reader that has gone is no failure: the end of the input follows.
        except OSError as error:
            self.failed = error

    def prompt(self) -> None:
        """Asks a person for a command."""
        if self.prompts:
            self._write(PROMPT)
            self._prompted = True

    def typed(self) -> None:
        """The person has ended a line, and with it the prompt's."""
        self._prompted = False

    def line(self, line: str) -> None:
        """Prints a line. One that comes while a person types stands below what was typed, and the prompt comes again."""
        self._write(f"\n{line}\n{PROMPT}" if self._prompted else f"{line}\n")

    def reply(self, count: int, result: Union[Value, _errors.Error]) -> None:
        """Prints the reply to a command."""
        failed = isinstance(result, _errors.Error)
        if self._json:
            keys: Value = {"error": _values.error(result)} if isinstance(result, _errors.Error) else result
            self.line(document({"reply": count, "ok": not failed, **keys}))
        elif isinstance(result, _errors.Error):
            code = "" if sys.stdout.isatty() else f" ({result.code} {codes.text_of(result.hresult)})"
            self.line(_seen(f"{count}: {result.message}{code}"))
        else:
            self.line(_seen(f"{count}: ok{_pairs(result)}"))

    def event(self, value: Value) -> None:
        """Prints an event."""
        self.line(document(value) if self._json else _seen(f"*{_pairs(value)}"))


def _escape(found: "re.Match[str]") -> str:
    units = found.group().encode("utf-16-be")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))


def document(value: Value) -> str:
    """A JSON document in which a terminal obeys nothing: what it would obey or hide is escaped."""
    return UNSEEN.sub(_escape, json.dumps(value, separators=(",", ":"), ensure_ascii=False))


def _seen(text: str) -> str:
    """Text for people: what a terminal would obey or hide is shown as `�`."""
    return "\n".join(UNSEEN.sub("\ufffd", line) for line in text.split("\n"))


def _pairs(value: Value) -> str:
    """The pairs ` key=value` of a reply."""
    shown = ""
    for key, one in value.items():
        if isinstance(one, str):
            shown += f" {key}={one}"
        elif isinstance(one, list) and one and isinstance(one[0], str):
            shown += f" {key}={','.join(one)}"
        elif isinstance(one, list):
            shown += f" {key}:" + "".join(f"\n   {_pairs(row).lstrip()}" for row in one)
        else:
            shown += f" {key}={document(one)}"
    return shown


def _arguments() -> argparse.Namespace:
    usage = [f"  {name} {words}".rstrip() for name, words, _, _ in COMMANDS]
    about = [about for _, _, about, _ in COMMANDS]
    lines = [f"{one:<33} {what}" if len(one) <= 32 else f"{one}\n{'':34}{what}" for one, what in zip(usage, about)]
    after = "Commands of the shell:\n" + "\n".join(lines) + "\n\nAfter a line with size=N the next N bytes are the message; the line behind them is a command again."
    parser = argparse.ArgumentParser(
        prog="python -m sundown.shell",
        description="A process that reads commands from standard input and carries them out with the client library.",
        epilog=after,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for option, metavar, text in (
        ("--socket", "PATH", "the broker's socket [SUNDOWN_SOCKET]"),
        ("--data-dir", "DIR", "the data directory that a broker is started with [SUNDOWN_DATA_DIR]"),
        ("--config", "FILE", "the settings file that a broker is started with [SUNDOWN_CONFIG]"),
        ("--profile", "NAME", "the profile [SUNDOWN_PROFILE]"),
        ("--log-level", "LEVEL", "what a new broker logs [SUNDOWN_LOG]"),
        ("--log-format", "FORMAT", "the format of a new broker's log [SUNDOWN_LOG_FORMAT]"),
    ):
        parser.add_argument(option, metavar=metavar, help=text)
    parser.add_argument("--no-autostart", action="store_true", help="do not start a broker if none runs [SUNDOWN_NO_AUTOSTART=1]")
    parser.add_argument("--json", action="store_true", help="print JSON, also for errors")
    return parser.parse_args()


def _connect(arguments: argparse.Namespace) -> Mapi:
    environment = _paths.Environment()
    starts = not arguments.no_autostart and environment.variable("SUNDOWN_NO_AUTOSTART") in (None, "0")
    return connect(
        "sundown",
        socket=arguments.socket,
        data_dir=arguments.data_dir,
        config=arguments.config,
        start="sundown" if starts else None,
        log_level=arguments.log_level,
        log_format=arguments.log_format,
        timeout=None,
    )


def _more(mapi: Mapi, shell: Shell) -> bytes:
    """Waits for input, and takes meanwhile what the broker says."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    watched = -1
    while True:
        descriptor = -1
        if not shell.left:
            try:
                descriptor = mapi.fileno()
            except _errors.Error:
                pass  # The next command gets it.
        if descriptor != watched:
            if watched >= 0:
                poll.unregister(watched)
            if descriptor >= 0:
                poll.register(descriptor, select.POLLIN)
            watched = descriptor
        ready: Dict[int, int] = dict(poll.poll())
        if 0 in ready:
            return os.read(0, _READ)
        try:
            mapi.dispatch()
        except _errors.Error:
            pass


def main() -> int:
    """Runs the shell. Returns its exit status."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    arguments = _arguments()
    printer = Printer(arguments.json)
    try:
        mapi = _connect(arguments)
    except _errors.Error as error:
        if arguments.json:
            printer.line(document({"error": _values.error(error)}))
        else:
            code = "" if sys.stderr.isatty() else f" ({error.code} {codes.text_of(error.hresult)})"
            print(_seen(f"sundown: {error.message}{code}"), file=sys.stderr)
        return 1
    profile = arguments.profile or _paths.Environment().variable("SUNDOWN_PROFILE")
    shell = Shell(mapi, profile, printer.event)
    commands = Input(lambda: _more(mapi, shell), shell.largest)
    count = 0
    while True:
        printer.prompt()
        given = commands.next()
        if given is None:
            break
        printer.typed()
        if not isinstance(given.words, _errors.Error) and not given.words:
            continue
        count += 1
        result: Union[Value, _errors.Error]
        try:
            if isinstance(given.words, _errors.Error):
                raise given.words
            result = shell.carry_out(given.words, given.body)
        except _errors.Error as error:
            result = error
        printer.reply(count, result)
    if printer.failed is not None:
        failed = _errors.refused(f"cannot write: {printer.failed}", "MAPI_E_CALL_FAILED")
        print(f"sundown: {failed}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    # The end of the input ends the process without a logoff: nothing is cleaned up.
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
