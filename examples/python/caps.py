#!/usr/bin/env python3
"""Parcels: two vendors, a driver, a hub that logs; one vendor is away, comes back, and hears all of it, in order.

Needs what minimal.py needs, and stands beside it. Whatever is not as it should be ends it with exit code 1.
"""

import argparse
import sys

from minimal import CHANNEL, Connection, Failed, log_in
from leveret.v1 import connection_pb2, consume_pb2, journey_pb2, journey_rule_pb2, message_pb2, publish_pb2
from leveret.v1 import subscription_pb2, topology_pb2

EXCHANGE = "example.caps"
ALLOWED = ["pickup.*", "in-transit.*", "delivered.*"]
ACME, FLOWERS = "acme-widgets", "1-800-flowers"
HUB, DRIVERS = f"{EXCHANGE}.hub-log", f"{EXCHANGE}.drivers"
PATTERNS = {HUB: ["#"], DRIVERS: ["pickup.*"],
            **{f"{EXCHANGE}.{store}": [f"in-transit.{store}", f"delivered.{store}"] for store in (ACME, FLOWERS)}}


def check(what, got, expected):
    if got != expected:
        raise Failed(f"{what}: expected {expected}, got {got}")


class Client:
    """Somebody who takes part, with a connection of its own, over which it publishes or consumes."""

    def __init__(self, given):
        self.connection, self.sequence = Connection(given.host, given.port), 0
        log_in(self.connection, given.user, given.password)

    def lay(self):
        """Makes what all of them need. Whoever comes first does, so it does not matter who that is."""
        allowed = message_pb2.FieldValue(list=message_pb2.FieldList(
            values=[message_pb2.FieldValue(text=pattern) for pattern in ALLOWED]))
        self.connection.ask(declare_exchange=topology_pb2.DeclareExchange(
            name=EXCHANGE, type="topic", durable=True,
            arguments=message_pb2.FieldTable(fields={"x-allowed-keys": allowed})))
        for name, patterns in PATTERNS.items():
            bindings = [subscription_pb2.SubscriptionBinding(exchange=EXCHANGE, routing_key=key) for key in patterns]
            self.connection.ask(subscribe=subscription_pb2.Subscribe(name=name, bindings=bindings, keep=True))
        rule = journey_rule_pb2.JourneyRule(scope=journey_rule_pb2.JOURNEY_SCOPE_EXCHANGE, name=EXCHANGE,
                                            per_million=1_000_000)
        self.connection.ask(keep_journeys=journey_pb2.KeepJourneys(rule=rule))

    def tidy(self):
        for name in PATTERNS:
            self.connection.ask(unsubscribe=subscription_pb2.Unsubscribe(name=name))
        scope = journey_rule_pb2.JOURNEY_SCOPE_EXCHANGE
        self.connection.ask(keep_no_journeys=journey_pb2.KeepNoJourneys(scope=scope, name=EXCHANGE))
        self.connection.ask(delete_exchange=topology_pb2.DeleteExchange(name=EXCHANGE))

    def publish(self, event, store, order):
        """Publishes an event and waits for its confirm: the refusal in it, or `None`."""
        self.sequence += 1
        target = publish_pb2.PublishTarget(exchange=EXCHANGE, routing_key=f"{event}.{store}", mandatory=True)
        frame = publish_pb2.Publish(first_sequence=self.sequence, target=target)
        message = frame.items.add().message
        message.body = f'{{"store": "{store}", "orderId": "{order}"}}'.encode()
        message.properties.message_id = order
        self.connection.send(publish=frame)
        fate = self.connection.next("confirm").ranges[0]
        return fate.refusal if fate.HasField("refusal") else None

    def listen(self, subscription):
        queue = self.connection.ask(subscribe=subscription_pb2.Subscribe(name=subscription)).queue
        self.connection.ask(consume=consume_pb2.Consume(queue=queue, consumer=CHANNEL, prefetch=1))

    def hear(self):
        """Takes the next event, accepts it, and waits until the broker has taken note: its key and its order."""
        deliver = self.connection.next("deliver")
        item = deliver.items[0]
        key = item.routing_key if item.HasField("routing_key") else deliver.routing_key
        settled = consume_pb2.SettleRange(first=deliver.first_tag, outcome=consume_pb2.OUTCOME_ACCEPTED)
        self.connection.ask(settle=consume_pb2.Settle(consumer=CHANNEL, ranges=[settled]))
        return key, item.message.properties.message_id

    def receipts(self, order):
        """Of each event of an order, by subscription, how it stands with it. Of an earlier run there may be others, which come
        later."""
        told = self.connection.ask(tell_journeys=journey_pb2.TellJourneys(id=order, receipts_only=True))
        state = lambda receipt: journey_pb2.ReceiptState.Name(receipt.state).removeprefix("RECEIPT_STATE_").lower()
        return {(journey.routing_key, receipt.subscription.removeprefix(f"{EXCHANGE}.")): state(receipt)
                for journey in reversed(told.journeys) for receipt in journey.receipts}

    def leave(self):
        self.connection.send(channel=0, close=connection_pb2.Close())
        self.connection.next("close")


def play(given):
    acme, driver, hub = Client(given), Client(given), Client(given)
    acme.tidy()  # what an earlier run left
    acme.lay()
    driver.listen(DRIVERS)
    hub.listen(HUB)
    orders = [(ACME, "a-1"), (FLOWERS, "f-1"), (FLOWERS, "f-2"), (FLOWERS, "f-3")]
    driving = Client(given)  # over which the driver publishes
    for store, order in orders:
        check("a refusal of an order", acme.publish("pickup", store, order), None)
        check("the driver hears", driver.hear(), (f"pickup.{store}", order))
        for event in ("in-transit", "delivered"):
            check("a refusal of an event", driving.publish(event, store, order), None)
    print(f"{len(orders)} orders are delivered")

    refusal = acme.publish("pikcup", ACME, "a-0")
    if refusal is None or refusal.code != 406 or f"pickup.{ACME}" not in refusal.hint:
        raise Failed(f"a misspelt event was to be refused with a hint, not: {refusal}")
    print(f"a misspelt event is refused: {refusal.hint}")

    logged = [hub.hear() for _ in range(3 * len(orders))]
    events = [(f"{event}.{store}", order) for store, order in orders for event in ("pickup", "in-transit", "delivered")]
    check("the hub has logged", sorted(logged), sorted(events))
    print(f"the hub has logged {len(logged)} events")

    waiting = {(f"{event}.{FLOWERS}", FLOWERS): "pending" for event in ("in-transit", "delivered")}
    check("before: receipts of f-2", {key: state for key, state in acme.receipts("f-2").items() if key in waiting}, waiting)
    flowers = Client(given)
    flowers.listen(f"{EXCHANGE}.{FLOWERS}")
    heard = [flowers.hear() for _ in range(6)]
    check("the vendor that was away hears", heard,
          [(f"{event}.{FLOWERS}", f"f-{number}") for number in (1, 2, 3) for event in ("in-transit", "delivered")])
    check("afterwards: receipts of f-2", set(acme.receipts("f-2").values()), {"accepted"})
    print(f"{FLOWERS} was away, and has heard {len(heard)} events in order")

    for client in (driver, driving, hub, flowers):
        client.leave()
    acme.tidy()
    acme.leave()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    defaults = {"host": "127.0.0.1", "port": 7672, "user": "guest", "password": "guest"}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", default=default, type=type(default), help=f"default: {default}")
    try:
        play(parser.parse_args())
        print("ok")
    except (Failed, OSError) as error:
        sys.exit(f"caps.py: {error}")


if __name__ == "__main__":
    main()
