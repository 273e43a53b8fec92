"""asyncio servers: the examples of the page in the real aiohttp and uvicorn."""

from __future__ import annotations

import concurrent.futures
import unittest

from common import BIN, WithBroker, accepts, ask, delivered, example, needs, subjects, until, wait_until_sent


class Servers(WithBroker):
    def serve(self, *arguments):
        socket = self.folder / "http"
        program = self.program(*arguments)
        until(lambda: program.runs() and accepts(socket), "the server listens")
        return socket

    def orders(self, socket):
        """Orders at the same time, while the broker is killed and comes back."""
        count = 60
        self.assertEqual(ask(socket, "/order", "POST"), "sent\n")
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(ask, socket, "/order", "POST") for _ in range(count // 2)]
            until(lambda: delivered(self.broker) > 3, "some orders are answered")
            self.broker.kill()
            # These come while there is no broker.
            answers += [pool.submit(ask, socket, "/order", "POST") for _ in range(count // 2)]
            self.broker.start()
            self.assertEqual({answer.result() for answer in answers}, {"sent\n"})
        wait_until_sent(self.broker)
        self.assertEqual(subjects(self.broker), {"Your order": count + 1})

    @needs("aiohttp")
    def test_aiohttp(self):
        self.write("aiohttp_shop.py", example("aiohttp_shop.py"))
        self.write("run.py", "from aiohttp import web\nimport aiohttp_shop\nweb.run_app(aiohttp_shop.app, path='http')\n")
        self.orders(self.serve(BIN / "python", "run.py"))

    @needs("starlette", "uvicorn")
    def test_starlette(self):
        self.write("starlette_shop.py", example("starlette_shop.py"))
        self.orders(self.serve(BIN / "uvicorn", "starlette_shop:app", "--app-dir", ".", "--uds", "http"))


if __name__ == "__main__":
    unittest.main()
