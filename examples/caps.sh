#!/bin/sh
# Parcels with the command line alone: two vendors, drivers, and a hub that logs every event. One driver dies with an order
# in hand, and one vendor is away until the end; nothing is lost.
#
#   leveret serve &
#   sh examples/caps.sh
#
# Needs `leveret` on the PATH. The broker is that of LEVERET_URL, else the one on this machine. The exchange `caps` and the queues
# `caps.*` are made, and deleted in the end.
set -eu

orders=5 # of each vendor
online=acme-widgets
offline=1-800-flowers
patience=60 # seconds

CAPS=$(mktemp -d)
export CAPS
running=
finish() {
    status=$?
    # Some have ended already, and some queues may never have been made.
    kill $running 2>/dev/null || true
    wait
    for queue in drivers hub-log "vendor.$online" "vendor.$offline"; do
        leveret delete queue "caps.$queue" --if-exists >/dev/null || true
    done
    leveret delete exchange caps --if-exists >/dev/null || true
    rm -rf "$CAPS"
    exit $status
}
trap finish EXIT
trap 'exit 1' INT TERM

# wait_until DESCRIPTION COMMAND...: tries the command until it works.
wait_until() {
    what=$1
    shift
    left=$((patience * 10))
    until "$@"; do
        left=$((left - 1))
        [ $left -gt 0 ] || { echo "never: $what" >&2; exit 1; }
        sleep 0.1
    done
}

# Different orders of which an event is in a file of lines "EVENT.STORE ORDER".
count() { grep -s "^$2[. ]" "$1" | sort -u | wc -l | tr -d ' '; }
has() { [ "$(count "$1" "$2")" -ge "$3" ]; }

# --- The hub: who hears what. Queues keep what comes while nobody listens.
leveret declare exchange caps --type topic >/dev/null
for queue in drivers hub-log "vendor.$online" "vendor.$offline"; do
    leveret declare queue "caps.$queue" >/dev/null
done
leveret bind caps caps.hub-log --key '#' >/dev/null
leveret bind caps caps.drivers --key 'pickup.*' >/dev/null
for store in "$online" "$offline"; do
    leveret bind caps "caps.vendor.$store" --key "in-transit.$store" >/dev/null
    leveret bind caps "caps.vendor.$store" --key "delivered.$store" >/dev/null
done
leveret consume caps.hub-log --name hub --exec 'echo "$LEVERET_ROUTING_KEY $LEVERET_MESSAGE_ID" >> "$CAPS/hub"' &
running="$running $!"

# --- One vendor listens. The other one is away.
# Runs in the background, as a process of its own.
vendor() {
    exec leveret consume "caps.vendor.$1" --name "$1" \
        --exec 'cat > /dev/null; echo "$LEVERET_ROUTING_KEY $LEVERET_MESSAGE_ID" >> "$CAPS/vendor"'
}
vendor "$online" &
running="$running $!"

# --- Both have orders to be picked up.
order=1
while [ $order -le $orders ]; do
    for store in "$online" "$offline"; do
        leveret publish --exchange caps --key "pickup.$store" --message-id "$store-$order" --timestamp now \
            --content-type application/json --reply-to "caps.vendor.$store" \
            "{\"store\":\"$store\",\"orderId\":$order,\"customer\":\"Ada\",\"address\":\"Seattle\"}" >/dev/null
    done
    order=$((order + 1))
done

# --- A driver who takes an order, and dies with it in hand.
leveret consume caps.drivers --name unlucky --exec 'touch "$CAPS/taken"; while [ -d "$CAPS" ]; do sleep 0.1; done' &
unlucky=$!
running="$running $unlucky"
wait_until "the unlucky driver takes an order" test -e "$CAPS/taken"
kill -9 $unlucky
echo "a driver died with an order in hand"

# --- Other drivers: each order is picked up, on its way, and there. An order is done when both events are on the hub's disk.
drive='
    set -eu
    cat > "$CAPS/order-$LEVERET_MESSAGE_ID"
    store=${LEVERET_ROUTING_KEY#pickup.}
    for event in in-transit delivered; do
        leveret publish --exchange caps --key "$event.$store" --message-id "$LEVERET_MESSAGE_ID" \
            --content-type application/json --file "$CAPS/order-$LEVERET_MESSAGE_ID" > /dev/null
    done'
for driver in speedy steady; do
    leveret consume caps.drivers --name "$driver" --exec "$drive" &
    running="$running $!"
done
wait_until "all orders are delivered" has "$CAPS/hub" delivered $((2 * orders))

# --- The vendor who was away comes back, and learns all of it, in order.
wait_until "$online knows" has "$CAPS/vendor" "delivered.$online" $orders
echo "$offline comes back; it knows of $(count "$CAPS/vendor" "delivered.$offline") deliveries"
vendor "$offline" &
running="$running $!"
wait_until "$offline knows" has "$CAPS/vendor" "delivered.$offline" $orders

for store in "$online" "$offline"; do
    echo "$store: $(count "$CAPS/vendor" "in-transit.$store") orders were on their way, \
$(count "$CAPS/vendor" "delivered.$store") are delivered"
done
wait_until "the hub has seen all pickups" has "$CAPS/hub" pickup $((2 * orders))
echo "the hub saw $(count "$CAPS/hub" pickup) pickups, $(count "$CAPS/hub" in-transit) on their way, \
$(count "$CAPS/hub" delivered) delivered"
