"""A small server that speaks W&B's protocol as far as runs, artifacts, `wandb sync` and saved views need it.

It keeps what it is told. A server of W&B itself cannot be had in a test, and what a client does can be seen from here.
"""

import base64
import contextlib
import gzip
import json
import re
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY = "team"
KEY = "k" * 40
Variables = dict[str, Any]


@dataclass
class ToldRun:
    """What the server was told of a run: its settings, the lines of its streams, its files."""

    name: str
    about: Variables = field(default_factory=dict)  # variables of UpsertBucket, later ones on top
    lines: dict[str, dict[int, str]] = field(default_factory=dict)  # file of the stream -> line number -> content
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None

    @property
    def history(self) -> list[dict[str, Any]]:
        """The rows of `run.log`, in order."""
        return self.rows("wandb-history.jsonl")

    @property
    def summary(self) -> dict[str, Any]:
        """The last one told."""
        return (self.rows("wandb-summary.json") or [{}])[-1]

    @property
    def config(self) -> dict[str, Any]:
        """Setting -> value, W&B's own entries left out."""
        return {key: item["value"] for key, item in json.loads(self.about["config"]).items() if key != "_wandb"}

    def rows(self, file: str) -> list[dict[str, Any]]:
        """The lines of a stream."""
        return [json.loads(line) for _, line in sorted(self.lines.get(file, {}).items())]

    def bucket(self) -> dict[str, Any]:
        """What the server answers about the run."""
        tail = [line for _, line in sorted(self.lines.get("wandb-history.jsonl", {}).items())][-1:]
        about = {"id": f"id-{self.name}", "name": self.name, "displayName": self.about.get("displayName")}
        about |= {"description": None, "sweepName": None, "tags": [], "notes": None, "wandbConfig": '{"t": 1}'}
        about |= {"config": self.about.get("config", "{}"), "summaryMetrics": json.dumps(self.summary)}
        about |= {"historyLineCount": len(self.history), "historyTail": json.dumps(tail), "eventsTail": "[]"}
        project = {"id": "project-1", "name": self.about.get("project"), "entity": {"id": "entity-1", "name": ENTITY}}
        return {**about, "eventsLineCount": 0, "logLineCount": 0, "project": project}


