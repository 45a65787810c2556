"""msgpack, typed: what every blob of ours goes through."""

from __future__ import annotations

import tracemalloc
from typing import Any

from jobqueue.packing import pack, pack_raw, unpack, unpack_raw

MEGABYTE = 1024 * 1024


def test_a_refused_value_leaves_nothing_behind() -> None:
    for packs in (pack, pack_raw):
        try:
            packs(["half", object()])
        except TypeError:
            pass
        else:
            raise AssertionError("an object is no value of msgpack")
        assert unpack_raw(packs(["whole"])) == [b"whole"]


def test_a_large_value_does_not_keep_its_room() -> None:
    tracemalloc.start()
    try:
        for packs in (pack, pack_raw):
            before, _ = tracemalloc.get_traced_memory()
            size = len(packs(b"x" * 50 * MEGABYTE))
            after, _ = tracemalloc.get_traced_memory()
            assert size > 50 * MEGABYTE
            assert after - before < 5 * MEGABYTE
            assert unpack(pack([1])) == [1]
    finally:
        tracemalloc.stop()


def test_code_of_a_value_may_pack_something_itself() -> None:
    class Busy(dict[str, int]):
        def items(self) -> Any:
            assert unpack(pack("in between")) == "in between"
            return super().items()

    assert unpack(pack(["before", Busy(a=1), "after"])) == ["before", {"a": 1}, "after"]
