"""The commands of the shell: what carries each out, and what `help` says about it."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

from .. import _errors
from .._blocking._mapi import Mapi
from .._blocking._objects import AddressBook, Draft, Folder, OpenMessage, Reference, StatusTable, Store, Token
from .._blocking._session import LogoffQuestion, OnEnd, Session, Sink
from ..protocol import types
from . import _values
from ._line import Words, invalid
from ._values import Value

SECTION = "sundown-shell"
"""The profile section of this program."""
AnyObject = Union[Store, Folder, OpenMessage, Reference, AddressBook, StatusTable, Draft]
NEEDS = "file=PATH, content=BASE64 and size=N (that many bytes behind the line)"


class Shell:
    """The state of the shell: its use of the library."""

    def __init__(self, mapi: Mapi, profile: Optional[str], show: Callable[[Value], None]) -> None:
        self._mapi = mapi
        self._profile = profile
        self._show = show
        self.left = False
        """Whether the library was closed or the process shut down: then no call is made."""
        self._sessions: Dict[int, Session] = {}
        self._objects: Dict[int, Tuple[int, AnyObject]] = {}
        """Open objects, each with its session; one that another process granted has session 0."""
        self._sinks: Dict[int, Sink] = {}
        self._grants: Dict[str, int] = {}
        self._made = 0
        self._body: Union[bytes, _errors.Error, None] = None
        self._last: Dict[int, object] = {}
        """The last event that was printed for each session: several registrations may be for it."""

    def carry_out(self, words: Words, body: Union[bytes, _errors.Error, None]) -> Value:
        """Carries out a command. Returns the keys of its reply."""
        if self.left:
            raise _errors.refused("this process has left; start another one", "MAPI_E_NOT_INITIALIZED")
        self._body = body
        found = BY_NAME.get(words.command)
        if found is None:
            raise invalid(f'there is no command "{words.command}"; `help` lists them')
        return found(self, words)

    def largest(self) -> Optional[int]:
        """The largest message that the broker takes; `None` of one that does not say."""
        try:
            status = self._mapi.broker_status()
        except _errors.Error:
            return None
        return next((limit.most for limit in status.limits if limit.name == "message"), None) if status else None

    # What several commands take

    def _content(self, words: Words) -> bytes:
        """The message of a command: a file, base64 in the line, or the bytes behind the line."""
        file, content, size = words.value("file"), words.value("content"), words.value("size")
        if sum(one is not None for one in (file, content, size)) != 1:
            raise invalid(f"{words.command} needs exactly one of {NEEDS}")
        if file is not None:
            try:
                with open(file, "rb") as opened:
                    return opened.read()
            except (OSError, ValueError) as error:
                raise _errors.refused(f"cannot read {file}: {error}", "MAPI_E_NOT_FOUND") from None
        if content is not None:
            try:
                return base64.b64decode(content, validate=True)
            except (binascii.Error, ValueError) as error:
                raise invalid(f"content=… is not base64: {error}") from None
        body, self._body = self._body, None
        if body is None:
            raise invalid(f"size={size} is not a number")
        if isinstance(body, _errors.Error):
            raise body
        return body

    def _session(self, words: Words) -> Tuple[int, Session]:
        number = _number(words.needed("session"), "session")
        if number not in self._sessions:
            raise invalid(f"there was no session {number} in this shell")
        return number, self._sessions[number]

    def _object(self, number: int) -> AnyObject:
        if number not in self._objects:
            raise _errors.refused(f"object {number} was released, or never opened in this shell", "MAPI_E_INVALID_OBJECT")
        return self._objects[number][1]

    def _keep(self, session: int, kept: AnyObject) -> Value:
        self._made += 1
        self._objects[self._made] = (session, kept)
        return {"object": self._made}

    def _printer(self, session: int, object: Optional[int] = None) -> Callable[[Any], None]:
        def show(event: Any) -> None:
            if self._last.get(session) is not event:
                self._last[session] = event
                self._show(_values.event(session, event, object))

        return show

    # Sessions

    def help(self, words: Words) -> Value:
        words.end()
        return {"commands": [{"command": name, "words": takes, "about": about} for name, takes, about, _ in COMMANDS]}

    def logon(self, words: Words) -> Value:
        profile = words.value("profile") or self._profile
        private, no_mail, download = words.flag("private"), words.flag("no-mail"), words.flag("download")
        words.end()
        number = max(self._sessions, default=0) + 1
        session = self._mapi.logon(
            profile, private, no_mail, download=download, on_end=OnEnd.STAY, on_event=lambda event: self._show(_values.event(number, event))
        )
        self._sessions[number] = session
        return {"session": number, "profile": session.profile, "shared": session.shared, "member": session.member}

    def logoff(self, words: Words) -> Value:
        drain: Optional[float] = None
        text = words.value("drain")
        if text is not None:
            try:
                drain = float(text)
            except ValueError:
                raise invalid(f"drain={text} is not a number") from None
            if not 0 <= drain < 1e12:
                raise invalid(f"drain={text} is no time")
        shared, ui = words.flag("shared"), words.value("ui")
        if ui not in (None, "yes", "no"):
            raise invalid(f"ui={ui} is neither yes nor no")
        number, session = self._session(words)
        words.end()

        def ask(question: LogoffQuestion) -> bool:
            self._show(self._question(number, question))
            return ui == "yes"

        left = session.logoff(shared=shared, drain=drain, ask=None if ui is None else ask)
        return {"invalidated": left.invalidated, "discarded": left.discarded, "queued": left.queued}

    @staticmethod
    def _question(number: int, question: LogoffQuestion) -> Value:
        def asked(ask: Callable[[], Any]) -> Any:
            try:
                return ask()
            except _errors.Error:
                return None

        others, queued = asked(question.others), asked(question.queued)
        rows = [{"member": other.id, "pid": other.peer.pid, "program": other.peer.program} for other in others or ()]
        return {
            "event": "logoff-question",
            "session": number,
            "ends_for_all": question.ends_for_all,
            "others": None if others is None else rows,
            "queued": queued and queued.total,
            "queued_own": queued and queued.own,
        }

    def advise(self, words: Words) -> Value:
        events = words.value("events")
        text = words.value("object")
        self._made += 1
        connection = self._made
        try:
            wanted = "critical-error" if events is None else events
            with _errors.arguments():
                types.Events.of(wanted)
            if text is None:
                number, session = self._session(words)
                words.end()
                sink = session.advise(wanted, self._printer(number))
            else:
                object = _number(text, "object")
                other = words.value("session")
                words.end()
                opened = self._object(object)
                number = self._objects[object][0]
                if other is not None and other != str(number):
                    raise invalid(f"object {object} is of session {number}")
                if not isinstance(opened, (Store, Folder, OpenMessage, AddressBook, StatusTable)):
                    raise _errors.refused("this object does not notify", "MAPI_E_NO_SUPPORT")
                sink = opened.advise(wanted, self._printer(number, object))
        except BaseException:
            self._made = connection - 1
            raise
        self._sinks[connection] = sink
        return {"connection": connection}

    def unadvise(self, words: Words) -> Value:
        number = _number(words.needed("connection"), "connection")
        words.end()
        sink = self._sinks.pop(number, None)
        if sink is None:
            raise _errors.refused(f"there is no connection {number} in this shell", "MAPI_E_NOT_FOUND")
        sink.unadvise()
        return {}

    def setting(self, words: Words) -> Value:
        name, value = words.needed("name"), words.value("value")
        _, session = self._session(words)
        words.end()
        if value is not None:
            session.set_setting(SECTION, name, value)
        return {"value": session.setting(SECTION, name)}

    def uninitialize(self, words: Words) -> Value:
        words.end()
        self._mapi.log_everything_off()
        self.left = True
        return {}

    # Objects

    def open(self, words: Words) -> Value:
        what, entry = words.needed("what"), words.value("entry")
        folder = self._folder(words) if what == "folder" else what if what in types.FOLDERS else None
        store = 0 if what in ("message", "address-book", "status-table") else _place(words)
        number, session = self._session(words)
        words.end()
        if entry is not None:
            if what != "message":
                raise invalid("entry=… goes with what=message")
            return self._keep(number, session.open_message(_entry(entry)))
        if folder is not None:
            with session.store(store) as opened:
                return self._keep(number, opened.folder(folder))
        if what == "store":
            return self._keep(number, session.store(store))
        if what == "address-book":
            return self._keep(number, session.address_book())
        if what == "status-table":
            return self._keep(number, session.status_table())
        if what == "message":
            raise invalid("open what=message needs entry=…")
        raise invalid(
            f'"{what}" cannot be opened; store, folder, inbox, outbox, sent, drafts, deleted, message, address-book and status-table can'
        )

    def list(self, words: Words) -> Value:
        number = _number(words.needed("object"), "object")
        sort = _one_of(words, "sort", [str(column) for column in types.Column])
        order = _one_of(words, "order", ["ascending", "descending"])
        limit, unread = _limit(words), words.flag("unread")
        words.end()
        opened = self._object(number)
        plain = sort is None and order is None and limit is None and not unread
        if not plain and not isinstance(opened, Folder):
            raise _errors.refused("sort, order, limit and unread are for folders that this shell opened", "MAPI_E_NO_SUPPORT")
        rows: List[Value]
        if isinstance(opened, Folder):
            try:
                contents = opened.contents(sort or "received", descending=order == "descending", unread=unread, limit=limit)
                rows = [_values.contents_row(row) for row in contents.all()]
            except _errors.Error as error:
                # A broker that is too old for contents tables lists a folder all the same.
                if error.code != "MAPI_E_VERSION" or not plain:
                    raise
                rows = [_values.message_row(row, opened.word) for row in opened.messages()]
        elif isinstance(opened, Reference):
            folder = getattr(opened.granted, "folder", None)
            rows = [_values.message_row(row, folder) for row in opened.messages()]
        elif isinstance(opened, AddressBook):
            rows = [{"entry": str(row.entry), "name": row.name, "addresses": [*row.addresses]} for row in opened.entries()]
        elif isinstance(opened, StatusTable):
            rows = [
                {"name": row.name, "resource": str(row.resource), "status": row.text, "code": row.code, "methods": row.methods}
                for row in opened.rows()
            ]
        else:
            raise _errors.refused("this object has no rows; list a folder, the address book or the status table", "MAPI_E_NO_SUPPORT")
        return {"rows": rows}

    def release(self, words: Words) -> Value:
        number = _number(words.needed("object"), "object")
        words.end()
        self._object(number).release()
        del self._objects[number]
        return {}

    def read(self, words: Words) -> Value:
        text = words.value("object")
        if text is not None:
            words.end()
            reference = self._object(_number(text, "object"))
            if not isinstance(reference, Reference):
                raise _errors.refused("this object is not a granted message; read it by its entry", "MAPI_E_NO_SUPPORT")
            data = reference.read()
        else:
            entry = _entry(words.needed("entry"))
            _, session = self._session(words)
            words.end()
            data = session.read(entry)
        return {"size": len(data), "content": data.decode(errors="replace")}

    # Mail

    def submit(self, words: Words) -> Value:
        deferred, text = words.flag("deferred"), words.value("key")
        key: Optional[int] = None
        if text is not None:
            if not (1 <= len(text) <= 32 and all(c in "0123456789abcdefABCDEF" for c in text)):
                raise invalid(f"key={text}: a submit key is 1 to 32 hexadecimal digits")
            key = int(text, 16)
        message = self._content(words)
        _, session = self._session(words)
        words.end()
        submitted = session.submit(message, deferred=deferred, key=key)
        return {"entry": str(submitted.entry), "state": str(submitted.state)}

    def draft(self, words: Words) -> Value:
        message = self._content(words)
        number, session = self._session(words)
        words.end()
        return self._keep(number, session.draft(message))

    def save(self, words: Words) -> Value:
        number = _number(words.needed("object"), "object")
        words.end()
        draft = self._object(number)
        if not isinstance(draft, Draft):
            raise _errors.refused("there is nothing to save in this object", "MAPI_E_NO_SUPPORT")
        return {"entry": str(draft.save())}

    def abort_submit(self, words: Words) -> Value:
        entry = _entry(words.needed("entry"))
        _, session = self._session(words)
        words.end()
        session.abort_submit(entry)
        return {}

    def flush(self, words: Words) -> Value:
        _, session = self._session(words)
        words.end()
        session.flush()
        return {}

    # Folders

    @staticmethod
    def _folder(words: Words, key: str = "folder") -> str:
        return _folder_of(words.needed(key), key)

    def folders(self, words: Words) -> Value:
        _, session = self._session(words)
        store = _place(words)
        words.end()
        with session.store(store) as opened:
            return {"folders": [_values.folder_row(row) for row in opened.folders()]}

    def make_folder(self, words: Words) -> Value:
        name, text = words.needed("name"), words.value("parent")
        parent = None if text is None else _folder_of(text, "parent")
        _, session = self._session(words)
        store = _place(words)
        words.end()
        with session.store(store) as opened:
            return {"folder": opened.make_folder(name, parent)}

    def rename_folder(self, words: Words) -> Value:
        folder, name = self._folder(words), words.needed("name")
        _, session = self._session(words)
        store = _place(words)
        words.end()
        with session.store(store) as opened:
            opened.rename_folder(folder, name)
        return {}

    def remove_folder(self, words: Words) -> Value:
        folder = self._folder(words)
        _, session = self._session(words)
        store = _place(words)
        words.end()
        with session.store(store) as opened:
            opened.remove_folder(folder)
        return {}

    def flag(self, words: Words) -> Value:
        entry = _entry(words.needed("entry"))
        add, remove = (_flags(words.value(key), key) for key in ("add", "remove"))
        _, session = self._session(words)
        words.end()
        if add is None and remove is None:
            raise invalid("flag needs add=… or remove=…")
        return {"flags": [*session.set_flags(entry, add or (), remove or ()).names]}

    def move(self, words: Words) -> Value:
        entry, folder = _entry(words.needed("entry")), self._folder(words)
        _, session = self._session(words)
        words.end()
        session.move_to(entry, folder)
        return {"entry": str(entry)}

    def copy(self, words: Words) -> Value:
        entry, folder = _entry(words.needed("entry")), self._folder(words)
        _, session = self._session(words)
        words.end()
        return {"entry": str(session.copy_to(entry, folder))}

    def delete(self, words: Words) -> Value:
        entry = _entry(words.needed("entry"))
        _, session = self._session(words)
        words.end()
        session.delete(entry)
        return {}

    def append(self, words: Words) -> Value:
        folder = self._folder(words)
        message = self._content(words)
        flags = _flags(words.value("flags"), "flags") or types.Flags()
        _, session = self._session(words)
        store = _place(words)
        words.end()
        with session.store(store) as opened, opened.folder(folder) as target:
            return {"entry": str(target.append(message, flags))}

    def search(self, words: Words) -> Value:
        wanted, text = words.needed("words"), words.value("folder")
        folder = None if text is None else _folder_of(text, "folder")
        limit = _limit(words)
        _, session = self._session(words)
        store = _place(words)
        words.end()
        with session.store(store) as opened:
            search = opened.search(wanted, folder, limit)
            return {"rows": [_values.contents_row(row) for row in search.all()], "unindexed": search.unindexed}

    def sync(self, words: Words) -> Value:
        _, session = self._session(words)
        words.end()
        found = session.sync()
        return {"new": found.new, "changed": found.changed, "removed": found.removed, "pending": found.pending}

    # Fast shutdown

    def query_fast_shutdown(self, words: Words) -> Value:
        words.end()
        self._mapi.client_shutdown().query()
        return {}

    def notify_process_shutdown(self, words: Words) -> Value:
        words.end()
        self._mapi.client_shutdown().notify()
        return {}

    def do_fast_shutdown(self, words: Words) -> Value:
        words.end()
        self._mapi.client_shutdown().do()
        self.left = True
        return {}

    def shut_down(self, words: Words) -> Value:
        words.end()
        path = self._mapi.shut_down()
        self.left = True
        return {"path": path}

    # Grants

    def grant(self, words: Words) -> Value:
        number, text = _number(words.needed("object"), "object"), words.value("pid")
        pid = None if text is None else _number(text, "pid")
        words.end()
        granted = self._object(number)
        if not isinstance(granted, (Folder, OpenMessage)):
            raise _errors.refused("only a message or a folder can be granted", "MAPI_E_NO_SUPPORT")
        token = str(granted.grant(pid))
        self._grants[token] = self._objects[number][0]
        return {"token": token}

    def redeem(self, words: Words) -> Value:
        token = _token(words)
        words.end()
        number = self._made + 1
        return self._keep(0, self._mapi.redeem(token, lambda event: self._show(_values.lost(number, event))))

    def revoke(self, words: Words) -> Value:
        token = _token(words)
        words.end()
        session = self._sessions.get(self._grants.get(str(token), 0))
        if session is None:
            raise _errors.refused("this shell has granted nothing by this token", "MAPI_E_NOT_FOUND")
        session.revoke(token)
        del self._grants[str(token)]
        return {}


def _number(text: str, key: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) >= 1 << 64:
        raise invalid(f"{key}={text} is not a number")
    return int(text)


def _place(words: Words) -> int:
    """The place of the store that `store=N` names; that of the default store without it."""
    text = words.value("store")
    place = 0 if text is None else _number(text, "store")
    if place >= 1 << 16:
        raise invalid(f"store={text} is not a number")
    return place


def _limit(words: Words) -> Optional[int]:
    text = words.value("limit")
    return None if text is None else _number(text, "limit")


def _entry(text: str) -> types.EntryId:
    try:
        with _errors.arguments():
            return types.EntryId.of(text)
    except _errors.Error as error:
        raise invalid(f"entry={text}: {error.message}") from None


def _folder_of(text: str, key: str) -> str:
    try:
        with _errors.arguments():
            types.folder_number(text)
    except _errors.Error as error:
        raise invalid(f"{key}={text}: {error.message}") from None
    return text


def _flags(text: Optional[str], key: str) -> Optional[types.Flags]:
    if text is None:
        return None
    try:
        with _errors.arguments():
            return types.Flags.of(text)
    except _errors.Error as error:
        raise invalid(f"{key}={text}: {error.message}") from None


def _one_of(words: Words, key: str, known: List[str]) -> Optional[str]:
    text = words.value(key)
    if text is not None and text not in known:
        raise invalid(f"{key}={text} is none of {', '.join(known)}")
    return text


def _token(words: Words) -> Token:
    # A token is a secret, so the error does not repeat it.
    try:
        return Token.of(words.needed("token"))
    except _errors.Error as error:
        raise invalid(f"token: {error.message}" if "hexadecimal" in error.message else error.message) from None


COMMANDS: List[Tuple[str, str, str, Callable[[Shell, Words], Value]]] = [
    ("help", "", "list the commands", Shell.help),
    ("logon", "[profile=P] [private] [no-mail] [download]", "log on to a session", Shell.logon),
    ("advise", "session=S|object=O [events=E,…]", "print events", Shell.advise),
    ("unadvise", "connection=C", "print them no more", Shell.unadvise),
    ("open", "session=S what=W [folder=F] [entry=E] [store=N]", "open an object", Shell.open),
    (
        "list",
        "object=O [sort=COLUMN] [order=ascending|descending] [limit=N] [unread]",
        "list the rows of a folder, the address book or the status table",
        Shell.list,
    ),
    ("release", "object=O", "close an object", Shell.release),
    ("read", "session=S entry=E | object=O", "print a message", Shell.read),
    ("submit", "session=S file=PATH|content=BASE64|size=N [deferred] [key=HEX]", "put a message into the queue", Shell.submit),
    ("draft", "session=S file=PATH|content=BASE64|size=N", "begin a message without saving it", Shell.draft),
    ("save", "object=O", "save a draft", Shell.save),
    ("folders", "session=S [store=N]", "list the folders", Shell.folders),
    ("make-folder", "session=S name=N [parent=F] [store=N]", "make a folder", Shell.make_folder),
    ("rename-folder", "session=S folder=F name=N [store=N]", "rename a folder", Shell.rename_folder),
    ("remove-folder", "session=S folder=F [store=N]", "remove an empty folder", Shell.remove_folder),
    ("flag", "session=S entry=E [add=FLAG,…] [remove=FLAG,…]", "change flags and keywords", Shell.flag),
    ("move", "session=S entry=E folder=F", "move a message", Shell.move),
    ("copy", "session=S entry=E folder=F", "copy a message", Shell.copy),
    ("delete", "session=S entry=E", "move a message to deleted, then delete it", Shell.delete),
    ("append", "session=S folder=F file=PATH|content=BASE64|size=N [flags=FLAG,…] [store=N]", "put a message into a folder", Shell.append),
    ("search", 'session=S words="…" [folder=F] [limit=N] [store=N]', "search", Shell.search),
    ("sync", "session=S", "let the mailboxes look at everything", Shell.sync),
    ("setting", "session=S name=N [value=V]", "read or change a setting", Shell.setting),
    ("abort-submit", "session=S entry=E", "take a message back", Shell.abort_submit),
    ("flush", "session=S", "send what waits", Shell.flush),
    ("logoff", "session=S [shared] [drain=SECONDS] [ui=yes|no]", "log off, or end the session for everybody", Shell.logoff),
    ("query-fast-shutdown", "", "ask whether a fast shutdown is possible", Shell.query_fast_shutdown),
    ("notify-process-shutdown", "", "announce that this process ends", Shell.notify_process_shutdown),
    ("do-fast-shutdown", "", "save what must be saved, and leave", Shell.do_fast_shutdown),
    ("shut-down", "", "leave, fast where that is possible", Shell.shut_down),
    ("grant", "object=O [pid=PID]", "lend an object to a process", Shell.grant),
    ("redeem", "token=T", "open what another process lends", Shell.redeem),
    ("revoke", "token=T", "take a loan back", Shell.revoke),
    ("uninitialize", "", "log off from all sessions", Shell.uninitialize),
]
"""All commands, in the order in which a program meets them: the name, the words that it takes, what it does. docs/command.md has their replies."""
BY_NAME = {name: run for name, _, _, run in COMMANDS}
