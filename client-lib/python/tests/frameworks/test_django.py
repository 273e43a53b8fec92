"""`sundown.django.EmailBackend` in the real Django: 5.2, or 6.1 where its Python is installed."""

from __future__ import annotations

import sys
import unittest

from common import PATIENCE, WithBroker, example, needs, subjects, wait_until_sent

PROJECT = """
SECRET_KEY = "x"
USE_TZ = True
SUNDOWN_START = None
"""
BEGIN = """
import os, sys, threading
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
import django
django.setup()
from django.core import mail
from django.core.mail import EmailMessage, EmailMultiAlternatives, get_connection, send_mail, send_mass_mail
import sundown

def members():
    with sundown.connect("look", start=None) as mapi:
        return sum(member.peer.program == "django" for session in mapi.status().sessions for member in session.members)

def of(data):
    import email.policy
    return email.message_from_bytes(data, policy=email.policy.default)
"""


@needs("django")
class Backend(WithBroker):
    settings = "[limits]\nmessage = \"6MiB\"\n"

    def setUp(self):
        super().setUp()
        self.write("settings.py", PROJECT + example("settings.py"))

    def run_in_django(self, code, **more):
        return self.python(BEGIN + code, **more)

    def mails(self):
        import email.policy
        from email import message_from_bytes

        return [message_from_bytes(data, policy=email.policy.default) for data in self.broker.mail()]

    def sent(self, code, count=1):
        said = self.run_in_django(code)
        self.broker.wait_for_mail(count)
        return said

    def test_the_example_sends_mail(self):
        said = self.sent("print(send_mail('Hi', 'Hello!', None, ['anna@localhost']))")
        self.assertEqual(said, "1\n")
        mail = self.mails()[0]
        self.assertEqual((mail["Subject"], mail["From"], mail["To"]), ("Hi", "shop@localhost", "anna@localhost"))
        self.assertIn("Hello!", mail.get_content())

    def test_a_blind_copy_is_only_in_the_envelope(self):
        said = self.sent(
            """
message = EmailMessage("Hi", "x", "me@localhost", ["anna@localhost"], bcc=["bo@localhost"], cc=["Cy <cy@localhost>"])
if django.VERSION < (6, 0):
    # A later one refuses it.
    message.extra_headers["bcc"] = "eve@localhost"
print(message.send(), EmailMessage("Hi", "x", "me@localhost", bcc=["bo@localhost"]).send())
with sundown.connect("look", start=None) as mapi:
    print(sorted(sorted(recipient.address for recipient in row.recipients) for row in mapi.queue(all=True)))
""",
            2,
        )
        self.assertEqual(said, "1 1\n[['anna@localhost', 'bo@localhost', 'cy@localhost'], ['bo@localhost']]\n")
        for mail in self.mails():
            # What the delivery adds is for the owner of the mailbox.
            del mail["Delivered-To"]
            self.assertNotRegex(mail.as_string(), "(?i)bcc|eve@|bo@")

    def test_attachments_and_alternatives_arrive(self):
        self.sent(
            """
message = EmailMultiAlternatives("Grüße", "plain", "me@localhost", ["anna@localhost"])
message.attach_alternative("<p>hübsch</p>", "text/html")
message.attach("data.bin", bytes(range(256)), "application/octet-stream")
assert message.send() == 1
"""
        )
        mail = self.mails()[0]
        self.assertEqual(mail["Subject"], "Grüße")
        self.assertEqual(mail.get_body(("html",)).get_content().strip(), "<p>hübsch</p>")
        self.assertEqual([part.get_content() for part in mail.iter_attachments()], [bytes(range(256))])

    def test_all_messages_of_a_process_share_one_logon(self):
        said = self.sent(
            """
print(send_mass_mail([("a", "x", None, ["anna@localhost"])] * 3))
connection = get_connection()
print(connection.open(), members())
connection.close()
send_mail("b", "x", None, ["anna@localhost"])
print(members())
connection.outbox.close()
print(members(), connection.open(), connection.open(), members())
""",
            4,
        )
        self.assertEqual(said.split("\n")[:4], ["3", "False 1", "1", "0 True False 1"])

    def test_keywords_come_before_settings(self):
        said = self.run_in_django(
            """
from django.test import override_settings
with override_settings(SUNDOWN_PROFILE="nowhere", SUNDOWN_PROGRAM="shop"):
    try:
        send_mail("a", "x", None, ["anna@localhost"])
    except sundown.Refused as error:
        print(error.code)
    connection = get_connection(profile=None)
    print(EmailMessage("a", "x", None, ["anna@localhost"], connection=connection).send(), connection.outbox)
    try:
        get_connection(socket="/nowhere/sock", profile=None).open()
    except sundown.Disconnected as error:
        print("/nowhere/sock" in str(error))
"""
        )
        self.assertEqual(said, "MAPI_E_NOT_FOUND\n1 <Outbox 'shop'>\nTrue\n")

    def test_fail_silently_counts_what_was_sent(self):
        said = self.run_in_django(
            """
good, bad, nobody = (EmailMessage("a", "x", None, to) for to in (["anna@localhost"], ["no one@localhost"], []))
print(get_connection(fail_silently=True).send_messages([bad, good, nobody, good]))
print(get_connection(fail_silently=True).send_messages([]), get_connection().send_messages([nobody]))
silent = get_connection(fail_silently=True, socket="/nowhere/sock")
print(silent.open(), silent.send_messages([good, good]))
try:
    get_connection().send_messages([good, bad, good])
except sundown.InvalidParameter as error:
    print(error.addresses)
"""
        )
        self.assertEqual(said, "2\n0 0\nNone 0\n('no one@localhost',)\n")
        self.broker.wait_for_mail(3)

    def test_a_message_without_a_subject_or_a_sender_is_sent(self):
        self.sent(
            """
from django.test import override_settings
with override_settings(DEFAULT_FROM_EMAIL=""):
    assert EmailMessage(None, "x", None, ["anna@localhost"]).send() == 1
"""
        )
        mail = self.mails()[0]
        self.assertIsNone(mail["Subject"])
        self.assertRegex(str(mail["From"]), ".@.")

    def test_a_field_cannot_be_smuggled_in(self):
        said = self.run_in_django(
            """
for subject, sender, to in (("a\\nBcc: eve@localhost", None, "anna@localhost"), ("a", "me@localhost\\nX: y", "anna@localhost"), ("a", None, "anna@localhost\\nX: y")):
    try:
        print(EmailMessage(subject, "x", sender, [to]).send())
    except ValueError as error:
        print("refused")
"""
        )
        self.assertEqual(said, "refused\n" * 3)

    def test_addresses_beyond_ascii(self):
        self.sent(
            """
assert EmailMessage("a", "x", "Jörg <me@localhost>", ["Ännchen <anna@localhost>"]).send() == 1
assert EmailMessage("b", "x", None, ["änna@localhost"]).send() == 1
""",
            2,
        )
        first, second = sorted(self.mails(), key=lambda mail: mail["Subject"])
        self.assertEqual(first["To"].addresses[0].display_name, "Ännchen")
        self.assertEqual(first["From"].addresses[0].display_name, "Jörg")
        self.assertIn("nna@localhost", str(second["To"]))

    def test_a_domain_beyond_ascii_is_sent_in_its_ascii_form(self):
        said = self.run_in_django(
            """
try:
    EmailMessage("c", "x", None, ["anna@bücher.example"]).send()
except sundown.Refused as error:
    print(error.code, error.addresses)
"""
        )
        self.assertEqual(said, "MAPI_E_UNCONFIGURED ('anna@xn--bcher-kva.example',)\n")

    def test_a_huge_attachment_arrives_and_one_beyond_the_limit_is_refused(self):
        said = self.sent(
            """
message = EmailMessage("a", "x", None, ["anna@localhost"])
message.attach("data.bin", bytes(4 << 20), "application/octet-stream")
print(message.send())
message.attach("more.bin", bytes(4 << 20), "application/octet-stream")
try:
    message.send()
except sundown.Refused as error:
    print(error.code)
"""
        )
        self.assertEqual(said, "1\nMAPI_E_TOO_BIG\n")
        self.assertEqual(len(next(self.mails()[0].iter_attachments()).get_content()), 4 << 20)

    def test_threads_may_send_at_the_same_time(self):
        said = self.sent(
            """
threads = [threading.Thread(target=lambda i=i: [send_mail(f"{i}-{j}", "x", None, ["anna@localhost"]) for j in range(10)]) for i in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(members())
""",
            80,
        )
        self.assertEqual(said, "1\n")
        self.assertEqual(len({mail["Subject"] for mail in self.mails()}), 80)

    def test_a_fork_in_the_middle_gives_each_process_its_own_logon(self):
        said = self.sent(
            """
send_mail("parent", "x", None, ["anna@localhost"])
child = os.fork()
if not child:
    send_mail("child", "x", None, ["anna@localhost"])
    os._exit(0)
print(os.waitpid(child, 0)[1])
print(send_mail("again", "x", None, ["anna@localhost"]))
""",
            3,
        )
        self.assertEqual(said, "0\n1\n")
        self.assertEqual(sorted(mail["Subject"] for mail in self.mails()), ["again", "child", "parent"])

    def test_the_broker_is_killed_in_the_middle_of_send_messages(self):
        code = """
import signal
class Killing(EmailMessage):
    def message(self, **keywords):
        # It is made just before it is submitted.
        if self.subject == "5":
            os.kill(int(os.environ["BROKER"]), signal.SIGKILL)
        return super().message(**keywords)
print(get_connection().send_messages([Killing(str(i), "x", None, ["anna@localhost"]) for i in range(10)]), flush=True)
"""
        process = self.broker._process
        program = self.program(sys.executable, "-c", BEGIN + code, BROKER=str(process.pid))
        process.wait(PATIENCE)
        self.broker.restart()
        self.assertEqual(program.process.wait(PATIENCE), 0, program.log)
        self.assertEqual(program.log, "10\n")
        wait_until_sent(self.broker)
        self.assertEqual(subjects(self.broker), {str(i): 1 for i in range(10)})

    def test_mail_admins_and_the_handler_for_logging(self):
        self.write("settings.py", PROJECT + example("settings.py") + example("dict.py") + "\nADMINS = [('Anna', 'anna@localhost')]\n")
        self.sent(
            """
import logging
mail.mail_admins("Down", "x")
logging.getLogger("shop").error("no %s", "paper")
""",
            2,
        )
        self.assertEqual(sorted(mail["Subject"] for mail in self.mails()), ["ERROR shop: no paper", "[Django] Down"])


