"""Payloads and results as bytes."""

from __future__ import annotations

import enum
import math
import subprocess
import sys
from collections import OrderedDict, namedtuple
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobqueue.errors import ConfigurationError, SerializationError
from jobqueue.serde import JsonSerde, MsgpackSerde, Serde, SerdeSet
from jobqueue.serde.base import MAX_DEPTH

MSGPACK, JSON = MsgpackSerde(), JsonSerde()

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
# Python itself reads an offset of less than a second as none.
offsets = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).filter(
    lambda offset: abs(offset) >= timedelta(seconds=1)
)
zones = st.builds(timezone, offsets) | st.just(UTC)
plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    text,
    st.binary(max_size=10),
)
extended = st.one_of(
    st.datetimes(timezones=zones),
    st.datetimes(),
    st.dates(),
    st.times(timezones=zones),
    st.times(),
    st.timedeltas(),
    st.uuids(),
    st.decimals(allow_nan=False),
    st.integers(2**64, 10**80),
    st.integers(-(10**80), -(2**63) - 1),
)
scalars = plain | extended
hashable = st.recursive(
    scalars,
    lambda inner: (
        st.frozensets(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple).map(lambda items: frozenset([items]))
    ),
    max_leaves=5,
)
values = st.recursive(
    hashable,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(hashable, inner, max_size=4),
        st.sets(hashable, max_size=4),
    ),
    max_leaves=15,
)


def same(one: Any, other: Any) -> bool:
    """Equal, and of equal types all the way down: ``1 == True == 1.0`` is not enough."""
    if type(one) is not type(other) or one != other:
        return False
    if isinstance(one, dict):
        return all(same(*pair) for pair in zip(one.values(), other.values(), strict=True))
    if isinstance(one, list | tuple):
        return all(same(*pair) for pair in zip(one, other, strict=True))
    if isinstance(one, datetime | time):
        return one.utcoffset() == other.utcoffset()
    return True


def round_trip(value: Any) -> Any:
    return MSGPACK.loads(MSGPACK.dumps(value))


@given(values)
def test_whatever_msgpack_can_hold_arrives_as_it_was(value: Any) -> None:
    assert same(round_trip(value), value)


@pytest.mark.parametrize(
    "value",
    [
        datetime.max,
        datetime.min,
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-23, minutes=-59))),
        datetime(2030, 1, 1, tzinfo=timezone(timedelta(minutes=7, seconds=3, microseconds=1))),
        time(1, 2, 3, 4, tzinfo=UTC),
        time(0),
        date.min,
        timedelta.min,
        timedelta.max,
        timedelta(microseconds=-1),
        UUID(int=0),
        Decimal("1.50"),
        Decimal("-0"),
        Decimal("Infinity"),
        Decimal("1E+999999"),
        2**63,
        2**64 - 1,
        2**64,
        -(2**63),
        -(2**63) - 1,
        10**4095,
        -(10**4094),
        b"",
        "",
        set(),
        frozenset(),
        {frozenset({frozenset(), (1, (2, frozenset({2**70})))})},
        {2**70: 2**71, (1, (2**72,)): {2**73}},
        {date(2030, 1, 1): 1, UUID(int=1): 2, frozenset({1}): 3, None: 4, True: 5, b"a": 6},
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_corners_arrive_too(value: Any) -> None:
    assert same(round_trip(value), value)


def test_a_decimal_keeps_its_digits() -> None:
    assert str(round_trip(Decimal("1.500"))) == "1.500"
    assert math.isnan(round_trip(Decimal("NaN")))
    assert math.isnan(round_trip(float("nan")))


def test_a_tuple_arrives_as_a_list_but_for_a_key_or_a_member() -> None:
    assert round_trip((1, (2, [3]))) == [1, [2, [3]]]
    assert round_trip({(1, 2): (3, 4)}) == {(1, 2): [3, 4]}
    assert round_trip({(1, (2,))}) == {(1, (2,))}


def test_subclasses_arrive_as_what_they_are_underneath() -> None:
    class Number(enum.IntEnum):
        SMALL = 1
        BIG = 2**70

    class Word(enum.StrEnum):
        A = "a"

    point = namedtuple("point", "x y")
    assert round_trip([Number.SMALL, Number.BIG, Word.A]) == [1, 2**70, "a"]
    assert round_trip(OrderedDict(a=OrderedDict(b=2**70))) == {"a": {"b": 2**70}}
    assert round_trip(point(1, 2**70)) == [1, 2**70]
    assert round_trip([bytearray(b"a"), memoryview(b"b")]) == [b"a", b"b"]


