"""A WebSocket app and its client on the websockets library.

Usage: websocket.py server            says where it listens
       websocket.py client HOST:PORT [ID]  prints a line per fact, fails at the first surprise
"""

import asyncio
import os
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosedError


async def answer(socket):
    await socket.send("welcome " + socket.request.headers.get("x-spiffe-id", "stranger"))
    async for message in socket:
        if message == "leave":
            await socket.close(4001, "as you wish")
        await socket.send(message)


async def server():
    async with serve(answer, "127.0.0.1", 0, subprotocols=["chat"], max_size=8 << 20) as listener:
        host, port = listener.sockets[0].getsockname()
        print(f"listening on {host}:{port}", flush=True)
        await asyncio.get_running_loop().create_future()


def check(right, what, *facts):
    if not right:
        sys.exit(f"{what}: {facts}")
    print("ok", what, flush=True)


async def client(address, caller="spiffe://demo.org/workload/client"):
    async with connect(f"ws://{address}/api/chat", subprotocols=["chat"], max_size=8 << 20, proxy=None) as socket:
        greeting = await socket.recv()
        check(greeting == f"welcome {caller}", "greeting", greeting)
        check(socket.subprotocol == "chat", "subprotocol", socket.subprotocol)
        for message in ["hello", "", os.urandom(3 << 20), "ü" * 100_000]:
            await socket.send(message)
            check(await socket.recv() == message, f"message of {len(message)}")
        await socket.send(["one ", "two ", "three"])
        check(await socket.recv() == "one two three", "fragments")
        latency = await (await socket.ping())
        check(latency > 0, "ping")
        await socket.send("leave")
        try:
            while True:
                await socket.recv()
        except ConnectionClosedError as end:
            check((end.rcvd.code, end.rcvd.reason) == (4001, "as you wish"), "close", end)
    open = lambda: connect(f"ws://{address}/api/chat", subprotocols=["chat"], proxy=None)
    # Two at a time do not get in each other's way.
    async with open() as one, open() as two:
        await one.recv(), await two.recv()
        await one.send("one")
        await two.send("two")
        check((await one.recv(), await two.recv()) == ("one", "two"), "side by side")
    print("all is well", flush=True)


if __name__ == "__main__":
    asyncio.run(server() if sys.argv[1] == "server" else client(*sys.argv[2:]))
