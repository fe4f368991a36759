"""Whoever sits on a port and says that he is the embedded MongoDB: a primary that lets everybody in.

    python stranger.py PORT FOLDER [OPTIONS]

What it is told goes into FOLDER/heard, and FOLDER/ready is there when it listens.
"""

import socketserver
import struct
import sys
from pathlib import Path
from typing import Any

import bson

HEADER = struct.Struct("<iiii")
OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013


def answer(command: dict[str, Any], port: int, data: str) -> dict[str, Any]:
    name = next(iter(command)).lower()
    if name in ("hello", "ismaster"):
        host = f"127.0.0.1:{port}"
        return {
            "ok": 1, "isWritablePrimary": True, "ismaster": True, "helloOk": True, "setName": "whimbrel", "hosts": [host], "me": host,
            "primary": host, "setVersion": 1, "minWireVersion": 0, "maxWireVersion": 17, "maxBsonObjectSize": 16777216,
            "maxMessageSizeBytes": 48000000, "maxWriteBatchSize": 100000, "logicalSessionTimeoutMinutes": 30,
            "saslSupportedMechs": ["PLAIN", "SCRAM-SHA-256"],
        }  # fmt: skip
    if name == "getcmdlineopts":
        return {"ok": 1, "parsed": {"storage": {"dbPath": data}}}
    if name == "saslstart":
        nonce = bytes(command["payload"]).decode().partition(",r=")[2]
        return {"ok": 1, "conversationId": 1, "done": False, "payload": f"r={nonce}x,s=AAAA,i=5000".encode()}
    if name == "saslcontinue":  # it cannot know what belongs here
        return {"ok": 1, "conversationId": 1, "done": True, "payload": b"v=" + b"A" * 43 + b"="}
    return {"ok": 1, "n": 1, "users": []}


class Stranger(socketserver.BaseRequestHandler):
    port, data, heard = 0, "", Path()

    def handle(self) -> None:
        while (head := self._read(HEADER.size)) is not None:
            size, number, _, kind = HEADER.unpack(head)
            body = self._read(size - HEADER.size) or b""
            with self.heard.open("ab") as file:
                file.write(body)
            if kind == OP_QUERY:
                at = body.index(b"\0", 4) + 9
                said = bson.encode(answer(bson.decode(body[at:]), self.port, self.data))
                reply, code = struct.pack("<iqii", 8, 0, 0, 1) + said, OP_REPLY
            else:
                length = struct.unpack_from("<i", body, 5)[0]
                said = bson.encode(answer(bson.decode(body[5 : 5 + length]), self.port, self.data))
                reply, code = b"\0\0\0\0\0" + said, OP_MSG
            self.request.sendall(HEADER.pack(HEADER.size + len(reply), 1, number, code) + reply)

    def _read(self, size: int) -> bytes | None:
        found = b""
        while len(found) < size:
            part = self.request.recv(size - len(found))
            if not part:
                return None
            found += part
        return found


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def main() -> None:
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    with Server(("127.0.0.1", port), Stranger) as server:
        Stranger.port, Stranger.heard = server.server_address[1], folder / "heard"
        Stranger.data = sys.argv[sys.argv.index("--dbpath") + 1] if "--dbpath" in sys.argv else ""
        (folder / "ready").touch()
        server.serve_forever()


if __name__ == "__main__":
    main()
