"""Blocking calls with a real broker."""

from __future__ import annotations

import os
import threading
import unittest
from email.message import EmailMessage
from unittest import mock

from support import Proxy, Server, WithBroker, message, old_broker, python

import sundown
from sundown import protocol
from sundown.protocol import replies, requests, types


class Submitting(WithBroker):
    def test_a_message_is_stored_and_delivered(self):
        mail = EmailMessage()
        mail["To"], mail["Subject"] = "anna@localhost", "Report"
        mail.set_content("All is well.\n")
        with self.connect("report") as mapi, mapi.logon() as session:
            submitted = session.submit(mail)
            self.assertEqual(submitted.state, sundown.SubmissionState.QUEUED)
            self.assertEqual(len(str(submitted.entry)), 40)
        self.assertIn(b"All is well.", self.broker.wait_for_mail(containing=b"Subject: Report"))

    def test_an_envelope_of_its_own(self):
        session = self.logon(no_mail=True)
        entry = session.submit(message(to="nobody@example.org"), sender="me@localhost", recipients=["bo@localhost"]).entry
        row = session._library.queue_entry(session.profile, entry)
        self.assertEqual((row.sender, [one.address for one in row.recipients]), ("me@localhost", ["bo@localhost"]))
        empty = session.submit(b"To: anna@localhost\n\nx", sender="").entry
        self.assertEqual(session._library.queue_entry(None, empty).sender, "")
        self.assertIn(f"From: {session.identity}".encode(), session.read(empty))

    def test_the_same_key_stores_one_message(self):
        key = sundown.new_key()
        one, other = self.logon(no_mail=True), self.logon(no_mail=True)
        entry = one.submit(message("keyed"), key=key).entry
        self.assertEqual(other.submit(message("keyed"), key=key).entry, entry)
        self.assertEqual(entry.record, key)
        with self.assertRaises(sundown.Refused) as caught:
            one.submit(message("another"), key=key)
        self.assertEqual(caught.exception.code, "MAPI_E_COLLISION")
        self.assertRegex(caught.exception.correlation, "^[0-9a-f]{8}-[0-9]+$")

    def test_a_long_message_is_uploaded(self):
        session = self.logon(no_mail=True)
        for size in (protocol.MAX_BLOB, protocol.MAX_BLOB + 1, 3 << 20):
            data = message(body="x" * size)
            self.assertTrue(session.read(session.submit(data).entry).endswith(data.split(b"\n\n", 1)[1]))

    def test_deferred_messages_are_durable_after_a_flush(self):
        session = self.logon(no_mail=True)
        entries = [session.submit(message(), deferred=True) for _ in range(20)]
        self.assertEqual({one.state for one in entries}, {sundown.SubmissionState.ACCEPTED})
        session.flush()
        self.assertEqual(session.deferred.to_bring_back(), [])
        states = {session._library.queue_entry(None, one.entry).state for one in entries}
        self.assertEqual(states, {"held"} if states == {"held"} else {"queued"})

    def test_what_is_wrong_is_said(self):
        session = self.logon()
        cases = [
            (lambda: session.submit(None), sundown.InvalidType, "the message is None"),
            (lambda: session.submit("To: a@b"), sundown.InvalidType, r"message.encode\(\)"),
            (lambda: session.submit(b"Subject: x\n\n"), sundown.Refused, "no recipients.*was not submitted"),
            (lambda: session.submit(message(), recipients="a@b"), sundown.InvalidType, "must be a list"),
            (lambda: session.submit(message(), recipients=[None]), sundown.InvalidType, "recipients: None where a string is needed"),
            (lambda: session.submit(message(), key=1 << 128), sundown.InvalidParameter, "key: .* does not fit"),
            (lambda: session.submit(message(), key="k"), sundown.InvalidType, "key: 'k' is no whole number"),
            (lambda: session.submit(message(), sender=7), sundown.InvalidType, "sender: a value of type int"),
            (lambda: session.submit(message(to="not an address")), sundown.InvalidParameter, "not an address"),
            (lambda: session.read("12"), sundown.InvalidParameter, "40 hexadecimal digits"),
            (lambda: session.read(None), sundown.InvalidType, "no entry identifier"),
            (lambda: session.folder(None), sundown.InvalidType, "a folder is a word"),
            (lambda: session.folder("spam"), sundown.InvalidParameter, "no folder"),
            (lambda: session.set_setting("s", "n", None), sundown.InvalidType, "value is None"),
            (lambda: session.advise("news"), sundown.InvalidParameter, "the events are critical-error"),
            (lambda: session.advise(None), sundown.InvalidType, "words for events"),
            (lambda: session.advise("new-mail", "print"), sundown.InvalidType, "must be a function"),
            (lambda: session.logoff(drain="1"), sundown.InvalidType, "drain is '1'"),
            (lambda: session.logoff(drain=-1), sundown.InvalidParameter, "zero or more"),
            (lambda: session._library.queue_entry(None, sundown.EntryId(1, 2)), sundown.Refused, ""),
            (lambda: self.connect().logon(7), sundown.InvalidType, "profile is a value of type int"),
            (lambda: self.connect().logon("none-such"), sundown.Refused, "none-such"),
            (lambda: self.connect(None), sundown.InvalidType, "program is None"),
            (lambda: self.connect(timeout="1"), sundown.InvalidType, "timeout is '1'"),
            (lambda: self.connect(retry=5), sundown.InvalidType, "sundown.Retry"),
            (lambda: sundown.email(None), sundown.InvalidType, "to is None"),
        ]
        for call, kind, words in cases:
            with self.subTest(words), self.assertRaisesRegex(kind, words) as caught:
                call()
            self.assertIsInstance(caught.exception, sundown.Error)
            self.assertEqual(protocol.codes.NUMBERS[caught.exception.code], caught.exception.hresult)
        self.assertEqual(session.submit(message()).state, "queued", "the session is as before")

    def test_addresses_that_are_none_are_named(self):
        with self.assertRaises(sundown.InvalidParameter) as caught:
            self.logon().submit(message(to="a b c@localhost, anna@localhost"))
        self.assertEqual(caught.exception.addresses, ("a b c@localhost",))
        self.assertIsInstance(caught.exception, ValueError)


