#!/usr/bin/env python3
"""Publishes numbered messages, consumes them, and checks that all came back in order.

Needs nothing of Leveret but the files in proto/: README.md says how to generate code from them.
"""

import argparse
import socket
import struct
import sys

sys.path.insert(0, f"{sys.path[0]}/generated")
from leveret.v1 import connection_pb2, consume_pb2, frame_pb2, publish_pb2, topology_pb2

CHANNEL, PUBLISHER, CONSUMER = 1, 1, 1
EXCHANGE, QUEUE, KEY = "example.minimal", "example.minimal", "example"
MESSAGES_PER_FRAME, UNCONFIRMED_MAX, FRAME_BYTES_MAX_AT_FIRST = 100, 1000, 8192


class Failed(Exception):
    """What went wrong, in a sentence."""


class Connection:
    """A socket that carries frames: a length of 4 bytes, big endian, and a Frame of that many bytes."""

    def __init__(self, host, port):
        self.socket = socket.create_connection((host, port), timeout=30)
        self.stream = self.socket.makefile("rb")
        self.frame_bytes_max = FRAME_BYTES_MAX_AT_FIRST  # until Connected says what holds from then on
        self.requests, self.waiting = 0, []  # `waiting`: frames that came before the answer awaited

    def send(self, channel=CHANNEL, request=0, **body):
        frame = frame_pb2.Frame(channel=channel, request=request, **body).SerializeToString()
        self.socket.sendall(struct.pack(">I", len(frame)) + frame)

    def ask(self, channel=CHANNEL, **body):
        """Sends a request and returns the body of its answer."""
        self.requests += 1
        self.send(channel, self.requests, **body)
        while True:
            frame = self.read()
            if frame.request == self.requests:
                return getattr(frame, frame.WhichOneof("body"))
            self.waiting.append(frame)

    def next(self, kind):
        frame = self.waiting.pop(0) if self.waiting else self.read()
        if frame.WhichOneof("body") != kind:
            raise Failed(f"expected {kind}, not {frame}")
        return getattr(frame, kind)

    def read(self):
        """The next frame that is not a sign of life. Errors and an early end raise `Failed`."""
        while True:
            if (length := struct.unpack(">I", self.read_bytes(4))[0]) > self.frame_bytes_max:
                raise Failed(f"a frame of {length} bytes is longer than agreed; is this a Leveret port?")
            frame = frame_pb2.Frame.FromString(self.read_bytes(length))
            kind = frame.WhichOneof("body")
            if kind == "error":
                raise Failed(f"{frame.error.code} {frame.error.name}: {frame.error.text}")
            if kind == "close" and frame.close.HasField("error"):
                raise Failed(f"the server closes the connection: {frame.close.error.text}")
            if kind != "heartbeat":
                return frame
            self.send(channel=0, heartbeat=connection_pb2.Heartbeat())

    def read_bytes(self, length):
        if len(data := self.stream.read(length)) < length:
            raise Failed("the server hung up")
        return data


def log_in(connection, user, password):
    connect = connection_pb2.Connect(protocol_version=1, client={"product": "minimal.py"}, vhost="/",
                                     mechanism="PLAIN", response=f"\0{user}\0{password}".encode(),
                                     channel_max=CHANNEL)
    connected = connection.ask(channel=0, connect=connect)
    connection.frame_bytes_max = connected.frame_max
    connection.ask(open_channel=connection_pb2.OpenChannel())
    level = connection_pb2.DurabilityLevel.Name(connected.durability)
    print(f"connected to {connected.server.get('product', 'a server')}, which confirms at {level}")


def declare(connection):
    connection.ask(declare_exchange=topology_pb2.DeclareExchange(name=EXCHANGE, type="direct", durable=True))
    connection.ask(declare_queue=topology_pb2.DeclareQueue(name=QUEUE, durable=True))
    binding = topology_pb2.Binding(source=EXCHANGE, destination=QUEUE, routing_key=KEY,
                                   destination_kind=topology_pb2.DESTINATION_KIND_QUEUE)
    connection.ask(bind=topology_pb2.Bind(binding=binding))
    connection.ask(purge_queue=topology_pb2.PurgeQueue(name=QUEUE))  # what an earlier run left
    target = publish_pb2.PublishTarget(exchange=EXCHANGE, routing_key=KEY, mandatory=True)
    connection.ask(open_publisher=publish_pb2.OpenPublisher(publisher=PUBLISHER, target=target))


def publish(connection, count):
    """Sends messages 1 to `count`, their numbers as bodies, and waits until each has its confirm."""
    sent = confirmed = 0
    while confirmed < count:
        if sent < count and sent - confirmed < UNCONFIRMED_MAX:
            frame = publish_pb2.Publish(publisher=PUBLISHER, first_sequence=sent + 1)
            for number in range(sent + 1, min(sent + MESSAGES_PER_FRAME, count) + 1):
                frame.items.add().message.body = str(number).encode()
            connection.send(publish=frame)
            sent += len(frame.items)
            continue
        for confirm in connection.next("confirm").ranges:
            if confirm.HasField("refusal"):
                raise Failed(f"message {confirm.first} was refused: {confirm.refusal.text}")
            confirmed += (confirm.last or confirm.first) - confirm.first + 1
    print(f"published {count} messages, all confirmed")


def consume(connection, count):
    """Reads and accepts `count` messages, which must be 1 to `count` in this order."""
    connection.ask(consume=consume_pb2.Consume(queue=QUEUE, consumer=CONSUMER, prefetch=UNCONFIRMED_MAX))
    received = 0
    while received < count:
        deliver = connection.next("deliver")
        for item in deliver.items:
            received += 1
            if item.message.body != str(received).encode():
                raise Failed(f"message {received} was expected, {item.message.body!r} came")
        last = deliver.first_tag + len(deliver.items) - 1
        settled = consume_pb2.SettleRange(first=deliver.first_tag, last=last, outcome=consume_pb2.OUTCOME_ACCEPTED)
        # The answer to the last one says that the broker has taken note of all.
        settle = consume_pb2.Settle(consumer=CONSUMER, ranges=[settled])
        (connection.ask if received == count else connection.send)(settle=settle)
    print(f"received {count} messages in order, all accepted")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    defaults = {"host": "127.0.0.1", "port": 7672, "count": 10_000, "user": "guest", "password": "guest"}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", default=default, type=type(default), help=f"default: {default}")
    given = parser.parse_args()
    try:
        connection = Connection(given.host, given.port)
        log_in(connection, given.user, given.password)
        declare(connection)
        publish(connection, given.count)
        consume(connection, given.count)
        connection.send(channel=0, close=connection_pb2.Close())
        connection.next("close")
        print("ok")
    except (Failed, OSError) as error:
        sys.exit(f"minimal.py: {error}")


if __name__ == "__main__":
    main()