@needs("django")
class Mailers(WithBroker):
    def setUp(self):
        import django

        if django.VERSION < (6, 1):
            self.skipTest("skipped: MAILERS needs Django 6.1, which needs Python 3.12")
        super().setUp()

    def test_the_example_sends_mail(self):
        self.write("settings.py", PROJECT + "DEFAULT_FROM_EMAIL = 'shop@localhost'\n" + example("mailers.py"))
        said = self.python(
            BEGIN
            + """
import warnings
warnings.simplefilter("error")
print(send_mail("Hi", "x", None, ["anna@localhost"], using="default"))
with mail.mailers["default"] as connection:
    print(connection.send_messages([EmailMessage("a", "x", None, ["bo@localhost"])] * 2))
"""
        )
        self.assertEqual(said, "1\n2\n")
        self.broker.wait_for_mail(3)

    def test_an_unknown_option_is_named(self):
        self.write("settings.py", PROJECT + example("mailers.py").replace('"profile"', '"profil"'))
        said = self.python(
            BEGIN
            + """
try:
    send_mail("Hi", "x", "me@localhost", ["anna@localhost"], using="default")
except mail.InvalidMailer as error:
    print(error)
"""
        )
        self.assertIn("profil", said)


if __name__ == "__main__":
    unittest.main()
