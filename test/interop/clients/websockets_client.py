import websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

import cases


# The settings of the cases with compression.
DEFLATE = {
    "deflate-alone": {"server_no_context_takeover": True, "client_no_context_takeover": True},
    "deflate-window": {"server_max_window_bits": 9, "client_max_window_bits": 9},
}


class Session(cases.Session):
    def __init__(self, conn):
        self.conn = conn

    @classmethod
    async def open(cls, url, protocols, heartbeat):
        pings = {"ping_interval": heartbeat, "ping_timeout": heartbeat} if heartbeat else {}
        deflate = {}
        if settings := DEFLATE.get(url.rsplit("/", 1)[-1]):
            deflate = {"compression": None, "extensions": [ClientPerMessageDeflateFactory(**settings)]}
        return cls(await websockets.connect(url, subprotocols=protocols, **pings, **deflate))

    async def send(self, message):
        await self.conn.send(message)

    async def receive(self):
        try:
            return await self.conn.recv()
        except websockets.ConnectionClosed as closed:
            raise cases.Closed(closed.rcvd and closed.rcvd.code, closed.rcvd and closed.rcvd.reason)

    async def send_fragments(self, parts):
        # The client ends the message with an empty frame, so this sends one frame less.
        await self.conn.send([*parts[:-2], parts[-2] + parts[-1]])

    async def ping(self, payload):
        await (await self.conn.ping(payload))

    def subprotocol(self):
        return self.conn.subprotocol

    async def close(self, code, reason):
        await self.conn.close(code, reason)
        return self.conn.close_code


cases.main(Session)
