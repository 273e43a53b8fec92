"""`sundown.flask.Mail` in the real Flask-Mail."""

from __future__ import annotations

import email.policy
import unittest
from email import message_from_bytes

from common import WithBroker, example, needs, subjects, wait_until_sent

CONFIGURED = """
import os, sys
import sundown
from flask import Flask
from flask_mail import Message
from sundown.flask import Mail
app = Flask("shop")
app.config.update(MAIL_DEFAULT_SENDER=("The Shop", "shop@localhost"), SUNDOWN_START=None)
mail = Mail()
mail.init_app(app)
"""


@needs("flask", "flask_mail")
class FlaskMail(WithBroker):
    def mails(self):
        return [message_from_bytes(data, policy=email.policy.default) for data in self.broker.mail()]

    def in_app(self, code):
        body = "".join(f"    {line}\n" for line in code.strip().splitlines())
        return self.python(f"{CONFIGURED}\nwith app.app_context():\n{body}")

    def test_the_example_sends_mail(self):
        self.write("shop.py", example("shop.py"))
        said = self.python("import shop; print(shop.app.test_client().post('/order').text)")
        self.assertEqual(said, "sent\n\n")
        self.assertIn(b"Thank you!", self.broker.wait_for_mail())

    def test_all_ways_to_send_reach_the_broker(self):
        said = self.in_app("""
from flask import current_app
mail.send_message("1", recipients=["anna@localhost"], body="x")
current_app.extensions["mail"].send(Message("2", recipients=["anna@localhost"], body="x"))
with mail.connect() as connection:
    for subject in "34":
        connection.send(Message(subject, recipients=["anna@localhost"], body="x"))
with sundown.connect("look", start=None) as mapi:
    print(sum(member.peer.program == "flask" for session in mapi.status().sessions for member in session.members))
""")
        self.assertEqual(said, "1\n")
        wait_until_sent(self.broker)
        self.assertEqual(subjects(self.broker), dict.fromkeys("1234", 1))

    def test_a_blind_copy_is_only_in_the_envelope(self):
        said = self.in_app("""
headers = {"Bcc": "eve@localhost,\\n eva@localhost", "X-Last": "y"}
mail.send(Message("Hi", recipients=["anna@localhost"], bcc=[("Bo", "bo@localhost")], body="Bcc: stays\\n", extra_headers=headers))
with sundown.connect("look", start=None) as mapi:
    print(sorted(recipient.address for recipient in mapi.queue(all=True)[0].recipients))
""")
        self.assertEqual(said, "['anna@localhost', 'bo@localhost']\n")
        self.broker.wait_for_mail()
        (mail,) = self.mails()
        del mail["Delivered-To"]
        self.assertEqual((mail["X-Last"], str(mail["From"])), ("y", "The Shop <shop@localhost>"))
        self.assertNotRegex(mail.as_string(), "(?i)^bcc: *e|eve@|eva@|bo@")
        self.assertIn("Bcc: stays", mail.get_content())

    def test_attachments_and_alternatives_arrive(self):
        self.in_app("""
message = Message("Grüße", recipients=["Ännchen <anna@localhost>"], body="plain", html="<p>hübsch</p>")
message.attach("data.bin", "application/octet-stream", bytes(range(256)) * 4096)
mail.send(message)
""")
        self.broker.wait_for_mail()
        (mail,) = self.mails()
        self.assertEqual(mail["Subject"], "Grüße")
        self.assertEqual([part.get_content() for part in mail.iter_attachments() if part.get_filename()], [bytes(range(256)) * 4096])

    def test_what_is_wrong_is_named(self):
        said = self.in_app("""
def fails(kind, **options):
    try:
        mail.send(Message("a", body="x", **options))
    except kind as error:
        print(type(error).__name__, error)
fails(AssertionError, recipients=[])
fails(sundown.Refused, recipients=["anna@bücher.example"])
fails(sundown.InvalidParameter, recipients=["anna@localhost"], rcpt_options=["NOTIFY=SUCCESS"])
app.config["SUNDOWN_SOCKET"] = "/nowhere/sock"
mail.init_app(app)
fails(sundown.Disconnected, recipients=["anna@localhost"])
""").splitlines()
        self.assertEqual(len(said), 4, said)
        self.assertIn("No recipients", said[0])
        self.assertIn("anna@xn--bcher-kva.example", said[1])
        self.assertIn("report=", said[2])
        self.assertIn("no broker runs at /nowhere/sock", said[3])

    def test_suppressed_messages_are_recorded_and_not_sent(self):
        said = self.in_app("""
app.config["MAIL_SUPPRESS_SEND"] = True
mail.init_app(app)
with mail.record_messages() as outbox:
    mail.send(Message("a", recipients=["anna@localhost"], body="x"))
print(len(outbox))
with sundown.connect("look", start=None) as mapi:
    print(len(mapi.queue(all=True)))
""")
        self.assertEqual(said, "1\n0\n")


if __name__ == "__main__":
    unittest.main()