class Objects(WithBroker):
    def test_drafts_are_saved_and_discarded(self):
        session = self.logon()
        with session.draft(message("draft")) as draft:
            entry = draft.save()
            self.assertEqual(draft.save(), entry)
        session.draft(message("thrown away"))
        self.assertIn(b"Subject: draft", session.read(entry))
        left = session.logoff()
        self.assertEqual((left.discarded, left.stayed), (1, ()))

    def test_folders_flags_moves_and_copies(self):
        session = self.logon()
        with session.store() as store:
            work = store.make_folder("Work")
            inner = store.make_folder("Invoices", work)
            with self.assertRaises(sundown.Refused) as caught:
                store.make_folder("Work")
            self.assertEqual(caught.exception.code, "MAPI_E_COLLISION")
            store.rename_folder(store.make_folder("Bils"), "Bills")
            names = {row.name: (row.folder, row.parent, row.role) for row in store.folders()}
            self.assertEqual(names["Invoices"], (inner, work, None))
            self.assertIn("Bills", names)
            self.assertEqual(names["Inbox"][2], sundown.Role.INBOX)
            with store.folder(work) as folder:
                entry = folder.append(message("kept"), ["read", "$work"], received=86_400)
                row = folder.contents().all()[0]
                self.assertEqual((row.entry, row.received, row.flags.names), (entry, 86_400_000, ("read", "$work")))
                self.assertIn("$work", row.flags)
                self.assertEqual(list(folder.contents(unread=True)), [])
                again = sundown.new_key()
                copied = folder.append(message("one"), key=again)
                self.assertEqual(folder.append(message("one"), key=again), copied)
                self.assertEqual(session.set_flags(entry, "flagged", ["read"]).names, ("flagged", "$work"))
                session.move_to(entry, inner)
                self.assertEqual([row.subject for row in folder.messages()], ["one"])
                other = session.copy_to(entry, work)
                self.assertNotEqual(other, entry)
                folder.delete(other)
                with self.assertRaises(sundown.Refused):
                    folder.delete(other)
                folder.delete(copied)
            with self.assertRaises(sundown.Refused) as caught:
                store.remove_folder(work)
            self.assertEqual(caught.exception.code, "MAPI_E_HAS_FOLDERS")
            with session.open_message(entry) as opened:
                self.assertEqual(opened.set_flags("read").names, ("read", "flagged", "$work"))
                self.assertEqual(opened.read_at(0), (opened.read(), len(opened.read())))
                opened.move_to("deleted")
            store.remove_folder(inner)
            store.remove_folder(work)
            with self.assertRaises(sundown.Refused) as caught:
                session.folder(work)
            self.assertEqual(caught.exception.code, "MAPI_E_NOT_FOUND")

    def test_contents_come_by_pages_and_search_finds(self):
        session = self.logon()
        with session.folder("drafts") as drafts:
            for number in range(600):
                drafts.append(message(f"number {number:03}"), received=number + 1)
            self.assertEqual([row.subject for row in drafts.contents("subject", descending=False)], [f"number {n:03}" for n in range(600)])
            rows = drafts.contents(limit=300)
            first = next(rows)
            self.assertEqual([first.subject, *(row.subject for row in rows.all())], [f"number {n:03}" for n in range(599, 299, -1)])
            self.assertEqual(len(drafts.contents(limit=0).all()), 0)
            self.assertEqual(len(drafts.messages()), 600)
            found = drafts.search("number 123")
            subjects = [row.subject for row in found.all()]
            self.assertTrue(subjects == ["number 123"] or found.unindexed)
            for wrong in ("size of", None):
                with self.assertRaises(sundown.InvalidParameter):
                    drafts.contents(sort=wrong)
            with self.assertRaises(sundown.InvalidParameter):
                drafts.contents(limit=-1)

    def test_the_address_book_settings_and_the_status_table(self):
        session = self.logon()
        with session.address_book() as book:
            entry = book.add("Friends", ["anna@localhost", "bo@localhost"])
            self.assertEqual(book.resolve("Friends").entry, entry)
            self.assertEqual([row.name for row in book.entries()], ["Friends"])
            book.remove("Friends")
            with self.assertRaises(sundown.Refused):
                book.resolve("Friends")
        session.set_setting("test", "colour", "blue")
        self.assertEqual(session.setting("test", "colour"), "blue")
        self.assertEqual(session.remove_setting("test", "colour"), "blue")
        self.assertIsNone(session.setting("test", "colour"))
        with session.status_table() as table:
            self.assertIn(sundown.Resource.STORE_PROVIDER, {row.resource for row in table.rows()})
        for wrong in ("spoon", None):
            with self.assertRaises(sundown.InvalidParameter):
                session.validate_state(wrong, "x")

    def test_an_object_that_was_released_takes_no_calls(self):
        session = self.logon()
        folder = session.folder("inbox")
        folder.release()
        folder.release()
        with self.assertRaisesRegex(sundown.Refused, "was released; open it again"):
            folder.messages()

    def test_grants_are_redeemed_once_and_end_with_the_granter(self):
        granter, mapi = self.logon(), self.connect("reader")
        entry = granter.submit(message("granted")).entry
        told = []
        with granter.open_message(entry) as opened:
            token = opened.grant()
            self.assertNotIn(str(token), repr(token))
            with mapi.redeem(str(token), told.append) as reference:
                self.assertIn(b"Subject: granted", reference.read())
                with self.assertRaises(sundown.Refused):
                    mapi.redeem(token)
                granter.revoke(token)
                with self.assertRaises(sundown.Refused) as caught:
                    while True:
                        mapi.dispatch(1)
                        reference.read()
                self.assertEqual(caught.exception.code, "RPC_E_DISCONNECTED")
                self.assertEqual([event.reason for event in told], ["reference-lost"])
        with self.assertRaisesRegex(sundown.InvalidParameter, "32 hexadecimal digits"):
            mapi.redeem("secret")

    def test_the_queue_is_held_released_and_aborted(self):
        mapi = self.connect()
        session = mapi.logon(no_mail=True)
        entry = session.submit(message("queued")).entry
        self.assertEqual(mapi.hold(entry).state, "held")
        self.assertIn(entry, {row.entry for row in mapi.queue()})
        self.assertNotEqual(mapi.release(entry).state, "held")
        self.assertTrue(mapi.message_id(entry))
        session.abort_submit(entry)
        self.assertEqual(mapi.queue_entry(entry).state, "aborted")
        with self.assertRaises(sundown.Refused) as caught:
            mapi.abort(entry)
        self.assertEqual(caught.exception.code, "MAPI_E_NOT_IN_QUEUE")
        self.assertIsInstance(mapi.flush_queues(), int)

    def test_facts_about_the_broker(self):
        mapi = self.connect("facts")
        session = mapi.logon()
        status = mapi.status()
        self.assertEqual((status.pid, mapi.broker), (self.broker.pid, self.broker.pid))
        members = {member.id: member.peer for one in status.sessions for member in one.members}
        self.assertEqual(members[session.member], sundown.Peer(os.getpid(), "facts"))
        self.assertTrue(mapi.broker_status().limits)
        self.assertEqual(mapi.health().sessions[0].session, session.id)
        self.assertIsInstance(mapi.mailboxes(), tuple)
        self.assertGreater(mapi.ping(), 0)
        self.assertEqual(mapi.reload("default").result, types.Unchanged())
        self.assertEqual(repr(mapi), f"<Mapi at {self.broker.socket}>")


