"""A program that has this library and, in an add-in, the one of Rust: the broker takes them for one process with one host."""

from __future__ import annotations

import unittest

from support import WithBroker, in_tree, python

ADDINS = [path for path in (in_tree(f"target/{kind}/deps/libsundown_test_addin.so") for kind in ("debug", "release")) if path.exists()]

PRELUDE = """
import ctypes, os, sys, sundown
socket, addin = sys.argv[1:]
function = ctypes.CDLL(addin).sundown_test_addin
function.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]
function.restype = ctypes.c_size_t
def rust(command):
    room = ctypes.create_string_buffer(1 << 16)
    length = function(command.encode(), room, len(room))
    return room.raw[:length].decode()
def code(call):
    try:
        call()
        return "ok"
    except sundown.Error as error:
        return error.code
"""


@unittest.skipUnless(ADDINS, "skipped: the add-in is not built: cargo test --test integration --no-run")
class Mixture(WithBroker):
    def program(self, code):
        return python(PRELUDE + code, self.broker.socket, str(ADDINS[0])).splitlines()

    def test_what_connected_first_is_the_host(self):
        said = self.program(
            """
mapi = sundown.connect("host", socket=socket, start=None)
session = mapi.logon()
print(rust(f"initialize addin {socket}"), rust("logon addin"))
members = [m.peer.pid for s in mapi.status().sessions for m in s.members]
print(members == [os.getpid()] * 2)
print(rust("query addin").split()[0], code(mapi.client_shutdown().query), code(mapi.client_shutdown().notify))
print(rust("do addin").split()[0])
print(code(mapi.client_shutdown().do), code(session.flush))
print(rust("submit addin late").split()[0])
"""
        )
        self.assertEqual(said[0], "ok ok")
        self.assertEqual(said[1], "True", "one process with two members")
        self.assertEqual(said[2], "MAPI_E_NO_ACCESS ok ok")
        self.assertEqual(said[3], "MAPI_E_NO_ACCESS")
        self.assertEqual(said[4:], ["ok MAPI_E_NOT_INITIALIZED", "MAPI_E_NOT_INITIALIZED"], "the Do was for the whole process")

    def test_the_other_way_round_too(self):
        said = self.program(
            """
print(rust(f"initialize host {socket}"), rust("logon host"))
mapi = sundown.connect("addin", socket=socket, start=None)
session = mapi.logon()
print(code(mapi.client_shutdown().query), rust("query host"), rust("do host"))
print(code(session.flush), code(mapi.status))
"""
        )
        self.assertEqual(said, ["ok ok", "MAPI_E_NO_ACCESS ok ok", "MAPI_E_NOT_INITIALIZED MAPI_E_NOT_INITIALIZED"])

    def test_a_key_lets_the_add_in_act_for_the_host(self):
        said = self.program(
            """
mapi = sundown.connect("host", socket=socket, start=None)
session = mapi.logon()
print(rust(f"initialize addin {socket} {mapi.host_key}"), rust("logon addin"))
print(rust("query addin"), rust("do addin"), code(session.flush))
"""
        )
        self.assertEqual(said, ["ok ok", "ok ok MAPI_E_NOT_INITIALIZED"])
        said = self.program(
            """
print(rust(f"initialize host {socket}"))
key = int(rust("key host").split()[1])
mapi = sundown.connect("addin", socket=socket, start=None, host_key=key)
print(code(mapi.client_shutdown().query), mapi.shut_down())
"""
        )
        self.assertEqual(said, ["ok", "ok fast"])


if __name__ == "__main__":
    unittest.main()