@pytest.mark.parametrize(
    "value",
    [
        object(),
        int,
        1j,
        [object()],
        {1: {2: object()}},
        {frozenset({range(3)})},
        [2**70, object()],
        "\ud800",
        {"\ud800": 1},
        10**4096,
        -(10**4095),
        10**5000,
        Decimal("1" * 5000),
        [ValueError("x")],
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_held_is_refused_when_it_is_written(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        MSGPACK.dumps(value)


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    for serde in (MSGPACK, JSON):
        with pytest.raises(ValueError):
            serde.dumps(value)


def nested(levels: int, wrap: Any, value: Any = 1) -> Any:
    for _ in range(levels):
        value = wrap(value)
    return value


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: [inner],
        lambda inner: (inner,),
        lambda inner: {"a": inner},
        lambda inner: frozenset([inner]),
        lambda inner: frozenset([(inner,)]),
    ],
    ids=["list", "tuple", "dict", "set", "tuple in a set"],
)
@pytest.mark.parametrize("value", [1, 2**70], ids=["small", "big"])
def test_what_can_be_written_can_be_read_however_deep(wrap: Any, value: Any) -> None:
    refused = False
    for levels in (1, 30, 31, 32, 33, 500, 511, 512, 1_000, 1_023, 1_024, 2_000):
        try:
            data = MSGPACK.dumps(nested(levels, wrap, value))
        except ValueError:
            refused = True
        else:
            assert not refused, "deeper is refused, and deeper still is not"
            MSGPACK.loads(data)
    assert refused


def test_sets_nested_without_end_do_not_end_the_process() -> None:
    """In a process of its own: reading them once took more of the C stack than there is."""
    program = (
        "from msgpack import ExtType, packb\n"
        "from jobqueue.serde import MsgpackSerde\n"
        "data = b'1'\n"
        "for _ in range(3_000): data = packb(ExtType(9, b'\\x91' + data))\n"
        "try: MsgpackSerde().loads(data)\n"
        "except ValueError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == "more than 32 sets are nested in one another\n"


@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(ValueError):
        MSGPACK.loads(data)


@given(st.integers(-128, 127), st.binary() | st.sampled_from([b"9" * 5_000, b"\x93\x01\x02\x80"]))
def test_any_extension_is_read_or_refused(code: int, data: bytes) -> None:
    header = b"\xc8" + len(data).to_bytes(2, "big") + code.to_bytes(1, "big", signed=True)
    with suppress(ValueError):
        MSGPACK.loads(header + data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01\x01",
        b"\xc1",
        b"\x91",
        b"\x81\x80\x01",
        b"\x91" * 5_000 + b"\x01",
        b"\xa1\xff",
        msgpack.packb(msgpack.ExtType(11, b"")),
        msgpack.packb(msgpack.ExtType(1, b"yesterday")),
        msgpack.packb(msgpack.ExtType(6, b"short")),
        msgpack.packb(msgpack.ExtType(7, b"much")),
        msgpack.packb(msgpack.ExtType(8, b"\x91\x80")),
        msgpack.packb(msgpack.ExtType(10, b"9" * 4_097)),
    ],
)
def test_bytes_that_are_no_value_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        MSGPACK.loads(data)


def test_the_wire_format_is_as_documented() -> None:
    codes = {
        1: (datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=UTC), b"2030-01-02T03:04:05.000006+00:00"),
        2: (datetime(2030, 1, 2), b"2030-01-02T00:00:00"),
        3: (date(2030, 1, 2), b"2030-01-02"),
        4: (time(3, 4), b"03:04:00"),
        5: (timedelta(1, 2, 3), b"\x93\x01\x02\x03"),
        6: (UUID(int=1), b"\0" * 15 + b"\1"),
        7: (Decimal("1.50"), b"1.50"),
        8: ({1}, b"\x91\x01"),
        9: (frozenset({1}), b"\x91\x01"),
        10: (2**64, b"18446744073709551616"),
    }
    for code, (value, data) in codes.items():
        assert msgpack.unpackb(MSGPACK.dumps(value)) == msgpack.ExtType(code, data)


# -- JSON ----------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=15,
)


@given(json_values)
def test_whatever_json_can_hold_arrives_as_it_was(value: Any) -> None:
    assert same(JSON.loads(JSON.dumps(value)), value)


