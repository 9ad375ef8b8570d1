"""What tests/tests/kafka.rs asks of a Kafka consumer in Python: see kafka.sh. Prints one JSON value."""

import json
import sys
import time

from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.errors import OffsetOutOfRangeError

TOPIC = "walengine"
PLACES = [TopicPartition(TOPIC, number) for number in (0, 1)]
PATIENCE = 60  # seconds; generous: the machine has other work

server, what = sys.argv[1:3]
settings = {"bootstrap_servers": server, "auto_offset_reset": "earliest", "enable_auto_commit": False}
if what == "secured":
    tls = sys.argv[3]
    settings |= {
        "security_protocol": "SSL",
        "ssl_cafile": f"{tls}/ca.pem",
        "ssl_certfile": f"{tls}/identity.pem",
        "ssl_keyfile": f"{tls}/identity.key",
    }


def consumer_of(*topics, **more):
    return KafkaConsumer(*topics, **(settings | more))


def take(consumers, count):
    """So many records, whoever of the consumers gets them."""
    found = []
    by = time.monotonic() + PATIENCE
    while len(found) < count and time.monotonic() < by:
        for consumer in consumers:
            for records in consumer.poll(timeout_ms=200).values():
                found += records
    return found


def shown(record):
    key = record.key.decode() if record.key is not None else None
    headers = {name: value.decode() for name, value in record.headers}
    return [record.partition, record.offset, record.timestamp, key, headers, json.loads(record.value)]


def read_all():
    consumer = consumer_of()
    assert consumer.topics() == {TOPIC}, consumer.topics()
    assert consumer.partitions_for_topic(TOPIC) == {0, 1}
    consumer.assign(PLACES)
    assert set(consumer.beginning_offsets(PLACES).values()) == {0}
    records = take([consumer], sum(consumer.end_offsets(PLACES).values()))
    return consumer, records


def look_up_times(consumer, records):
    """A time leads to the first record of it or after it."""
    for place in PLACES:
        of_place = [record for record in records if record.partition == place.partition]
        for asked in {record.timestamp for record in of_place} | {record.timestamp + 1 for record in of_place}:
            found = consumer.offsets_for_times({place: asked})[place]
            expected = min((record.offset for record in of_place if record.timestamp >= asked), default=None)
            assert (found and found.offset) == expected, (asked, found, expected)


def go_out_of_range(ends):
    """Behind the end there is nothing, and it is said."""
    for offset in (ends[PLACES[0]] + 1, 2**60):
        consumer = consumer_of(auto_offset_reset="none")
        consumer.assign(PLACES[:1])
        consumer.seek(PLACES[0], offset)
        try:
            by = time.monotonic() + PATIENCE
            while time.monotonic() < by:
                consumer.poll(timeout_ms=200)
            raise AssertionError(f"offset {offset} is answered")
        except OffsetOutOfRangeError:
            pass
        consumer.close()


def share():
    """Two consumers of a group share the partitions; one that leaves has its own taken over."""
    more = {"group_id": "shared", "heartbeat_interval_ms": 200}
    both = [consumer_of(TOPIC, **more), consumer_of(TOPIC, **more)]

    def until(what):
        by = time.monotonic() + PATIENCE
        while not what() and time.monotonic() < by:
            for consumer in both:
                consumer.poll(timeout_ms=50)
        assert what(), [consumer.assignment() for consumer in both]

    until(lambda: all(len(consumer.assignment()) == 1 for consumer in both))
    assert both[0].assignment() | both[1].assignment() == set(PLACES)
    both.pop().close()
    until(lambda: both[0].assignment() == set(PLACES))
    both[0].close()


if what == "secured":
    records = read_all()[1]
    print(json.dumps([shown(record) for record in records]))
elif what == "first":
    consumer, records = read_all()
    look_up_times(consumer, records)
    go_out_of_range(consumer.end_offsets(PLACES))
    share()
    group = consumer_of(group_id="books")
    group.assign(PLACES)
    group.commit({PLACES[0]: OffsetAndMetadata(1, "a note", -1), PLACES[1]: OffsetAndMetadata(2, "", -1)})
    print(json.dumps([shown(record) for record in records]))
elif what == "again":
    group = consumer_of(group_id="books")
    group.assign(PLACES)
    notes = [group.committed(place, metadata=True).metadata for place in PLACES]
    begun = take([group], 1)
    first = {record.partition: record.offset for record in reversed(begun)}
    print(json.dumps({"notes": notes, "positions": [group.committed(place) for place in PLACES], "first": first}))
