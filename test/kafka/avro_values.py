#!/usr/bin/python3
"""avro_values.py: Avro values for tests, written and read by Apache Avro.

  avro_values.py typed         one record of every type: its schema and values
  avro_values.py random SEED N N random schemas with five values each

Prints one JSON object: "schemas" (texts) and "values" (schema: number of it,
"hex", "expect": the fields as they should arrive, read back from those bytes
by Apache Avro, in a text of JSON). Needs Debian's python3-avro.
"""
import datetime
import decimal
import io
import json
import math
import random
import struct
import sys
import uuid
import warnings

import avro.io
import avro.schema

warnings.simplefilter("ignore")
decimal.getcontext().prec = 100
UTC = datetime.timezone.utc


def encode(schema, value):
    buffer = io.BytesIO()
    avro.io.DatumWriter(schema).write(value, avro.io.BinaryEncoder(buffer))
    return buffer.getvalue()


def decode(schema, data):
    buffer = io.BytesIO(data)
    value = avro.io.DatumReader(schema, schema).read(avro.io.BinaryDecoder(buffer))
    assert buffer.read() == b""
    return value


class Number:
    """A number as JSON text, which Python would write otherwise."""

    def __init__(self, text):
        self.text = text


def shortest_float(value):
    """The shortest text that is that number in 32 bits."""
    for digits in range(1, 10):
        text = "%.*g" % (digits, value)
        if struct.pack("<f", float(text)) == struct.pack("<f", value):
            return text
    return repr(value)


def clock_text(value, digits):
    text = value.strftime("%H:%M:%S")
    if value.microsecond:
        text += ".%0*d" % (digits, value.microsecond // 10 ** (6 - digits))
    return text


def expected(schema, value):
    """What the decoder should make of a value that Apache Avro has read."""
    logical = getattr(schema, "logical_type", None) or schema.props.get("logicalType")
    kind = schema.type
    if kind == "union":
        return expected(branch_of(schema, value), value)
    if kind in ("record", "error"):
        return {f.name: expected(f.type, value[f.name]) for f in schema.fields}
    if kind == "array":
        return [expected(schema.items, v) for v in value]
    if kind == "map":
        return {k: expected(schema.values, v) for k, v in value.items()}
    if isinstance(value, decimal.Decimal):
        return Number(format(value, "f"))
    if isinstance(value, datetime.datetime):
        digits = 3 if logical.endswith("millis") else 6
        return "%04d-%s" % (value.year, value.strftime("%m-%d")) + "T" + clock_text(value, digits) + "Z"
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, datetime.time):
        return clock_text(value, 3 if logical.endswith("millis") else 6)
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        return Number(shortest_float(value) if kind == "float" else repr(value))
    return value


def branch_of(schema, value):
    """The branch that a value was read by: those of random unions differ in form."""
    others = [branch for branch in schema.schemas if (branch.type == "null") == (value is None)]
    if len(others) == 1:
        return others[0]
    for branch in others:
        if avro.io.validate(branch, value):
            return branch
    raise ValueError("no branch for %r" % (value,))