def test_json_is_compact_utf_8() -> None:
    assert JSON.dumps({"a": ["\u00e9", 1]}) == '{"a":["\u00e9",1]}'.encode()


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        b"a",
        {1, 2},
        object(),
        datetime(2030, 1, 1),
        {(1,): 2},
        "\ud800",
        {1: 2, "1": 3},
        nested(MAX_DEPTH + 1, lambda inner: [inner]),
        nested(MAX_DEPTH + 1, lambda inner: (inner,)),
        nested(100_000, lambda inner: [inner]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_hold_is_refused_when_it_is_written(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        JSON.dumps(value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1 2",
        b"[1",
        b"NaN",
        b"[Infinity]",
        b"1e999",
        b'{"a":1,"a":2}',
        b"\xff",
        b"[" * (MAX_DEPTH + 2) + b"]" * (MAX_DEPTH + 2),
        b"9" * 5_000,
    ],
)
def test_bytes_that_are_no_json_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        JSON.loads(data)


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"a": inner}])
def test_json_of_the_greatest_depth_can_be_written_and_read(wrap: Any) -> None:
    value = nested(MAX_DEPTH, wrap)
    assert JSON.loads(JSON.dumps(value)) == value


# -- the serdes of one queue ---------------------------------------------------------------------


class Reversed:
    name = "rev-1_X"

    def dumps(self, value: Any) -> bytes:
        return str(value).encode()[::-1]

    def loads(self, data: bytes) -> Any:
        return data[::-1].decode()


def test_both_are_serdes_and_so_is_a_users_own() -> None:
    assert all(isinstance(serde, Serde) for serde in (MSGPACK, JSON, Reversed()))


@pytest.mark.parametrize("default", ["msgpack", "json", Reversed()])
def test_a_set_reads_whatever_its_serdes_wrote(default: Any) -> None:
    serdes = SerdeSet(default)
    assert serdes.load_alone(serdes.dump_alone("value", "the result"), "the result") == "value"
    for name in ("msgpack", "json"):
        blob = serdes.dump_alone("value", "the result", name)
        assert blob.startswith(name.encode() + b"\n")
        assert serdes.load_alone(blob, "the result") == "value"
        assert serdes.loads(name, serdes.dumps("value", "the payload", name), "it") == "value"


def test_the_default_writes() -> None:
    serdes = SerdeSet("json")
    assert serdes.default.name == "json"
    assert serdes.dumps([1], "the payload") == b"[1]"
    assert SerdeSet().default.name == "msgpack"


def test_bytes_with_line_feeds_stand_alone_too() -> None:
    serdes = SerdeSet()
    assert serdes.load_alone(serdes.dump_alone("\n\n", "it"), "it") == "\n\n"


@pytest.mark.parametrize("value", [object(), 10**5_000, "\ud800"], ids=["object", "int", "text"])
def test_a_value_that_cannot_be_written_is_an_error_that_says_what(value: Any) -> None:
    with pytest.raises(SerializationError, match=r"^the payload of 'a' cannot be serialised: "):
        SerdeSet().dumps(value, "the payload of 'a'")


def test_bytes_that_cannot_be_read_are_an_error_that_says_what() -> None:
    serdes = SerdeSet()
    with pytest.raises(SerializationError, match=r"^the payload cannot be decoded: "):
        serdes.loads("json", b"{", "the payload")
    with pytest.raises(SerializationError, match=r"^the payload cannot be decoded: \S"):
        serdes.loads("msgpack", b"\xc1", "the payload")


@pytest.mark.parametrize("blob", [b"", b"\n", b"unknown\n1", b"json", b"\xff\n1", b"unknown"])
def test_a_blob_of_an_unknown_serde_is_an_error(blob: bytes) -> None:
    with pytest.raises(
        SerializationError, match=r"is not known here: give it to|cannot be decoded"
    ):
        SerdeSet().load_alone(blob, "the result")


def test_a_serde_may_raise_anything_even_what_cannot_be_printed() -> None:
    class Evil(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    class Broken:
        name = "broken"

        def dumps(self, value: Any) -> bytes:
            raise Evil

        def loads(self, data: bytes) -> Any:
            raise Evil

    serdes = SerdeSet(Broken())
    with pytest.raises(SerializationError, match=r"^it cannot be serialised: Evil$"):
        serdes.dumps(1, "it")
    with pytest.raises(SerializationError, match=r"^it cannot be decoded: Evil$"):
        serdes.loads("broken", b"", "it")


def test_an_unknown_name_of_a_serde_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        ConfigurationError, match=r"^unknown serde 'pickle': use one of json, msgpack"
    ):
        SerdeSet("pickle")


@pytest.mark.parametrize("name", ["", "a b", "a\n", "\u00e9", "x" * 33, None, 5, b"json", "a/b"])
def test_a_serde_has_a_plain_name(name: Any) -> None:
    own = Reversed()
    own.name = name
    with pytest.raises(ConfigurationError, match="is no Serde"):
        SerdeSet(own)


@pytest.mark.parametrize("thing", [None, 5, object(), MsgpackSerde.dumps])
def test_what_is_no_serde_is_refused(thing: Any) -> None:
    with pytest.raises(ConfigurationError, match="is no Serde"):
        SerdeSet(thing)
