"""The set of serdes that one queue can read, and the errors when it cannot."""

from __future__ import annotations

import re
from typing import Any, Final

from jobqueue.errors import ConfigurationError, SerializationError
from jobqueue.serde.base import Serde
from jobqueue.serde.json import JsonSerde
from jobqueue.serde.msgpack import MsgpackSerde

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")


class SerdeSet:
    """The serde that a queue writes with, and those that it can read.

    A blob that stands alone (a result) is written as the serde's name, a line feed, and the bytes,
    so that the reader needs to know nothing else.
    """

    def __init__(self, default: str | Serde = "msgpack") -> None:
        builtin: tuple[Serde, ...] = (MsgpackSerde(), JsonSerde())
        self._by_name: dict[str, Serde] = {serde.name: serde for serde in builtin}
        if isinstance(default, str):
            if default not in self._by_name:
                known = ", ".join(sorted(self._by_name))
                raise ConfigurationError(
                    f"unknown serde {default!r}: use one of {known}, or pass a Serde object"
                )
            self.default = self._by_name[default]
        else:
            name = getattr(default, "name", None)
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise ConfigurationError(
                    f"{default!r} is no Serde: its name must be 1 to 32 ASCII letters, digits, "
                    "'-' or '_'"
                )
            self._by_name[name] = self.default = default

    def dumps(self, value: Any, what: str, name: str | None = None) -> bytes:
        """Serialise with the default serde, or with the one of that name.

        Raises:
            SerializationError: The value cannot be serialised; the message starts with ``what``.
        """
        serde = self.default if name is None else self._named(name)
        try:
            return serde.dumps(value)
        except Exception as error:
            raise SerializationError(f"{what} cannot be serialised: {_say(error)}") from error

    def loads(self, name: str, data: bytes, what: str) -> Any:
        """Deserialise what the serde of that name wrote.

        Raises:
            SerializationError: Unknown serde, or bytes that it cannot read.
        """
        try:
            return self._named(name).loads(data)
        except SerializationError:
            raise
        except Exception as error:
            raise SerializationError(f"{what} cannot be decoded: {_say(error)}") from error

    def dump_alone(self, value: Any, what: str, name: str | None = None) -> bytes:
        """Serialise into a blob that names its serde."""
        data = self.dumps(value, what, name)
        return (name or self.default.name).encode() + b"\n" + data

    def load_alone(self, blob: bytes, what: str) -> Any:
        """Deserialise what :meth:`dump_alone` wrote."""
        name, _, data = blob.partition(b"\n")
        return self.loads(name.decode("ascii", "replace"), data, what)

    def _named(self, name: str) -> Serde:
        serde = self._by_name.get(name)
        if serde is None:
            raise SerializationError(
                f"the serde {name!r} is not known here: give it to Queue(serde=...)"
            )
        return serde


def _say(error: Exception) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception:
        return type(error).__name__
