"""Arguments as text: equal ones give the same key, others another one."""

from __future__ import annotations

import datetime as dt
import enum
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobqueue.arguments import Arguments
from jobqueue.errors import SerializationError
from jobqueue.ids import MAX_NAME_BYTES
from jobqueue.serde import SerdeSet


class Colour(enum.StrEnum):
    RED = "red"


def _arguments(
    payload: Any, name: str = "task", defaults: dict[str, Any] | None = None
) -> Arguments:
    return Arguments(name, payload, defaults or {}, lambda value: SerdeSet().dumps(value, "it"))


def key(payload: Any, by: tuple[str, ...] | None = None, **more: Any) -> str:
    return _arguments(payload, **more).unique_key(by, "unique")


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.uuids()
    | st.decimals(allow_nan=False)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.frozensets(scalars)
    ),
    max_leaves=5,
)


def _shuffled(value: Any) -> Any:
    """An equal value, put together the other way round."""
    if isinstance(value, dict):
        return {k: _shuffled(v) for k, v in reversed(value.items())}
    if isinstance(value, list):
        return tuple(_shuffled(each) for each in value)
    if isinstance(value, frozenset):
        return set(value)
    return value


@settings(max_examples=30)
@given(st.dictionaries(st.text(min_size=1), values, max_size=4))
def test_the_order_of_maps_and_sets_does_not_count(payload: dict[str, Any]) -> None:
    assert key(payload) == key(_shuffled(payload))


@settings(max_examples=50)
@given(values, values)
def test_different_values_have_different_keys(one: Any, other: Any) -> None:
    if key(one) == key(other):
        assert _shuffled(one) == _shuffled(other) or repr(one) == repr(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ([1, (2, 3)], (1, [2, 3])),
        (1, 1.0),
        ("red", Colour.RED),
        ({0, 8}, {8, 0}),  # which iterate in this order
        (b"x", bytearray(b"x")),
        (10**30, 10**30),
        (dt.date(2040, 1, 2), dt.date(2040, 1, 2)),
    ],
)
def test_these_are_the_same(one: Any, other: Any) -> None:
    assert key(one) == key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (0, None),
        (1, "1"),
        ("x", b"x"),
        ([1, 2], [2, 1]),
        ([1, 2], {1, 2}),
        ([[1], [2]], [[1, 2]]),
        (["a", "b"], ["ab"]),
        (["a", "b"], ["as1:b"]),
        (["a", "b"], ["asb"]),
        ({"a": 1}, {"a": None}),
        ({}, []),
        (Decimal("1.0"), "1.0"),
        (UUID(int=1), str(UUID(int=1))),
        (dt.timedelta(1), dt.timedelta(2)),
    ],
)
def test_these_are_not(one: Any, other: Any) -> None:
    assert key(one) != key(other)
    assert key({"a": one}, ("a",)) != key({"a": other}, ("a",))


def test_only_the_named_arguments_count() -> None:
    assert key({"a": 1, "b": 2}, ("a",)) == key({"b": 3, "a": 1}, ("a",))
    assert key({"a": 1, "b": 2}, ("a",)) != key({"a": 2, "b": 2}, ("a",))
    assert key({"a": 1, "b": 1}, ("a",)) != key({"a": 1, "b": 1}, ("b",))
    assert key(5, ()) == key({"a": 1}, ()) == "task"
    assert key({"a": 1}, name="other") != key({"a": 1})


def test_a_default_is_as_good_as_given() -> None:
    defaults = {"width": 256, "height": None}
    assert key({"a": 1}, defaults=defaults) == key({"a": 1, "height": None, "width": 256})
    assert key({"a": 1}, defaults=defaults) != key({"a": 1, "width": 128}, defaults=defaults)
    assert key({}, ("width",), defaults=defaults) == key({"width": 256}, ("width",))
    assert key(5, defaults=defaults) == key(5)


@pytest.mark.parametrize("name", ["n" * MAX_NAME_BYTES, "ü" * 127, "n" * 230])
def test_a_key_fits_whatever_the_name(name: str) -> None:
    long = key({"a": 1}, name=name)
    assert len(long.encode()) <= MAX_NAME_BYTES
    assert long != key({"a": 2}, name=name)
    assert long != key({"a": 1}, name=name[:-1])
    assert key({}, (), name=name) == name


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("acme", "acme"),
        (17, "17"),
        (-1, "-1"),
        (Colour.RED, "red"),
        (UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    ],
)
def test_a_plain_argument_is_its_own_key(value: Any, text: str) -> None:
    assert _arguments({"a": value}).key("a", "limit") == text


@pytest.mark.parametrize("value", [None, True, "", "x" * 256, 1.5, [1], {"a": {1, 2}}, b"x"])
def test_any_other_argument_has_a_digest(value: Any) -> None:
    text = _arguments({"a": value}).key("a", "limit")
    assert len(text) == 32
    assert text == _arguments({"a": value}).key("a", "limit")


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match=r"group by 'c': 'task' was given no such .* has: a, b$"):
        _arguments({"a": 1}, defaults={"b": 2}).key("c", "group")
    with pytest.raises(ValueError, match="it has: none"):
        key({}, ("c",))
    with pytest.raises(TypeError, match="needs a payload of 'task' that is a map"):
        key([1], ("c",))
    with pytest.raises(SerializationError, match="it cannot be serialised"):
        key({"a": object()})


def test_what_is_nested_without_end_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(SerializationError, match="nested too deeply"):
        key(endless)
