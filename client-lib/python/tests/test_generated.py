"""What the source tree promises of the package: one text for both skins, and an import that costs little."""

from __future__ import annotations

import inspect
import subprocess
import sys
import unittest

from support import INSTALLED, PACKAGE, python

import sundown
import sundown.asyncio


class Skins(unittest.TestCase):
    @unittest.skipIf(INSTALLED, "skipped: the generator is in the source tree")
    def test_the_blocking_calls_are_those_of_asyncio(self):
        ran = subprocess.run([sys.executable, str(PACKAGE / "generate"), "--check"], stderr=subprocess.PIPE)
        self.assertEqual(ran.returncode, 0, ran.stderr.decode())

    def test_both_have_the_same_names_and_arguments(self):
        for name in ("Mapi", "Session", "Store", "Folder", "OpenMessage", "Draft", "AddressBook", "StatusTable", "Reference", "Outbox", "ClientShutdown", "Sink"):
            blocking, waits = getattr(sundown, name), getattr(sundown.asyncio, name)
            for method, function in inspect.getmembers(blocking, inspect.isfunction):
                if method.startswith("_"):
                    continue
                other = getattr(waits, method)
                self.assertEqual(list(inspect.signature(function).parameters), list(inspect.signature(other).parameters), f"{name}.{method}")
                self.assertFalse(inspect.iscoroutinefunction(function))

    def test_everything_public_is_described(self):
        for module in (sundown, sundown.asyncio):
            for name in module.__all__:
                thing = getattr(module, name)
                if inspect.isclass(thing) or inspect.isfunction(thing):
                    self.assertTrue(thing.__doc__, name)
                for method, function in inspect.getmembers(thing, inspect.isfunction) if inspect.isclass(thing) else ():
                    if not method.startswith("_") and function.__module__.startswith("sundown") and method not in ("mro",):
                        self.assertTrue(function.__doc__, f"{name}.{method}")


class Import(unittest.TestCase):
    def test_asyncio_email_and_ctypes_are_imported_when_they_are_needed(self):
        said = python("import sys, sundown; print([m for m in ('asyncio', 'email', 'ctypes', 'subprocess', 'dataclasses', 'inspect') if m in sys.modules])")
        self.assertEqual(said.strip(), "[]")

    def test_nothing_outside_the_standard_library_is_imported(self):
        said = python(
            """
            import sys
            before = set(sys.modules)
            import sundown, sundown.asyncio
            from sundown import testing
            found = {name.partition(".")[0] for name in set(sys.modules) - before}
            known = getattr(sys, "stdlib_module_names", found)
            print(sorted(found - set(known) - {"sundown"}))
            """
        )
        self.assertEqual(said.strip(), "[]")

    def test_it_costs_little(self):
        """The best of several, in a process of its own each; 30 ms where nothing else runs."""
        code = "import time; t = time.process_time(); import sundown; print((time.process_time() - t) * 1000)"
        python(code)
        best = min(float(python(code)) for _ in range(5))
        self.assertLess(best, 100, "ms, in a machine that does other things")
        print(f"import sundown: {best:.1f} ms", file=sys.stderr)


if __name__ == "__main__":
    unittest.main()
