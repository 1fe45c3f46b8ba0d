import aiohttp
from aiohttp import WSMsgType

import cases


# The bits of the windows in the cases with compression, which is off by default.
DEFLATE = {"deflate-default": 15, "deflate-window": 9}


class Session(cases.Session):
    def __init__(self, http, conn):
        self.http = http
        self.conn = conn

    @classmethod
    async def open(cls, url, protocols, heartbeat):
        http = aiohttp.ClientSession()
        try:
            bits = DEFLATE.get(url.rsplit("/", 1)[-1], 0)
            return cls(http, await http.ws_connect(url, protocols=protocols or (), heartbeat=heartbeat, compress=bits))
        except Exception:
            await http.close()
            raise

    async def send(self, message):
        if isinstance(message, bytes):
            await self.conn.send_bytes(message)
        else:
            await self.conn.send_str(message)

    async def receive(self):
        message = await self.conn.receive()
        if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            return message.data
        await self.http.close()
        if message.type == WSMsgType.CLOSE:
            raise cases.Closed(message.data, message.extra)
        raise AssertionError(f"got {message}")

    async def ping(self, payload):
        self.conn._autoping = False  # otherwise aiohttp handles the pong
        await self.conn.ping(payload)
        message = await self.conn.receive()
        cases.check((message.type, bytes(message.data)), (WSMsgType.PONG, payload))

    def subprotocol(self):
        return self.conn.protocol

    async def close(self, code, reason):
        await self.conn.close(code=code, message=reason.encode())
        await self.http.close()
        return self.conn.close_code


cases.main(Session)
