"""What uvicorn can do at best: one fixed answer, over a socket like ours."""

import socket
import sys
from typing import Any

import uvicorn


async def answer(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"17")]})
    await send({"type": "http.response.body", "body": b'{"status":"pass"}'})


listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
config = uvicorn.Config(answer, log_level="error", access_log=False, lifespan="off", http="h11")
uvicorn.Server(config).run(sockets=[listener])