class WandbServer(ThreadingHTTPServer):
    """Listens on a port of this machine until it is closed.

    Attributes:
        runs: id -> what was told of it.
        artifacts: name -> the CreateArtifact input.
        stored: path of an upload -> its bytes.
        views: the UpsertView inputs.
        requests: operations of GraphQL, `file_stream` and `upload`, in order.
        refuses: names of requests, as in `requests`, that are answered with 503.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.runs: dict[str, ToldRun] = {}
        self.artifacts: dict[str, Variables] = {}
        self.stored: dict[str, bytes] = {}
        self.views: list[Variables] = []
        self.requests: list[str] = []
        self.refuses: set[str] = set()
        self._connections: list[socket.socket] = []
        threading.Thread(target=self.serve_forever, daemon=True, kwargs={"poll_interval": 0.02}).start()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection, which the client may keep for later requests."""
        self._connections.append(request)
        super().process_request(request, client_address)

    def close(self) -> None:
        """Be gone: take no connection, and answer on none."""
        self.shutdown()
        self.server_close()
        for connection in self._connections:
            with contextlib.suppress(OSError):  # closed by the client
                connection.shutdown(socket.SHUT_RDWR)

    def run_of(self, name: str) -> ToldRun:
        """The run of this id, a new one if need be."""
        return self.runs.setdefault(name, ToldRun(name))

    def handle_error(self, *_: Any) -> None:
        """Clients that go away without a word are none."""

    def stream(self, name: str, told: dict[str, Any]) -> None:
        """Lines appended to a run's files from an offset on, and how the run ended."""
        run = self.run_of(name)
        for file, part in told.get("files", {}).items():
            lines = run.lines.setdefault(file, {})
            lines |= {part["offset"] + number: line for number, line in enumerate(part["content"])}
        if told.get("complete"):
            run.exit_code = told["exitcode"]

    # ---- GraphQL: an operation's name in snake case ----

    def viewer(self, _: Variables) -> dict[str, Any]:
        about = {"id": "user-1", "entity": ENTITY, "username": "someone", "email": "", "flags": "{}", "admin": False}
        return {"viewer": {**about, "teams": {"edges": [{"node": {"name": ENTITY}}]}}}

    get_default_entity = viewer

    def server_features_query(self, _: Variables) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def run_resume_status(self, asked: Variables) -> dict[str, Any]:
        run = self.runs.get(asked["name"])
        bucket = run.bucket() if run else None
        return {"model": {"id": "m", "name": asked["project"], "entity": {"id": "e", "name": ENTITY}, "bucket": bucket}}

    def upsert_bucket(self, asked: Variables) -> dict[str, Any]:
        inserted = asked["name"] not in self.runs
        run = self.run_of(asked["name"])
        run.about |= {key: value for key, value in asked.items() if value is not None}
        return {"upsertBucket": {"bucket": run.bucket(), "inserted": inserted}}

    def create_run_files(self, asked: Variables) -> dict[str, Any]:
        urls = [{"name": name, "uploadUrl": f"{self.url}/run/{asked['run']}/{name}"} for name in asked["files"]]
        return {"createRunFiles": {"runID": f"id-{asked['run']}", "uploadHeaders": [], "files": urls}}

    def create_artifact(self, asked: Variables) -> dict[str, Any]:
        told = asked["input"]
        self.artifacts[told["artifactCollectionName"]] = told
        artifact = {"id": told["artifactCollectionName"], "state": "PENDING", "artifactSequence": {}}
        return {"createArtifact": {"artifact": {**artifact, "artifactSequence": {"latestArtifact": None}}}}

    def create_artifact_manifest(self, asked: Variables) -> dict[str, Any]:
        file = {"id": "f", "name": asked["name"], "displayName": asked["name"], "uploadHeaders": []}
        file["uploadUrl"] = f"{self.url}/artifact/{asked['artifactID']}/{asked['name']}"
        return {"createArtifactManifest": {"artifactManifest": {"id": asked["artifactID"], "file": file}}}

    def update_artifact_manifest(self, asked: Variables) -> dict[str, Any]:
        file = {"id": "f", "name": "m", "displayName": "m", "uploadHeaders": []}
        file["uploadUrl"] = f"{self.url}/artifact/{asked['artifactManifestID']}/wandb_manifest.json"
        return {"updateArtifactManifest": {"artifactManifest": {"id": asked["artifactManifestID"], "file": file}}}

    def create_artifact_files(self, asked: Variables) -> dict[str, Any]:
        nodes = []
        for told in asked["input"]["artifactFiles"]:
            where = f"artifact/{told['artifactID']}/{told['name']}"
            node = {
                "id": "f",
                "name": told["name"],
                "displayName": told["name"],
                "artifact": {"id": told["artifactID"]},
            }
            node |= {"uploadUrl": f"{self.url}/{where}", "uploadHeaders": [], "storagePath": where}
            nodes.append({"node": {**node, "uploadMultipartUrls": None}})
        return {"createArtifactFiles": {"files": {"edges": nodes}}}

    def artifact_type(self, asked: Variables) -> dict[str, Any]:
        return {"project": {"artifact": None}}  # none of this name yet

    def upsert_view2(self, asked: Variables) -> dict[str, Any]:
        self.views.append(asked)
        return {"upsertView": {"view": {"id": "view-1", "name": asked["name"]}, "inserted": True}}

    def commit_artifact(self, asked: Variables) -> dict[str, Any]:
        return {"commitArtifact": {"artifact": {"id": asked["artifactID"], "digest": "d"}}}


class Handler(BaseHTTPRequestHandler):
    """Answers GraphQL, streams and uploads; everything else with an empty object."""

    server: WandbServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def do_POST(self) -> None:
        """A GraphQL operation, or lines of a run's files."""
        body, stream = self._body(), self.path.endswith("/file_stream")
        asked = json.loads(body) if self.path == "/graphql" else {}
        name = "file_stream" if stream else _operation(asked)
        if self._refused(name):
            return
        if stream:
            self.server.stream(self.path.split("/")[-2], json.loads(body))
        reply = getattr(self.server, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower(), lambda _: {})
        self._answer({"data": reply(asked.get("variables") or {})} if asked else {})

    def do_PUT(self) -> None:
        """The content of a file, of a run or of an artifact."""
        body = self._body()
        if self._refused("upload"):
            return
        self.server.stored[self.path] = body
        kind, name, file = self.path.strip("/").split("/", 2)
        if kind == "run":
            self.server.run_of(name).files[file] = body
        self._answer({})

    def _refused(self, name: str) -> bool:
        """Whether such requests are refused, or the server does not know the key of a call of its API."""
        self.server.requests.append(name)
        sent = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic "))
        known = self.command == "PUT" or "/otel/" in self.path or sent == f"api:{KEY}".encode()
        refused = name in self.server.refuses
        if refused or not known:
            self._answer({"errors": [{"message": "refused"}]}, 503 if refused else 401)
        return refused or not known

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _answer(self, content: Any, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _operation(asked: dict[str, Any]) -> str:
    """The name of a GraphQL operation; empty for none."""
    words = re.split(r"[({]", asked.get("query", ""))[0].split()
    return asked.get("operationName") or (words[-1] if words else "")