class Ending(WithBroker):
    def test_a_session_that_was_logged_off_takes_no_calls(self):
        session = self.logon()
        session.logoff()
        for call in (session.logoff, session.flush, lambda: session.submit(message()), session.store):
            with self.assertRaisesRegex(sundown.Refused, "was logged off") as caught:
                call()
            self.assertEqual(caught.exception.code, "MAPI_E_INVALID_OBJECT")
        self.assertEqual(list(session.events()), [])

    def test_a_closed_library_takes_no_calls(self):
        mapi = self.connect()
        session = mapi.logon()
        mapi.close()
        mapi.close()
        for call in (mapi.status, session.flush, mapi.logon):
            with self.assertRaises(sundown.Error):
                call()

    def test_a_shared_logoff_tells_the_others_who_and_how_long(self):
        ender, other = self.logon(), self.logon()
        ender.logoff(shared=True)
        events = list(zip(range(1), other.events(timeout=30)))
        end = events[0][1]
        self.assertIsInstance(end, sundown.CriticalError)
        self.assertEqual((end.reason, end.by), (sundown.EndReason.SHARED_LOGOFF, sundown.Peer(os.getpid(), "test")))
        self.assertGreater(end.grace, 0)
        other.submit(message("within the grace"))
        self.assertEqual(other.logoff(drain=30).queued, 0)

    def test_the_library_logs_off_once_a_callback_was_told(self):
        ender, other = self.logon(), self.logon()
        told = []
        other.advise("critical-error", told.append)
        ender.logoff(shared=True)
        self.assertEqual(list(other.events(timeout=30)), [])
        self.assertEqual([event.reason for event in told], ["shared-logoff"])
        with self.assertRaises(sundown.EndOfSession) as caught:
            other.flush()
        self.assertEqual(caught.exception.by.program, "test")
        self.assertGreater(caught.exception.grace, 0)

    def test_a_logoff_that_is_cancelled_changes_nothing(self):
        session, other = self.logon(no_mail=True), self.logon(no_mail=True)
        session.submit(message("waits"))
        asked = []

        def ask(question):
            asked.append((question.ends_for_all, {member.id for member in question.others()}, question.queued().own))

        with self.assertRaises(sundown.Refused) as caught:
            session.logoff(shared=True, ask=ask)
        self.assertEqual(caught.exception.code, "MAPI_E_USER_CANCEL")
        self.assertIn(other.member, asked[0][1])
        self.assertEqual((asked[0][0], asked[0][2]), (True, 1))
        session.flush()
        session.logoff(shared=True, wait=False, ask=lambda question: True)

    def test_what_failed_in_a_block_is_raised_and_not_what_followed(self):
        with self.assertRaises(ZeroDivisionError):
            with self.connect() as mapi, mapi.logon():
                1 / 0

    def test_fast_shutdown_in_all_its_ways(self):
        said = python(
            """
            import sys, sundown
            mapi = sundown.connect("leaver", socket=sys.argv[1], start=None)
            session = mapi.logon()
            session.submit(b"To: anna@localhost\\n\\nx", deferred=True)
            leaving = mapi.client_shutdown()
            try:
                leaving.do()
            except sundown.Refused as error:
                print(error.code)
            leaving.query(); leaving.query(); leaving.notify(); session.client_shutdown().do()
            for call in (leaving.query, leaving.do, session.flush, mapi.status, mapi.shut_down,
                         lambda: sundown.connect("again", socket=sys.argv[1], start=None)):
                try:
                    call()
                except sundown.Refused as error:
                    print(error.code)
            mapi.close()
            """,
            self.broker.socket,
        )
        self.assertEqual(said.split(), ["MAPI_E_NO_SUPPORT"] + ["MAPI_E_NOT_INITIALIZED"] * 6)
        code = """
            import sys, sundown
            mapi = sundown.connect("leaver", socket=sys.argv[1], start=None)
            mapi.logon()
            print(mapi.shut_down())
            """
        self.assertEqual(python(code, self.broker.socket).strip(), "fast")

    def test_a_fast_shutdown_that_is_refused_becomes_a_traditional_one(self):
        from sundown.testing import Broker

        with Broker(settings="[shutdown]\ndisable_fast_shutdown = true\n") as broker:
            code = """
                import sys, sundown
                mapi = sundown.connect("leaver", socket=sys.argv[1], start=None)
                session = mapi.logon()
                mapi.client_shutdown().query()
                try:
                    mapi.client_shutdown().do()
                except sundown.Refused as error:
                    print(error.code)
                session.submit(b"To: anna@localhost\\n\\nx")
                print(mapi.shut_down())
                """
            self.assertEqual(python(code, broker.socket).split(), ["MAPI_E_NO_SUPPORT", "traditional"])


