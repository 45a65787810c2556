"""The wire format: without hiredis everything is as with it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobqueue.storage.redis.resp import Prefix, PythonReader, pack

library: Any = pytest.importorskip("hiredis", reason="there is nothing to compare with")
answers = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=80),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=20,
)


def encoded(answer: Any) -> bytes:
    if answer is None:
        return b"$-1\r\n"
    if isinstance(answer, int):
        return b":%d\r\n" % answer
    if isinstance(answer, bytes):
        return b"$%d\r\n%s\r\n" % (len(answer), answer)
    return b"*%d\r\n" % len(answer) + b"".join(map(encoded, answer))


@given(st.lists(answers, max_size=5), st.lists(st.integers(1, 30), min_size=1))
def test_answers_are_read_however_they_are_cut(sent: list[Any], cuts: list[int]) -> None:
    reader = PythonReader(ValueError)
    data = b"".join(map(encoded, sent))
    received: list[Any] = []
    while data:
        size = cuts.pop() if cuts else len(data)
        reader.feed(data[:size])
        data = data[size:]
        while (answer := reader.gets()) is not False:
            received.append(answer)
    assert received == sent
    assert reader.gets() is False


def test_states_errors_and_empty_answers() -> None:
    reader = PythonReader(LookupError)
    reader.feed(b"+OK\r\n-NOSCRIPT none\r\n*-1\r\n*0\r\n$0\r\n\r\n*2\r\n-ERR x\r\n:7\r\n")
    assert reader.gets() == b"OK"
    error = reader.gets()
    assert isinstance(error, LookupError)
    assert str(error) == "NOSCRIPT none"
    assert [reader.gets() for _ in range(3)] == [None, [], b""]
    inner, seven = reader.gets()
    assert (str(inner), seven) == ("ERR x", 7)
    assert reader.gets() is False


def test_what_is_no_answer_is_refused() -> None:
    reader = PythonReader(ValueError)
    reader.feed(b"HTTP/1.1 400 Bad Request\r\n")
    with pytest.raises(ValueError, match="no answer of a Redis server"):
        reader.gets()


@given(st.lists(st.text() | st.binary() | st.integers() | st.floats(0, 1e6), min_size=1))
def test_commands_are_written_as_hiredis_writes_them(arguments: list[Any]) -> None:
    try:
        expected = library.pack_command(tuple(arguments))
    except UnicodeEncodeError:
        return
    assert pack(tuple(arguments)) == expected


def test_an_argument_of_another_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="must be text, bytes or a number"):
        pack(("SET", "key", None))


arguments_of_all_kinds = st.lists(
    st.text(st.characters(codec="utf-8")) | st.binary() | st.integers() | st.floats(0, 1e6),
    min_size=1,
    max_size=20,
)


def whole(beginning: list[Any], arguments: list[Any]) -> bytes:
    return library.pack_command((*beginning, *arguments))


@given(arguments_of_all_kinds, st.lists(arguments_of_all_kinds, min_size=1, max_size=3))
def test_what_commands_begin_with_is_packed_once(
    beginning: list[Any], commands: list[list[Any]]
) -> None:
    prefix = Prefix(*beginning)
    for arguments in commands:
        assert prefix.packed(arguments) == whole(beginning, arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        [""],
        [b""],
        [0, -1, 2**63],
        [b"*1\r\n$4\r\nPING\r\n"],
        ["\r\n"],
        [b"\0\xff"],
        ["x" * 9, "y" * 10, "z" * 100],
        [*range(1_000)],
        [b"x" * 2_000_000, ""],
    ],
    ids=["empty text", "empty", "ints", "command", "CRLF", "binary", "sizes", "many", "large"],
)
def test_whatever_is_in_the_arguments_the_command_is_the_same(arguments: list[Any]) -> None:
    for beginning in (["EVALSHA"], ["EVALSHA", "0" * 40, 2, b"jq:{q}:", b""], arguments):
        assert Prefix(*beginning).packed(arguments) == whole(beginning, arguments)
        assert Prefix(*beginning).packed(tuple(arguments)) == whole(beginning, arguments)


def test_commands_are_packed_one_after_the_other() -> None:
    assert pack() == b""
    assert pack(("PING",), ("GET", "k")) == b"*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"
