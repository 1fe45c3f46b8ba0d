import struct

import websocket
from websocket import ABNF

import cases


class Session(cases.Session):
    """The client blocks, and so does this class, because there is one session at a time."""

    def __init__(self, conn):
        self.conn = conn

    @classmethod
    async def open(cls, url, protocols, heartbeat):
        return cls(websocket.create_connection(url, subprotocols=protocols, timeout=100))

    async def send(self, message):
        if isinstance(message, bytes):
            self.conn.send_binary(message)
        else:
            self.conn.send(message)

    async def receive(self):
        opcode, data = self.conn.recv_data()
        if opcode == ABNF.OPCODE_CLOSE:
            raise cases.Closed(struct.unpack("!H", data[:2])[0], data[2:].decode())
        return data.decode() if opcode == ABNF.OPCODE_TEXT else data

    async def receive_for(self, seconds):
        self.conn.settimeout(seconds)
        try:
            await self.receive()
        except websocket.WebSocketTimeoutException:
            self.conn.settimeout(100)

    async def send_fragments(self, parts):
        for i, part in enumerate(parts):
            opcode = ABNF.OPCODE_TEXT if i == 0 else ABNF.OPCODE_CONT
            self.conn.send_frame(ABNF.create_frame(part, opcode, int(i == len(parts) - 1)))

    async def ping(self, payload):
        self.conn.ping(payload)
        cases.check(self.conn.recv_data(control_frame=True), (ABNF.OPCODE_PONG, payload))

    def subprotocol(self):
        return self.conn.subprotocol

    async def close(self, code, reason):
        # The client's close method does not return the server's answer.
        self.conn.send_close(code, reason.encode())
        try:
            await self.receive()
        except cases.Closed as closed:
            self.conn.shutdown()
            return closed.args[0]


cases.main(Session)