class Events(WithBroker):
    def test_new_mail_is_told(self):
        session = self.logon()
        session.advise("object-created,object-moved")
        entry = session.submit(message("told")).entry
        seen = []
        for event in session.events(timeout=30):
            seen.append(event)
            if isinstance(event, sundown.Moved) and event.place.entry == entry and event.place.folder == "sent":
                break
        self.assertIn(sundown.Created(types.Place(entry, "outbox")), seen)

    def test_a_callback_that_raises_stops_nothing(self):
        session = self.logon()
        told = []

        def wrong(event):
            told.append(event)
            raise KeyError("on purpose")

        sink = session.advise("object-created", wrong)
        other = session.advise("object-created", told.append)
        entry = session.submit(message()).entry
        events = list(session.events(timeout=0))
        while not events:
            events = list(session.events(timeout=1))
        self.assertIsInstance(events[0], sundown.CallbackFailed)
        self.assertEqual((events[0].connection, repr(events[0].error)), (sink.connection, "KeyError('on purpose')"))
        mine = [event for event in told if event.place.entry == entry]
        self.assertEqual(mine, [sundown.Created(types.Place(entry, "outbox"))] * 2)
        self.assertIs(mine[0], mine[1])
        sink.unadvise()
        other.unadvise()
        session.submit(message())
        self.assertEqual([event for event in session.events(timeout=0.2)], [])

    def test_a_callback_may_call_the_library(self):
        session = self.logon()
        read = []
        with session.advise("object-created", lambda event: read.append(session.read(event.place.entry))):
            session.submit(message("read by a callback"))
            while not read:
                session._library.wait_for_news(None)
        self.assertIn(b"read by a callback", read[0])

    def test_tables_tell_their_changes(self):
        session = self.logon()
        with session.folder("drafts") as drafts, drafts.advise("table-modified"):
            entry = drafts.append(message("row"))
            event = next(session.events(timeout=30))
            self.assertEqual((type(event), event.change), (sundown.TableModified, types.RowAdded(str(entry))))

    def test_the_descriptor_is_readable_when_there_is_something(self):
        import select

        mapi = self.connect()
        session = mapi.logon()
        session.advise("object-created")
        descriptor = mapi.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while poll.poll(0):
            mapi.dispatch()
        self.logon().submit(message())
        self.assertTrue(poll.poll(30_000))
        mapi.dispatch()
        self.assertIsInstance(next(session.events(timeout=0)), sundown.Created)
        self.broker.restart()
        seen = []
        while not any(isinstance(event, sundown.Reconnected) for event in seen):
            self.assertTrue(poll.poll(30_000))
            mapi.dispatch()
            seen += session.events(timeout=0)
        self.assertEqual((descriptor, mapi.broker), (mapi.fileno(), self.broker.pid))

    def test_the_queue_of_events_is_bounded(self):
        session = self.logon()
        for number in range(3000):
            session._enqueue(sundown.LogoffProgress(number, 0))
        self.assertEqual(len(session.queue), 1024 - 16)
        session._enqueue(sundown.Evicted())
        events = list(session.events(timeout=0))
        self.assertEqual(type(events[-1]), sundown.Evicted)
        session._enqueue(sundown.LogoffProgress(0, 0))
        self.assertEqual(next(session.events(timeout=0)), sundown.Lagged(3000 - 1008))


