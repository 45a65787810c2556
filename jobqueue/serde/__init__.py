"""How payloads and results become bytes: the protocol, msgpack (the default) and JSON."""

from __future__ import annotations

from jobqueue.serde.base import Serde, SerdeSet
from jobqueue.serde.json import JsonSerde
from jobqueue.serde.msgpack import MsgpackSerde

__all__ = ["JsonSerde", "MsgpackSerde", "Serde", "SerdeSet"]