def to_json(value):
    """JSON text with every digit."""
    if isinstance(value, Number):
        return value.text
    if isinstance(value, dict):
        return "{" + ",".join(json.dumps(k) + ":" + to_json(v) for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(to_json(v) for v in value) + "]"
    return json.dumps(value)


class Random:
    """Schemas that use everything, and values of them."""

    def __init__(self, seed):
        self.r = random.Random(seed)
        self.names = 0
        self.named = []

    def name(self):
        self.names += 1
        return "n%d" % self.names

    def primitive(self):
        return self.r.choice(["boolean", "int", "long", "float", "double", "bytes", "string"])

    def logical(self):
        r = self.r
        precision = r.randint(1, 40)
        return r.choice([
            {"type": "int", "logicalType": "date"},
            {"type": "int", "logicalType": "time-millis"},
            {"type": "long", "logicalType": "time-micros"},
            {"type": "long", "logicalType": "timestamp-millis"},
            {"type": "long", "logicalType": "timestamp-micros"},
            {"type": "string", "logicalType": "uuid"},
            {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": r.randint(0, precision)},
            {"type": "int", "logicalType": "none-of-these"},
        ])

    def type(self, depth):
        r = self.r
        choice = r.random()
        if choice < 0.25 or depth > 4:
            return self.primitive()
        if choice < 0.5:
            return self.logical()
        if choice < 0.58:
            return {"type": "enum", "name": self.name(), "symbols": ["A", "B_%d" % r.randint(0, 9), "z"]}
        if choice < 0.64:
            return {"type": "fixed", "name": self.name(), "size": r.randint(0, 20)}
        if choice < 0.74:
            return {"type": "array", "items": self.type(depth + 1)}
        if choice < 0.82:
            return {"type": "map", "values": self.type(depth + 1)}
        if choice < 0.92:
            return self.union(depth)
        return self.record(depth + 1)

    def union(self, depth):
        r = self.r
        logical = self.logical()
        while logical["logicalType"] == "uuid":
            # Apache Avro for Python cannot write null beside it
            logical = self.logical()
        others = [[self.primitive()], [logical], ["string", "boolean"], ["long", "string"],
                  ["bytes", "boolean", "double"], [{"type": "array", "items": self.type(depth + 1)}]]
        branches = ["null"] + r.choice(others)
        r.shuffle(branches)
        return branches

    def record(self, depth):
        name = self.name()
        fields = [{"name": "f%d" % i, "type": self.type(depth)} for i in range(self.r.randint(0, 4))]
        if self.r.random() < 0.3:
            fields.append({"name": "next", "type": ["null", name]})
        record = {"type": "record", "name": name, "fields": fields}
        if self.r.random() < 0.5:
            record["namespace"] = "space.%s" % name
            # a name of another namespace has to be written out
            for field in fields:
                if field["name"] == "next":
                    field["type"][1] = "space.%s.%s" % (name, name)
        return record

    def root(self, fields):
        return {"type": "record", "name": self.name(), "doc": "\u00e4\"",
                "fields": [{"name": "c%d" % i, "type": self.type(0)} for i in range(fields)]}

    def text(self):
        r = self.r
        letters = "ab \"\\/\n\t\x01\x7f\u00e4\u4e16\U0001f600{}[]:,"
        return "".join(r.choice(letters) for _ in range(r.choice([0, 1, 3, 40])))

    def integer(self, bits):
        r = self.r
        return r.choice([0, 1, -1, 2 ** (bits - 1) - 1, -2 ** (bits - 1), r.getrandbits(bits - 1), -r.getrandbits(r.randint(1, bits - 1))])

    def real(self, form):
        r = self.r
        value = r.choice([0.0, -0.5, 0.1, 1e10, math.inf, -math.inf, math.nan, r.uniform(-1e6, 1e6), r.random() * 1e-9, r.random() * 1e30])
        return struct.unpack(form, struct.pack(form, value))[0]

    def instant(self, unit):
        micros = self.r.choice([0, -1, 1, self.r.randint(-62135596800000000, 253402300799999999)])
        micros -= micros % unit
        return datetime.datetime(1970, 1, 1, tzinfo=UTC) + datetime.timedelta(microseconds=micros)

    def time(self, unit):
        micros = self.r.choice([0, self.r.randrange(86400000000)])
        micros -= micros % unit
        return datetime.time(micros // 3600000000, micros // 60000000 % 60, micros // 1000000 % 60, micros % 1000000)

    def value(self, schema, depth=0):
        r = self.r
        kind = schema.type
        logical = getattr(schema, "logical_type", None)
        count = 0 if depth > 6 else r.choice([0, 1, 2, 5])
        if logical == "decimal":
            digits = r.randint(1, schema.precision)
            return decimal.Decimal(r.choice([1, -1]) * r.randrange(10 ** digits)).scaleb(-schema.scale)
        if logical == "date":
            return datetime.date.fromordinal(r.choice([1, 719163, 719162, r.randint(1, 3652059)]))
        if logical in ("time-millis", "time-micros"):
            return self.time(1000 if logical == "time-millis" else 1)
        if logical in ("timestamp-millis", "timestamp-micros"):
            return self.instant(1000 if logical == "timestamp-millis" else 1)
        if logical == "uuid":
            return str(uuid.UUID(int=r.getrandbits(128)))
        if kind == "union":
            branches = [s for s in schema.schemas if s.type == "null"] if depth > 6 else schema.schemas
            return self.value(r.choice(branches), depth + 1)
        if kind in ("record", "error"):
            return {f.name: self.value(f.type, depth + 1) for f in schema.fields}
        if kind == "array":
            return [self.value(schema.items, depth + 1) for _ in range(count)]
        if kind == "map":
            return {"k%d%s" % (i, self.text()): self.value(schema.values, depth + 1) for i in range(count)}
        return {
            "null": lambda: None,
            "boolean": lambda: r.random() < 0.5,
            "int": lambda: self.integer(32),
            "long": lambda: self.integer(64),
            "float": lambda: self.real("<f"),
            "double": lambda: self.real("<d"),
            "bytes": lambda: r.getrandbits(8 * 12).to_bytes(12, "big")[:r.randint(0, 12)],
            "string": self.text,
            "fixed": lambda: bytes(r.getrandbits(8) for _ in range(schema.size)),
            "enum": lambda: r.choice(schema.symbols),
        }[kind]()


TYPED = {
    "type": "record", "name": "event", "namespace": "shop", "fields": [
        {"name": "id", "type": "long"},
        {"name": "name", "type": ["null", "string"], "default": None},
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "clock", "type": {"type": "long", "logicalType": "time-micros"}},
        {"name": "ref", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "hash", "type": {"type": "fixed", "name": "hash4", "size": 4, "default": "\u0000"}},
        {"name": "state", "type": {"type": "enum", "name": "state", "symbols": ["NEW", "PAID"]}},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "ratio", "type": "double"},
        {"name": "good", "type": "boolean"},
        {"name": "address", "type": {"type": "record", "name": "address", "fields": [
            {"name": "city", "type": "string"}, {"name": "zip", "type": "int"}]}},
        {"name": "other_hash", "type": ["null", "hash4"]},
        {"name": "attributes", "type": {"type": "map", "values": "int"}},
        {"name": "local", "type": {"type": "long", "logicalType": "local-timestamp-millis"}},
        {"name": "nanos", "type": {"type": "long", "logicalType": "timestamp-nanos"}},
        {"name": "span", "type": {"type": "fixed", "name": "span", "size": 12, "logicalType": "duration"}},
    ],
}


def typed_values():
    common = {
        "at": datetime.datetime(2014, 5, 13, 16, 53, 20, 123456, tzinfo=UTC), "day": datetime.date(1969, 12, 31),
        "clock": datetime.time(23, 59, 59, 999999), "ref": "01234567-89ab-cdef-0123-456789abcdef",
        "hash": b"\x00\xff\"\\", "other_hash": b"abcd", "state": "PAID", "tags": ["a", "b\"\n"], "good": True,
        "address": {"city": "Z\u00fcrich", "zip": 8000}, "attributes": {"x": 1}, "local": 1400000000123,
        "nanos": 1400000000123456789, "span": struct.pack("<III", 14, 3, 3723004),
    }
    return [
        dict(common, id=7, name="\u00e4 \u4e16", amount=decimal.Decimal("-123456789012345678.91"), ratio=0.1),
        dict(common, id=-2 ** 63, name=None, amount=decimal.Decimal("0.05"), ratio=math.nan, tags=[], good=False,
             other_hash=None, attributes={}, local=-1, nanos=-1),
    ]


def main():
    schemas = []
    values = []
    if sys.argv[1] == "typed":
        schemas.append(TYPED)
        made = [(TYPED, typed_values())]
    else:
        source = Random(int(sys.argv[2]))
        made = []
        for _ in range(int(sys.argv[3])):
            text = source.root(8)
            parsed = avro.schema.parse(json.dumps(text))
            schemas.append(text)
            made.append((text, [source.value(parsed) for _ in range(5)]))
    for number, (text, rows) in enumerate(made):
        parsed = avro.schema.parse(json.dumps(text))
        for row in rows:
            data = encode(parsed, row)
            read = expected(parsed, decode(parsed, data))
            values.append({"schema": number, "hex": data.hex(), "expect": to_json(read)})
    json.dump({"schemas": [json.dumps(s) for s in schemas], "values": values}, sys.stdout)


main()
