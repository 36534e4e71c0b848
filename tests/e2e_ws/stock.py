"""Requests, publishes and subscribes over a gateway's WebSocket with the stock client `websockets`."""

import asyncio
import json
import struct
import sys

import websockets

URL = f"ws://{sys.argv[1]}/ws"


async def speak_json():
    async with websockets.connect(URL, subprotocols=["ipc-gateway.v1+json"]) as socket:
        assert socket.subprotocol == "ipc-gateway.v1+json"

        async def ask(**message):
            await socket.send(json.dumps(message))
            return json.loads(await socket.recv())

        reply = await ask(op="request", id=1, subject="demo.echo", payload={"text": "grüße"})
        assert reply["id"] == 1 and reply["payload"] == {"text": "grüße"}, reply
        assert await ask(op="subscribe", id="s", subject="news.>") == {"op": "accepted", "id": "s"}
        await socket.send(json.dumps({"op": "publish", "id": 2, "subject": "news.a", "payload": 5}))
        told = [json.loads(await socket.recv()) for _ in range(2)]
        kinds = {message["op"]: message for message in told}
        assert kinds["accepted"]["id"] == 2 and kinds["delivery"]["payload"] == 5, told
        error = await ask(op="request", id=3, subject="nobody.listens")
        assert error["error"]["kind"] == "no_responders", error
        await (await socket.ping(b"hello"))
    assert socket.close_code == 1000, socket.close_code


def frame(kind, number, subject=b"", payload=b""):
    fields = struct.pack(">BH", 1, len(subject)) + subject if subject else b""
    body = struct.pack(">BBQH", 2, 0, number, len(fields)) + fields + payload
    return struct.pack(">IBB", len(body) + 6, 2, kind) + body


def parse(message):
    length, version, kind, _, _, number, fields = struct.unpack(">IBBBBQH", message[:18])
    assert length == len(message) and version == 2
    return kind, number, message[18 + fields:]


async def speak_binary():
    async with websockets.connect(URL, subprotocols=["ipc-gateway.v1+binary"]) as socket:
        assert socket.subprotocol == "ipc-gateway.v1+binary"
        await socket.send(frame(0x22, 1, b"demo.echo", b"\x00\xff"))
        assert parse(await socket.recv()) == (0x32, 1, b"\x00\xff")
        await socket.send(frame(0x23, 2, b"raw.*"))
        assert parse(await socket.recv()) == (0x31, 2, b"")
        await socket.send(frame(0x21, 3, b"raw.a", b"data"))
        told = {parse(await socket.recv()), parse(await socket.recv())}
        assert told == {(0x31, 3, b""), (0x34, 2, b"data")}, told


async def main():
    await speak_json()
    await speak_binary()
    print("all is well")


asyncio.run(main())
