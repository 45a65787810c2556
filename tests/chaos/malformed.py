"""Bytes and values that nobody should send, from a seed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import msgpack

from jobqueue import Exponential, Fixed, Immediate, Linear
from jobqueue.options import JobOptions
from jobqueue.serde import JsonSerde, MsgpackSerde
from jobqueue.spec import encode_spec

_PAYLOADS: Final[tuple[Any, ...]] = (
    None,
    {"n": 1, "text": "é" * 40},
    [1, -1, 2**63, 10**30, 1.5, True, b"\x00\xff"],
    [datetime(2026, 1, 2, 3, 4), timedelta(seconds=5), {Decimal("1.5")}],
    [[[[[{}]]]]],
)
_POLICIES: Final = (Immediate(), Fixed(2.0), Linear(1, 5), Exponential(give_up_on=ValueError))
_OPTION_NAMES: Final = ("serde", "timeout_ms", "max_attempts", "retry", "unknown", 1, None)


class Malformed:
    """Makes one blob or value after the other; the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)

    def spec(self) -> bytes:
        """A job's spec; a few of them can be read after all."""
        dice = self._dice
        makers: tuple[Callable[[], bytes], ...] = (
            lambda: dice.randbytes(dice.randrange(60)),
            lambda: self._packed(self.value()),
            lambda: self._mutated(self._good_spec()),
            lambda: self._packed([1, self._payload(), self._options()]),
            lambda: self._packed([1, self._payload(), {"retry": self._retry()}]),
            lambda: self._packed([1, self._mutated(self._payload())]),
            lambda: self._packed([self.value(), b"\xc0", *[self.value()] * dice.randrange(3)]),
        )
        return dice.choice(makers)()

    def payload(self) -> tuple[str, bytes]:
        """The name of a serde, and bytes that it may not have written."""
        serde = self._dice.choice((MsgpackSerde(), JsonSerde()))
        good = serde.dumps(_PAYLOADS[1])
        return serde.name, self._dice.choice((self._mutated(good), self._mutated(self._payload())))

    def flow(self, good: bytes) -> bytes:
        """What may stand in place of what a job says, in the form of one storage; a few of them can
        be read after all."""
        dice = self._dice
        makers: tuple[Callable[[], bytes], ...] = (
            lambda: dice.randbytes(dice.randrange(40)),
            lambda: self._packed(self.value()),
            lambda: self._packed([self.value() for _ in range(dice.randrange(9))]),
            lambda: self._packed(self._one_changed(msgpack.unpackb(good))),
            lambda: self._packed(self._one_changed(msgpack.unpackb(good))),
            lambda: self._mutated(good),
        )
        return dice.choice(makers)()

    def record(self, good: bytes) -> bytes:
        """What may stand in place of a schedule's record; a few of them can be read after all."""
        dice = self._dice
        version, fields = msgpack.unpackb(good)
        makers: tuple[Callable[[], bytes], ...] = (
            lambda: dice.randbytes(dice.randrange(40)),
            lambda: self._packed([version, self.value()]),
            lambda: self._packed([version, self._one_changed(fields)]),
            lambda: self._packed([version, self._one_changed(fields)]),
            lambda: self._mutated(good),
        )
        return dice.choice(makers)()

    def _one_changed(self, value: Any) -> Any:
        """The same with one part, however deep, that is something else, or is not there."""
        dice = self._dice
        changed = value.copy()
        places = list(changed) if isinstance(changed, dict) else list(range(len(changed)))
        if not places:
            return self.value()
        place = dice.choice(places)
        if isinstance(changed[place], list | dict) and dice.random() < 0.7:
            changed[place] = self._one_changed(changed[place])
        elif dice.random() < 0.2:
            del changed[place]
        else:
            changed[place] = self.value()
        return changed

    def message(self, good: bytes) -> bytes:
        """What may come on a channel on which ``good`` would be in order."""
        dice = self._dice
        makers: tuple[Callable[[], bytes], ...] = (
            lambda: dice.randbytes(dice.randrange(40)),
            lambda: self._packed(self.value()),
            lambda: self._packed([self.value(), self.value()]),
            lambda: self._packed([[self.value() for _ in range(dice.choice((1, 3, 6)))]]),
            lambda: self._mutated(good),
        )
        return dice.choice(makers)()

    def value(self, depth: int = 0) -> Any:
        """Something that msgpack can hold."""
        dice = self._dice
        leaves: tuple[Callable[[], Any], ...] = (
            lambda: None,
            lambda: dice.choice((True, False, math.nan, math.inf, -0.0, 1e308)),
            lambda: dice.choice((0, 1, -1, 2**31, 2**63, -(2**63), 2**64 - 1)),
            lambda: dice.randbytes(dice.randrange(8)),
            lambda: dice.choice(("", "completed", "running", "x" * 300, "\0", "\U0001f980")),
            lambda: msgpack.ExtType(dice.randrange(127), dice.randbytes(dice.randrange(9))),
        )
        if depth < 3 and dice.random() < 0.4:
            items = [self.value(depth + 1) for _ in range(dice.randrange(4))]
            return items if dice.random() < 0.5 else dict(enumerate(items))
        return dice.choice(leaves)()

    def options(self) -> dict[str, Any]:
        """Options of an enqueue, of all kinds of types and values."""
        dice = self._dice
        names = ("id", "delay", "run_at", "timeout", "max_attempts", "retry", "result_ttl", "wait")
        return {name: self._option() for name in dice.sample(names, dice.randint(1, 3))}

    def _option(self) -> Any:
        dice = self._dice
        strange: tuple[Any, ...] = (
            *(object(), int, len, [], {}, set[Any](), b"", "", "x" * 256, "\ud800", "soon"),
            *(-1, 0, 0.0, 1, 10**400, 1e300, 1e-9, math.nan, -math.inf, True, None, Decimal(1)),
            *(timedelta.max, timedelta(-1), datetime.min, datetime.max, *_POLICIES),
        )
        fine = (3, 0.5, timedelta(hours=1), *_POLICIES)
        return dice.choice(dice.choice((strange, fine, fine, (self.value(),))))

    def _good_spec(self) -> bytes:
        options = JobOptions(
            timeout=self._dice.choice((None, 5, 0.5)),
            max_attempts=self._dice.randint(1, 9),
            retry=self._dice.choice(_POLICIES),
        )
        return encode_spec(self._payload(), "msgpack", options)

    def _payload(self) -> bytes:
        return MsgpackSerde().dumps(self._dice.choice(_PAYLOADS))

    def _options(self) -> Any:
        dice = self._dice
        if dice.random() < 0.1:
            return self.value()
        names = dice.sample(_OPTION_NAMES, dice.randint(1, 3))
        return {name: dice.choice((self.value, self._retry))() for name in names}

    def _retry(self) -> Any:
        dice = self._dice
        kind = dice.choice(("immediate", "fixed", "linear", "exponential", self.value()))
        parameters = [self.value() for _ in range(dice.randrange(5))]
        return [kind, parameters, *(dice.choice(([], self.value())) for _ in range(2))]

    def _packed(self, value: Any) -> bytes:
        return msgpack.packb(value)

    def _mutated(self, data: bytes) -> bytes:
        """A few bytes changed, cut out or put in."""
        dice, changed = self._dice, bytearray(data)
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(changed) + 1)
            match dice.randrange(5):
                case 0:
                    del changed[at:]
                case 1:
                    del changed[at : at + dice.randint(1, 4)]
                case 2:
                    changed[at:at] = dice.randbytes(dice.randint(1, 4))
                case 3:
                    changed[at : at + 1] = bytes([dice.choice(b"\xc1\xdd\xdf\xc6\xc9\x91\x81")])
                case _:
                    changed[at : at + 1] = dice.randbytes(1)
        return bytes(changed)