class Restarts(WithBroker):
    def test_everything_comes_back_after_a_crash(self):
        mapi = self.connect()
        session = mapi.logon()
        told = []
        session.advise("object-created", told.append)
        folder = session.folder("drafts")
        folder.advise("table-modified", told.append)
        session.draft(message("lost"))
        deferred = session.submit(message("deferred"), deferred=True)
        member = session.member
        self.broker.restart()
        entry = session.submit(message("after")).entry
        back = [event for event in told if isinstance(event, sundown.Reconnected)]
        self.assertEqual(len(back), 1)
        self.assertEqual((back[0].lost_drafts, str(back[0].previous.end)), (1, "killed"))
        self.assertNotEqual((session.member, self.broker.pid), (member, None))
        self.assertTrue(mapi.queue_entry(deferred.entry))
        while not any(isinstance(event, sundown.Created) and event.place.entry == entry for event in told):
            session._library.wait_for_news(None)
        folder.append(message("again"))
        while not any(isinstance(event, sundown.TableModified) for event in told):
            session._library.wait_for_news(None)
        self.assertEqual(len([event for event in told if isinstance(event, sundown.Reconnected)]), 1)

    def test_a_request_whose_answer_is_lost_is_repeated_with_its_key(self):
        with Proxy(self.broker.socket) as proxy:
            mapi = sundown.connect("cut", socket=proxy.socket, start=None)
            with mapi, mapi.logon(no_mail=True) as session:
                before = len(mapi.queue(all=True))
                proxy.cut = (requests.Submit, requests.SubmitVia)
                session.submit(message("once"))
                proxy.cut = requests.Append
                with session.folder("drafts") as drafts:
                    count = len(drafts.messages())
                    entry = drafts.append(message("once"))
                    self.assertEqual(len(drafts.messages()), count + 1)
                    proxy.cut = requests.DeleteFrom
                    drafts.delete(entry)
                    with session.store() as store:
                        proxy.cut = requests.MakeFolder
                        made = store.make_folder("Once")
                        proxy.cut = requests.RemoveFolder
                        store.remove_folder(made)
                    proxy.cut = requests.Delete
                    other = drafts.append(message("perhaps"))
                    with self.assertRaises(sundown.Disconnected) as caught:
                        session.delete(other)
                    self.assertTrue(caught.exception.outcome_unknown)
                    self.assertIsInstance(caught.exception, ConnectionError)
                self.assertEqual(len(mapi.queue(all=True)), before + 1)
                self.assertIsNone(proxy.cut)

    def test_a_broker_that_does_not_come_back_ends_the_session(self):
        from sundown.testing import Broker

        with Broker() as broker:
            mapi = broker.connect(retry=sundown.Retry(patience=0.2, interval=0.01))
            session, other = mapi.logon(), mapi.logon()
            broker.kill()
            with self.assertRaisesRegex(sundown.EndOfSession, "did not come back"):
                session.submit(message())
            self.assertEqual([event.reason for event in other.events()], ["broker-lost"])
            with self.assertRaisesRegex(sundown.Disconnected, "no broker runs at .*sundown serve"):
                mapi.status()
            with self.assertRaises(sundown.Disconnected):
                broker.connect()
            broker.start()
            self.assertTrue(mapi.status())
            self.assertTrue(mapi.logon().submit(message()))
            mapi.close()

    def test_a_broker_that_is_stopped_ends_the_sessions(self):
        from sundown.testing import Broker

        with Broker() as broker:
            mapi = broker.connect()
            session = mapi.logon()
            broker.connect("admin").stop()
            self.assertEqual([event.reason for event in session.events() if isinstance(event, sundown.CriticalError)], ["broker-stopped"])
            for call in (session.flush, mapi.status):
                with self.assertRaisesRegex(sundown.EndOfSession, "was stopped"):
                    call()
            mapi.close()

    def test_an_outbox_connects_by_itself(self):
        from sundown.testing import Broker

        with Broker() as broker, sundown.Outbox("shop", socket=broker.socket, start=None) as outbox:
            outbox.submit(message("one"))
            first = outbox.session()
            broker.connect("ender").logon().logoff(shared=True)
            for _ in first.events(timeout=0.5):
                pass
            outbox.submit(message("two"))
            broker.connect("admin").stop()
            broker.stop()
            broker.start()
            outbox.submit(message("three"))
            broker.wait_for_mail(3)
            outbox.close()
            self.assertTrue(outbox.submit(message("four")))


