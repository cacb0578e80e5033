"""One method a route; bodies and answers are the server's own (see `/v1/openapi.json`)."""

import json
import math
import os
import time
import urllib.error
import urllib.parse
import urllib.request

DEFAULT_URL = "http://127.0.0.1:8780"


class Problem(Exception):
    """What the server said no to: `status`, the stable `code`, and `detail` (RFC 9457)."""

    def __init__(self, status, body):
        self.status = status
        self.body = body
        self.code = body.get("code")
        self.detail = body.get("detail") or body.get("title") or ""
        super().__init__(f"{status} {self.code or ''}: {self.detail}".strip())


class Client:
    """A client of the server at `url` (default: the environment's `FOREGLOW_URL`, else port 8780 of this machine).

    A busy server answers 503 and says when to come back; that is waited for, `retries` times.
    """

    def __init__(self, url=None, tenant=None, timeout=30.0, retries=5):
        self.url = (url or os.environ.get("FOREGLOW_URL") or DEFAULT_URL).rstrip("/")
        self.tenant = tenant
        self.timeout = timeout
        self.retries = retries
        # The server is near: a proxy that the environment names has no part in it.
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    # scoring

    def score(self, points, **query):
        """Scores rows, in order, and learns from them: `{"timestamp", "labels", "values": {name: value}}` each.

        NaN and None are missing values. `dry_run=True` leaves the state; `session="name"` keeps a private one.
        """
        return self.post("/v1/score", {"points": [_row(p) for p in points]}, **query)

    def score_series(self, series, **query):
        """Scores columns: `{"labels": {"__name__": ...}, "timestamps": [...], "values": [...]}` each. The fast form."""
        return self.post("/v1/score", {"series": [{**s, "values": _values(s["values"])} for s in series]}, **query)

    def ingest(self, points):
        """The same rows without waiting for the scores: counts of accepted and refused."""
        return self.post("/v1/ingest", {"points": [_row(p) for p in points]})

    def score_all(self, points, batch=1000, **query):
        """Scores any number of rows, `batch` at a time, and returns all results."""
        results = []
        for at in range(0, len(points), batch):
            results += self.score(points[at : at + batch], **query)["results"]
        return results

    # reading

    def groups(self):
        """All groups that the server knows."""
        return self._all("/v1/groups")

    def group(self, group):
        """One group: its model and why, its signals, when it is ready."""
        return self.get("/v1/groups/" + urllib.parse.quote(group, safe=""))

    def anomalies(self, **query):
        """Steps above the alert line."""
        return self._all("/v1/anomalies", **query)

    def incidents(self, **query):
        """Incidents, open and resolved."""
        return self._all("/v1/incidents", **query)

    def models(self):
        """The artifacts that the server has loaded."""
        return self._all("/v1/models")

    def forecast(self, match, horizon, **query):
        """The future of the series that `match` selects, from what the server has seen of them."""
        return self.get("/v1/forecast", **{"match[]": match, "horizon": horizon, **query})

    def is_ready(self):
        """Whether the server takes work."""
        try:
            self._send(urllib.request.Request(self.url + "/readyz"))
            return True
        except (Problem, urllib.error.URLError, ConnectionError):
            return False

    def wait_until_ready(self, seconds=30.0):
        """Waits for a server that is just starting."""
        end = time.monotonic() + seconds
        while not self.is_ready():
            if time.monotonic() > end:
                raise TimeoutError(f"no server is ready at {self.url} after {seconds:g} s: is foreglow-serve running?")
            time.sleep(0.1)

    # tuning

    def configuration(self, entity, parameters, since=None, ref=None):
        """Says that `entity` runs with `parameters` since then (default: now)."""
        body = {"entity": entity, "parameters": parameters, "since": since, "ref": ref}
        return self.post("/v1/configurations", {k: v for k, v in body.items() if v is not None})

    def create_study(self, **study):
        """Creates a study: name, entity, parameters, objective, guard_rails, ..."""
        return self.post("/v1/studies", study)

    def suggest(self, study, client_id, **body):
        """Asks for the next trials; the same client gets its pending ones again."""
        return self.post(f"/v1/studies/{study}/suggest", {"client_id": client_id, **body})

    def recommendations(self):
        """What the server would change, or why nothing."""
        return self.get("/v1/recommendations")

    # any route

    def get(self, path, **query):
        """Reads `path`."""
        return self._send(urllib.request.Request(self.url + path + _query(query)))

    def post(self, path, body, **query):
        """Sends `body` as JSON to `path`."""
        data = json.dumps(body, allow_nan=False).encode()
        headers = {"Content-Type": "application/json"}
        return self._send(urllib.request.Request(self.url + path + _query(query), data=data, headers=headers))

    def _all(self, path, **query):
        """Follows the cursor to the last page."""
        items, cursor = [], None
        while True:
            page = self.get(path, **({**query, "cursor": cursor} if cursor else query))
            items += page["items"]
            cursor = page.get("next_cursor")
            if not cursor:
                return items

    def _send(self, request):
        if self.tenant:
            request.add_header("X-Scope-OrgID", self.tenant)
        for attempt in range(self.retries + 1):
            try:
                with self._open(request, timeout=self.timeout) as answer:
                    text = answer.read()
                    is_json = "json" in answer.headers.get("Content-Type", "")
                    return json.loads(text) if is_json and text else text.decode()
            except urllib.error.HTTPError as error:
                text = error.read()
                if error.code == 503 and attempt < self.retries and error.headers.get("Retry-After"):
                    time.sleep(min(float(error.headers["Retry-After"]), 10.0))
                    continue
                try:
                    body = json.loads(text)
                except ValueError:
                    body = {"detail": text.decode(errors="replace")}
                raise Problem(error.code, body if isinstance(body, dict) else {"detail": body}) from None


def _query(query):
    given = {k: str(v).lower() if isinstance(v, bool) else v for k, v in query.items() if v is not None}
    return "?" + urllib.parse.urlencode(given, doseq=True) if given else ""


def _row(point):
    names = point["values"]
    return {**point, "values": dict(zip(names, _values(names.values())))}


def _values(values):
    """JSON has no NaN and no infinity: missing is null."""
    return [None if v is None or not math.isfinite(v) else float(v) for v in values]
