"""The spec of a job, as it is stored."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobqueue.options import NO_OPTIONS, JobOptions
from jobqueue.packing import pack, unpack
from jobqueue.retry import Exponential, Fixed, Immediate, Linear
from jobqueue.spec import DEFAULT_SERDE, VERSION, Spec, SpecError, decode_spec, encode_spec
from jobqueue.values import MAX_MS, UNSET, to_ms

options = st.builds(
    JobOptions,
    timeout=st.just(UNSET) | st.none() | st.floats(0.001, MAX_MS / 1000),
    max_attempts=st.just(UNSET) | st.integers(1, 1_000_000),
    retry=st.just(UNSET)
    | st.sampled_from([Immediate(), Fixed(0), Linear(1), Exponential(give_up_on=(ValueError,))]),
    id=st.just(UNSET) | st.just("a"),
    delay=st.just(UNSET) | st.just(5),
    result_ttl=st.just(UNSET) | st.just(5),
)


@given(st.binary(), st.sampled_from(["msgpack", "json", "own-serde_1"]), options)
def test_a_spec_survives_the_storage(payload: bytes, serde: str, options: JobOptions) -> None:
    timeout_ms = None
    if options.timeout is None:
        timeout_ms = 0
    elif options.timeout is not UNSET:
        timeout_ms = to_ms(options.timeout, "timeout")
    assert decode_spec(encode_spec(payload, serde, options)) == Spec(
        payload=payload,
        serde=serde,
        timeout_ms=timeout_ms,
        max_attempts=None if options.max_attempts is UNSET else options.max_attempts,
        retry=None if options.retry is UNSET else options.retry,
    )


def test_only_what_differs_from_the_default_is_written() -> None:
    assert unpack(encode_spec(b"p", DEFAULT_SERDE, NO_OPTIONS)) == [VERSION, b"p"]
    own = JobOptions(id="a", delay=1, result_ttl=1, wait=1, timeout=None, max_attempts=2)
    assert unpack(encode_spec(b"p", "json", own)) == [
        VERSION,
        b"p",
        {"serde": "json", "timeout_ms": 0, "max_attempts": 2},
    ]


def test_a_function_cannot_be_written() -> None:
    with pytest.raises(TypeError, match=r"^retry: a function cannot travel"):
        encode_spec(b"", DEFAULT_SERDE, JobOptions(retry=lambda attempt, error: 1))


def test_what_a_later_version_adds_is_passed_over() -> None:
    later = pack([VERSION, b"p", {"priority": 1, "serde": "json"}, "more"])
    assert decode_spec(later) == Spec(payload=b"p", serde="json")


@pytest.mark.parametrize("version", [VERSION + 1, 0, None, "1", [1]])
def test_another_version_is_refused_with_what_to_do(version: Any) -> None:
    with pytest.raises(SpecError, match=r"has version .*, this worker reads 1: .*upgrade"):
        decode_spec(pack([version, b""]))


@pytest.mark.parametrize("rest", [[], [None], ["text"], [[1]], [b"", None], [b"", [["serde", 1]]]])
def test_a_part_of_the_wrong_kind_is_refused(rest: list[Any]) -> None:
    with pytest.raises(SpecError, match=r"^the job's spec cannot be decoded: its "):
        decode_spec(pack([VERSION, *rest]))


@pytest.mark.parametrize(
    "fields",
    [
        {"timeout_ms": "5"},
        {"timeout_ms": -1},
        {"timeout_ms": 1.5},
        {"timeout_ms": True},
        {"timeout_ms": MAX_MS + 1},
        {"max_attempts": 0},
        {"max_attempts": "3"},
        {"max_attempts": True},
        {"max_attempts": 10**9},
        {"retry": None},
        {"retry": ["unknown", [], [], []]},
        {"retry": ["fixed", ["x"], [], []]},
    ],
)
def test_an_option_of_the_wrong_kind_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"^the job's spec cannot be decoded: "):
        decode_spec(pack([VERSION, b"", fields]))


@given(st.binary())
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(SpecError, match=r"^the job's spec "):
        decode_spec(data)


@pytest.mark.parametrize("value", [None, [], "x", 5, [["v", 1]], {}, {"v": 1}, {0: 1}])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(SpecError, match=r"^the job's spec "):
        decode_spec(pack(value))


def test_a_deep_spec_is_refused() -> None:
    with pytest.raises(SpecError):
        decode_spec(b"\x92\x01" + b"\x91" * 100_000 + b"\x01")