class Autostart(WithBroker):
    def test_programs_that_start_at_once_start_one_broker(self):
        import shutil
        import tempfile

        home = tempfile.mkdtemp(prefix="sundown-")
        self.addCleanup(shutil.rmtree, home)
        run = os.path.join(home, "run")
        os.mkdir(run, 0o700)
        code = """
            import sys, os, sundown
            mapi = sundown.connect("starter", start=os.environ["SUNDOWN_TEST_PROGRAM"])
            mapi.logon().submit(b"To: anna@localhost\\n\\nx")
            print(mapi.broker, mapi.socket)
            """
        said = []
        threads = [threading.Thread(target=lambda: said.append(python(code, HOME=home, XDG_RUNTIME_DIR=run))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual((len(said), len(set(said))), (4, 1), said)
        pid, socket = said[0].split()
        self.assertEqual(socket, os.path.join(run, "sundown/broker.sock"))
        self.assertEqual(os.stat(os.path.join(home, ".local/share/sundown")).st_mode & 0o777, 0o700)
        sundown.connect("stopper", socket=socket, start=None).stop()

    def test_what_cannot_be_started_is_said(self):
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            where = {"socket": os.path.join(folder, "s"), "data_dir": os.path.join(folder, "data")}
            for start, words in (
                ("no-such-program", "not in the PATH"),
                ("/bin/false", "could not be started"),
                (None, "start one with `sundown serve`"),
            ):
                with self.subTest(start), self.assertRaisesRegex(sundown.Disconnected, words) as caught:
                    sundown.connect("x", start=start, **where)
                self.assertEqual(caught.exception.code, "MAPI_E_NETWORK_ERROR")
            os.chmod(where["data_dir"], 0o777)
            with self.assertRaisesRegex(sundown.Disconnected, "mode 0777"):
                sundown.connect("x", start="/bin/false", **where)
        with self.assertRaisesRegex(sundown.InvalidParameter, "107 are allowed"):
            sundown.connect("x", socket="/" + "s" * 200)


class Interrupted(WithBroker):
    """A call that is interrupted while the sessions come back: the next one finds them, wherever that was."""

    def test_a_session_comes_back_in_the_next_call(self):
        from sundown._blocking._library import Library

        for name in ("use", "add_session", "signal"):
            with self.subTest(name):
                mapi = self.connect()
                session = mapi.logon()
                whole, interrupted = getattr(Library, name), []

                def once(*arguments):
                    if not interrupted:
                        interrupted.append(1)
                        raise KeyboardInterrupt
                    return whole(*arguments)

                self.broker.restart()
                with mock.patch.object(Library, name, once):
                    with self.assertRaises(KeyboardInterrupt):
                        session.submit(message("interrupted"))
                    self.assertEqual(session.submit(message(name)).state, "queued")
                self.broker.wait_for_mail(1)


class WrongTypes(WithBroker):
    """Every argument of a wrong type is said to be one, before anything is done."""

    def test_they_are_said(self):
        session = self.connect().logon()
        folder = session.folder("inbox")
        book = session.address_book()
        text = message()
        calls = [
            (lambda v: session.submit(text, recipients=v), [5, 1.5, object(), "a@b", b"x", [5], [None]]),
            (lambda v: session.submit(text, deferred=v), ["no", 1, None]),
            (lambda v: session.logoff(shared=v), ["no", 2, 256, None, []]),
            (lambda v: session.logoff(wait=v), ["no", 1]),
            (lambda v: session.logoff(critical=v), ["no", 1]),
            (lambda v: session.logoff(admin=v), ["no", 1]),
            (lambda v: session.logoff(ask=v), [1, "yes"]),
            (lambda v: session.set_flags("0" * 40, add=v), [5, [["a"]], object()]),
            (lambda v: session.set_flags("0" * 40, remove=v), [5, [["a"]]]),
            (lambda v: session.advise(v), [1.5, [["a"]], object()]),
            (lambda v: folder.append(text, flags=v), [5, [["a"]]]),
            (lambda v: folder.append(text, received=v), ["x", []]),
            (lambda v: book.add("n", v), [None, 5, [None]]),
            (lambda v: sundown.email(v), [5, [None], b"x", None]),
            (lambda v: sundown.email("a@b", sender=v), [5, b"x"]),
            (lambda v: sundown.email("a@b", html=v), [5, b"x"]),
            (lambda v: sundown.connect(v), [None, 5, b"x", "\ud800"]),
            (lambda v: sundown.connect("x", socket=v), [b"x", 5, "\ud800", "a\0b"]),
            (lambda v: sundown.connect("x", data_dir=v), [b"x", 5]),
            (lambda v: sundown.Outbox("x", no_mail=v), ["no", 1]),
            (lambda v: sundown.Outbox("x", timeout=v), ["no", -1]),
            (lambda v: self.connect().logon(private=v), ["no", 1, None]),
        ]
        for place, (call, values) in enumerate(calls):
            for value in values:
                with self.subTest(place=place, value=value), self.assertRaises(sundown.InvalidParameter) as caught:
                    call(value)
                self.assertLess(len(str(caught.exception)), 400)
        with self.assertRaises(sundown.InvalidParameter) as caught:
            sundown.connect("x", socket=["x"] * 100_000)
        self.assertLess(len(str(caught.exception)), 400)
        self.assertEqual(len(self.broker.mail()), 0)
        session.submit(text)


class OtherServers(unittest.TestCase):
    """Programs that are no broker, or another one."""

    def connect(self, serve, **options):
        server = Server(serve)
        self.addCleanup(server.close)
        mapi = sundown.connect("test", socket=server.socket, start=None, **options)
        self.addCleanup(mapi._library.end, "the test is over")
        return mapi

    def test_a_broker_of_another_version_is_refused_with_its_words(self):
        def serve(connection):
            refused = protocol.hello.Refused(protocol.codes.NUMBERS["MAPI_E_VERSION"], "this broker speaks versions 7 to 9; update the program")
            connection.sendall(protocol.encode(protocol.hello.HelloAnswer, refused))

        with self.assertRaisesRegex(sundown.Disconnected, "cannot be reached: this broker speaks versions 7 to 9"):
            self.connect(serve)

    def test_an_older_broker_is_named_and_not_asked(self):
        logged_on = replies.LoggedOn(1, 2, "default", True, ("sqlite",), "me@host")
        asked = []

        def answers(request):
            asked.append(type(request).__name__)
            if isinstance(request, requests.Logon):
                return logged_on
            if isinstance(request, (requests.Submit,)):
                return replies.Submitted(types.EntryId(1, request.key), types.SubmissionState.QUEUED)
            if isinstance(request, requests.Open):
                return replies.Opened(types.ObjectId(1, 1))
            if isinstance(request, requests.Logoff):
                return replies.LoggedOff(0, 0, 0, ())
            return replies.Done()

        mapi = self.connect(old_broker(1, answers))
        session = mapi.logon()
        session.submit(b"From: other@x\nTo: a@b\n\nx", sender="me@x")
        for call in (session.sync, lambda: session.set_flags("0" * 40, "read"), lambda: session.folder("inbox").append(b"x" * 300_000)):
            with self.assertRaisesRegex(sundown.Refused, "update Sundown, and let `sundown stop` end the old broker") as caught:
                call()
            self.assertEqual(caught.exception.code, "MAPI_E_VERSION")
        with self.assertRaises(sundown.Refused) as caught:
            session.submit(b"To: a@b\n\nx", account="work")
        self.assertEqual(caught.exception.code, "MAPI_E_NO_SUPPORT")
        session.folder("inbox").delete("0" * 40)
        self.assertEqual((mapi.mailboxes(), mapi.health().sessions, mapi.broker_status()), ((), (), None))
        mapi.close()
        self.assertEqual(asked[:2], ["Logon", "Submit"])
        self.assertNotIn("Ticket", asked)
        self.assertNotIn("Upload", asked)

    def test_what_never_answers_is_not_waited_for_longer_than_wanted(self):
        with self.assertRaisesRegex(sundown.Error, "does not answer"):
            self.connect(frame_forever, retry=sundown.Retry(patience=0.1))
        with self.assertRaises(sundown.Timeout), sundown.within(0.1):
            self.connect(frame_forever)
        mapi = self.connect(old_broker(1, lambda request: None), timeout=0.1)
        with self.assertRaises(sundown.Timeout) as caught:
            mapi.status()
        self.assertIsInstance(caught.exception, TimeoutError)
        self.assertFalse(caught.exception.outcome_unknown, "it only reads")
        with sundown.within(5), sundown.within(0.05), self.assertRaises(sundown.Timeout) as caught:
            mapi.retry("0" * 40)
        self.assertTrue(caught.exception.outcome_unknown)
        self.assertIsNotNone(mapi.broker, "a call that was given up ends no connection")

    def test_nonsense_ends_the_connection(self):
        def nonsense(connection):
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        with self.assertRaisesRegex(sundown.Disconnected, "does not speak the protocol"):
            self.connect(nonsense)
        mapi = self.connect(old_broker(1, lambda request: replies.Flushed(1)))
        with self.assertRaisesRegex(sundown.Disconnected, "answered Status with Flushed") as caught:
            mapi.status()
        self.assertFalse(caught.exception.outcome_unknown, "it only reads")

    def test_what_is_no_answer_leaves_the_outcome_unknown(self):
        for wrong in (replies.Done(), replies.Submitted(types.EntryId(1, 2), types.SubmissionState.QUEUED), types.Fault(0, "")):
            logged_on = replies.LoggedOn(1, 2, "default", True, ("sqlite",), "me@host")
            session = self.connect(old_broker(1, lambda request: logged_on if isinstance(request, requests.Logon) else wrong)).logon()
            with self.subTest(wrong), self.assertRaises(sundown.Disconnected) as caught:
                session.submit(b"To: a@b\n\nx")
            self.assertTrue(caught.exception.outcome_unknown)
            self.assertNotEqual(caught.exception.code, "S_OK")

    def test_a_version_that_was_not_offered_is_refused(self):
        for version in (0, 99):
            with self.subTest(version), self.assertRaisesRegex(sundown.Disconnected, f"chose version {version}, and was offered versions 1 to"):
                self.connect(old_broker(version, lambda request: None))

    def test_what_ends_every_connection_is_asked_with_pauses(self):
        connections = []

        def serve(connection):
            connections.append(1)
            welcome = protocol.encode(protocol.hello.HelloAnswer, protocol.hello.Welcome(1, 1, 256, 1 << 22))
            connection.sendall(welcome)
            connection.shutdown(2)

        mapi = self.connect(serve, retry=sundown.Retry(patience=1.0, interval=0.2))
        with self.assertRaises(sundown.Disconnected):
            mapi.logon()
        self.assertLess(len(connections), 12)

    def test_a_socket_of_another_user_is_not_spoken_to(self):
        if os.geteuid():
            self.skipTest("skipped: another user's program needs root")
        import socket
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "s")
            os.chmod(folder, 0o777)
            ready, write = os.pipe()
            child = os.fork()
            if not child:
                os.setuid(65534)
                listener = socket.socket(socket.AF_UNIX)
                listener.bind(path)
                listener.listen()
                os.write(write, b"!")
                connection = listener.accept()[0]
                os.write(write, b"got " + connection.recv(100) + b".")
                os._exit(0)
            os.read(ready, 1)
            with self.assertRaisesRegex(sundown.Disconnected, "a program of user 65534, who is neither root nor"):
                sundown.connect("x", socket=path, start=None)
            self.assertEqual(os.read(ready, 100), b"got .")
            os.waitpid(child, 0)
            for descriptor in (ready, write):
                os.close(descriptor)


def frame_forever(connection):
    """Takes what comes and says nothing."""
    while connection.recv(1000):
        pass


if __name__ == "__main__":
    unittest.main()
