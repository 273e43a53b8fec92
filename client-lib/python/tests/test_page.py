"""The section "A client library" of PROTOCOL.md against this library."""

from __future__ import annotations

import os
import subprocess
import sys
import unittest

from support import in_tree

from sundown import _image


def table(name):
    """The rows of a table of the page, without the quotes of code."""
    text = in_tree("PROTOCOL.md").read_text().split(f"<!-- {name}: begin -->")[1].split("<!--")[0]
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


class Image(unittest.TestCase):
    def test_it_is_computed_as_the_page_says(self):
        rows = table("image")
        self.assertGreaterEqual(len(rows), 3)
        for kernel, image in rows:
            self.assertEqual(_image.mix(bytes.fromhex(kernel.strip("`"))).hex(), image.strip("`"))

    def test_both_ways_to_the_kernels_bytes_find_the_same(self):
        found = _image._at_random()
        self.assertEqual(len(found), 16)
        asked = _image._getauxval
        try:
            _image._getauxval = lambda kind: 0
            self.assertEqual(_image._at_random(), found)
        finally:
            _image._getauxval = asked

    def test_it_is_that_of_the_program_and_stays_after_a_fork(self):
        of_child, write = os.pipe()
        child = os.fork()
        if not child:
            os.write(write, _image.image())
            os._exit(0)
        os.close(write)
        self.assertEqual(os.read(of_child, 16), _image.image())
        os.close(of_child)
        os.waitpid(child, 0)
        code = "import sundown._image as i; print(i.image().hex())"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        other = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, check=True)
        self.assertNotEqual(bytes.fromhex(other.stdout.decode()), _image.image())

    def test_without_the_kernels_bytes_it_is_the_process(self):
        asked = _image._at_random
        try:
            _image._at_random = lambda: None
            self.assertEqual(_image.image(), os.getpid().to_bytes(4, "little") + bytes(12))
        finally:
            _image._at_random = asked

    def test_privileges_are_ordinary(self):
        self.assertFalse(_image.is_secure())
        self.assertNotEqual(_image._auxiliary(_image.AT_RANDOM), 0)


if __name__ == "__main__":
    unittest.main()
