"""How to connect."""

from __future__ import annotations

import os
from typing import Dict, Optional, Union

from . import _errors, _limits, _paths
from .protocol import Record


class Retry(Record):
    """For how long the library looks for a broker, and how often, in seconds.

    Example:
        >>> Retry(patience=5.0)
        Retry(patience=5.0, interval=0.025)
    """

    patience: float = 30.0
    interval: float = 0.025


class Options:
    """The arguments of `connect`, checked."""

    def __init__(
        self,
        program: str,
        *,
        socket: "Union[str, os.PathLike[str], None]" = None,
        data_dir: "Union[str, os.PathLike[str], None]" = None,
        config: "Union[str, os.PathLike[str], None]" = None,
        start: "Union[str, os.PathLike[str], None]" = "sundown",
        log_level: Optional[str] = None,
        log_format: Optional[str] = None,
        timeout: Optional[float] = 90.0,
        retry: Retry = Retry(),
        host_key: Optional[int] = None,
    ) -> None:
        self.program = _errors.string(program, "program")
        with _errors.arguments():
            self.program.encode()
        self.socket = _path(socket, "socket")
        self.data_dir = _path(data_dir, "data_dir")
        self.config = _path(config, "config")
        self.start = _path(start, "start")
        environment = _paths.Environment()
        self.logging: Dict[str, Optional[str]] = {
            "level": log_level if log_level is not None else environment.variable("SUNDOWN_LOG"),
            "format": log_format if log_format is not None else environment.variable("SUNDOWN_LOG_FORMAT"),
        }
        self.timeout = None if timeout is None else _limits.number(timeout, "timeout")
        if not isinstance(retry, Retry):
            raise _errors.InvalidType(f"retry is {retry!r}, and must be a sundown.Retry", code="MAPI_E_INVALID_PARAMETER")
        self.retry = Retry(_limits.number(retry.patience, "retry.patience"), _limits.number(retry.interval, "retry.interval"))
        if host_key is not None and not (isinstance(host_key, int) and 0 <= host_key < 1 << 128):
            raise _errors.InvalidParameter("host_key is no number of 128 bits: take Mapi.host_key of the host", code="MAPI_E_INVALID_PARAMETER")
        self.host_key = host_key


def _path(value: "Union[str, os.PathLike[str], None]", name: str) -> Optional[str]:
    if value is None:
        return None
    try:
        path = os.fspath(value)
    except TypeError:
        path = None
    if not isinstance(path, str):
        raise _errors.InvalidType(f"{name} is {_errors.shown(value)}, and must be a path: a str, or a pathlib.Path", code="MAPI_E_INVALID_PARAMETER")
    try:
        is_path = "\0" not in path and bool(os.fsencode(path))
    except UnicodeError:
        is_path = False
    if not is_path:
        raise _errors.InvalidParameter(f"{name} is {_errors.shown(value)}, which is no path", code="MAPI_E_INVALID_PARAMETER")
    return path
