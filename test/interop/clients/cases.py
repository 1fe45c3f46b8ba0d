"""The cases of the Python clients. Each client is a subclass of Session."""

import asyncio
import random
import sys
import time

TEXT = "Grüße, 世界 🌍"
MEBIBYTE = 1 << 20
PING = b"are you there?"
CLIENT_CLOSE = 4001, "closed by the client: ✓"
SERVER_CLOSE = 4002, "closed by the server: ✓"
HEARTBEAT, HOLD = 3, 7  # in seconds


class Closed(Exception):
    """receive raises it, with code and reason, if the server has closed the connection."""


class Session:
    """A connection. Each client implements these methods."""

    @classmethod
    async def open(cls, url, protocols, heartbeat):
        """heartbeat is the time between the client's pings in seconds, or None for its default."""
        raise NotImplementedError

    async def send(self, message):
        raise NotImplementedError

    async def receive(self):
        raise NotImplementedError

    async def send_fragments(self, parts):
        raise NotImplementedError

    async def ping(self, payload):
        """Sends a ping and returns when the pong with the same payload has arrived."""
        raise NotImplementedError

    async def receive_for(self, seconds):
        """Receives messages for this time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                await asyncio.wait_for(self.receive(), left)
            except asyncio.TimeoutError:
                return

    def subprotocol(self):
        raise NotImplementedError

    async def close(self, code, reason):
        """Closes the connection and returns the code in the server's answer."""
        raise NotImplementedError


def check(got, want):
    if got != want:
        raise AssertionError(f"got {got!r:.100}, want {want!r:.100}")


async def expect(session, message):
    check(await session.receive(), message)


async def echo(session, message):
    await session.send(message)
    await expect(session, message)


async def leave(session, code=1000, reason=""):
    check(await session.close(code, reason), code)


def counted(count, message):
    return f"{count}: {message}" + "a" * 5000 + "b" * 5000


async def text(open):
    session = await open()
    await echo(session, TEXT)
    await echo(session, "")
    await leave(session)


async def binary(open):
    session = await open()
    await echo(session, bytes(range(256)))
    await echo(session, b"")
    await leave(session)


async def large(open):
    session = await open()
    await echo(session, "x" * MEBIBYTE)
    await echo(session, bytes(i % 251 for i in range(MEBIBYTE)))
    await leave(session)


async def send_fragments(open):
    session = await open()
    await session.send_fragments(["frag", "men", "ted"])
    await expect(session, counted(3, "fragmented"))
    await leave(session)


async def receive_fragments(open):
    session = await open()
    await session.send(TEXT)
    await expect(session, counted(1, TEXT))
    await leave(session)


async def client_ping(open):
    session = await open()
    await session.ping(PING)
    await leave(session)


async def server_ping(open):
    session = await open()
    await expect(session, "pong")
    await leave(session)


async def subprotocol(open):
    session = await open(["chat.v0", "chat.v1"])
    await expect(session, "chat.v1")
    check(session.subprotocol(), "chat.v1")
    await leave(session)


async def client_close(open):
    session = await open()
    await leave(session, *CLIENT_CLOSE)


async def server_close(open):
    session = await open()
    try:
        message = await session.receive()
    except Closed as closed:
        check(closed.args, SERVER_CLOSE)
    else:
        raise AssertionError(f"got {message!r:.100}, want a close")


def varied_message(i):
    """JSON of different sizes, bytes that do not become smaller, and empty messages."""

    def json(count):
        return "".join(
            f'{{"type":"ticker","sequence":{i * 1000 + j},"price":"{random.uniform(0, 1000):.2f}",'
            f'"side":"{random.choice(["buy", "sell"])}","name":"Größe {random.randrange(1000)}"}},'
            for j in range(count)
        )

    kind = i % 10
    if kind == 0:
        return "é" * (i // 10 % 5)
    if kind == 1:
        return random.randbytes(random.randrange(200))
    if kind == 2:
        return json(random.randint(1, 5)).encode()
    if kind == 3:
        return json(random.randint(1, 300))
    return json(1)


async def many_messages(open):
    """For compression."""
    session = await open()
    for i in range(2000):
        await echo(session, varied_message(i))
    await leave(session)


deflate_default = deflate_alone = deflate_window = many_messages


async def idle(open):
    session = await open()
    await expect(session, "awake")
    await echo(session, "thanks")
    await leave(session)


async def hold(session, wait):
    """Awaits wait, and then closes the connection unless it has ended. The server knows how it has ended."""
    try:
        await wait
        await session.close(1000, "")
    except Exception as error:
        print("note:", repr(error), file=sys.stderr)


async def silent(open):
    session = await open()
    await hold(session, session.receive_for(HOLD))


async def heartbeat(open):
    session = await open(heartbeat=HEARTBEAT)
    await hold(session, session.receive_for(HOLD))


heartbeat_send_only = heartbeat_unanswered = heartbeat


async def not_receiving(open):
    """Only the application does not receive."""
    await hold(await open(), asyncio.sleep(HOLD))


async def blocked(open):
    """The thread of the event loop is blocked."""
    session = await open()
    time.sleep(HOLD)
    await hold(session, asyncio.sleep(0))


close_unanswered = not_receiving


async def run(session_class):
    base, *names = sys.argv[1:]
    failed = False
    for name in names:

        async def open(protocols=None, heartbeat=None):
            return await session_class.open(base + name, protocols, heartbeat)

        try:
            await globals()[name.replace("-", "_")](open)
            print("ok", name, flush=True)
        except Exception as error:
            failed = True
            print(f"failed {name}: {error!r}", flush=True)
    return failed


def main(session_class):
    """Runs the cases on the command line. The first argument is the base URL."""
    sys.exit(asyncio.run(run(session_class)))
