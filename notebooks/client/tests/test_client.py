"""The client against a server of canned answers on a loopback port."""

import json
import threading
import unittest
from http.server import BaseHTTPRequestHandler, HTTPServer

from foreglow import Client, Problem


class Canned(BaseHTTPRequestHandler):
    seen = []
    busy = 0

    def answer(self):
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        Canned.seen.append((self.path, body, self.headers.get("X-Scope-OrgID")))
        if Canned.busy:
            Canned.busy -= 1
            return self.reply(503, {"code": "busy"}, {"Retry-After": "0"})
        if self.path == "/v1/groups":
            return self.reply(200, {"items": ["a"], "next_cursor": "n/1"})
        if self.path == "/v1/groups?cursor=n%2F1":
            return self.reply(200, {"items": ["b"], "next_cursor": None})
        if self.path == "/readyz":
            return self.reply(200, {})
        if self.path.startswith("/v1/score"):
            return self.reply(200, {"results": body["points"] if "points" in body else body["series"]})
        return self.reply(422, {"code": "unknown_group", "detail": "no such group"})

    do_GET = do_POST = answer

    def reply(self, status, body, headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *args):
        pass


class ClientTest(unittest.TestCase):
    def setUp(self):
        self.server = HTTPServer(("127.0.0.1", 0), Canned)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.client = Client(f"http://127.0.0.1:{self.server.server_port}/", tenant="t")
        Canned.seen.clear()
        Canned.busy = 0

    def tearDown(self):
        self.server.shutdown()
        self.server.server_close()

    def test_missing_values_are_null(self):
        values = {"cpu": float("nan"), "mem": float("inf"), "err": None, "rps": 3}
        reply = self.client.score([{"timestamp": 1, "labels": {}, "values": values}], dry_run=True)
        self.assertEqual(reply["results"][0]["values"], {"cpu": None, "mem": None, "err": None, "rps": 3.0})
        self.assertEqual((Canned.seen[0][0], Canned.seen[0][2]), ("/v1/score?dry_run=true", "t"))
        series = self.client.score_series([{"labels": {"__name__": "x"}, "timestamps": [1], "values": [float("nan")]}])
        self.assertEqual(series["results"][0]["values"], [None])

    def test_batches_keep_order(self):
        points = [{"timestamp": t, "labels": {}, "values": {"x": t}} for t in range(5)]
        self.assertEqual([r["timestamp"] for r in self.client.score_all(points, batch=2)], list(range(5)))
        self.assertEqual(len(Canned.seen), 3)

    def test_pages_are_followed(self):
        self.assertEqual(self.client.groups(), ["a", "b"])

    def test_busy_is_waited_for_and_no_is_said(self):
        Canned.busy = 2
        self.assertEqual(self.client.groups(), ["a", "b"])
        with self.assertRaises(Problem) as caught:
            self.client.group('{host="x/y"}')
        self.assertEqual((caught.exception.status, caught.exception.code), (422, "unknown_group"))
        self.assertEqual(Canned.seen[-1][0], "/v1/groups/%7Bhost%3D%22x%2Fy%22%7D")

    def test_readiness(self):
        self.client.wait_until_ready(1)
        with self.assertRaises(TimeoutError):
            Client("http://127.0.0.1:9", retries=0).wait_until_ready(0.01)


if __name__ == "__main__":
    unittest.main()
