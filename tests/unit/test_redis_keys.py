"""Keys: one place for each thing, whatever queues, ids and workers are called."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobqueue.storage.redis.keys import QueueKeys
from jobqueue.storage.redis.scripts import load, scripts_folder
from jobqueue.storage.types import CONTROL, EVENTS, replies
from tests.support.names import HOSTILE_NAMES, LOOKALIKES

FIXED = sorted(
    {key for path in scripts_folder().glob("*.lua") for key in load(path.stem).keys} - {"inbox"}
)
# Made of what keys are made of, so that a clash is likely where one is possible.
PIECES = st.lists(
    st.sampled_from(
        [
            "jq",
            ":",
            "{",
            "}",
            "%",
            "%7B",
            "%7D",
            "%25",
            "25",
            "7",
            "job",
            "ready",
            "inbox",
            "a",
            "\u20ac",
        ]
    ),
    min_size=1,
    max_size=6,
).map("".join)
NAMES = PIECES | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def _all_keys(queue: str, ids: list[str], workers: list[str]) -> list[bytes]:
    keys = QueueKeys(queue)
    return [
        *[keys.named(name) for name in FIXED],
        *[keys.named("inbox", worker) for worker in workers],
        *[keys.job(id) for id in ids],
    ]


@given(
    st.lists(NAMES, min_size=2, max_size=3, unique=True),
    st.lists(NAMES, min_size=1, max_size=3, unique=True),
    st.lists(NAMES, min_size=1, max_size=3, unique=True),
)
def test_no_two_things_share_a_key(queues: list[str], ids: list[str], workers: list[str]) -> None:
    keys = [key for queue in queues for key in _all_keys(queue, ids, workers)]
    assert len(set(keys)) == len(keys)


def test_names_that_look_alike_share_no_key() -> None:
    names = list(dict.fromkeys([*HOSTILE_NAMES.values(), *LOOKALIKES]))
    keys = [key for queue in names for key in _all_keys(queue, names, names)]
    assert len(set(keys)) == len(keys)


@given(NAMES, NAMES, NAMES)
def test_all_keys_and_channels_of_a_queue_share_one_hash_tag(
    queue: str, id: str, worker: str
) -> None:
    keys = QueueKeys(queue)
    topics = [keys.topic(EVENTS), keys.topic(CONTROL), keys.topic(replies(worker))]
    tags = {_hash_tag(key) for key in [*_all_keys(queue, [id], [worker]), *topics]}
    assert len(tags) == 1
    assert tags != {b""}


def _hash_tag(key: bytes) -> bytes:
    """What a cluster takes the slot from: what stands between the first { and the next }."""
    start = key.index(b"{")
    return key[start + 1 : key.index(b"}", start)]


@given(st.lists(NAMES, min_size=2, max_size=2, unique=True))
def test_two_queues_have_two_hash_tags(queues: list[str]) -> None:
    one, other = (_hash_tag(QueueKeys(queue).named("ready")) for queue in queues)
    assert one != other


def test_no_key_of_a_queue_begins_like_all_keys_of_another() -> None:
    for one, other in itertools.permutations(["a", "a}:job", "a}", "a:", "{a", "%7Ba"], 2):
        prefix = QueueKeys(one).named("job").removesuffix(b"job:")
        assert not QueueKeys(other).named("ready").startswith(prefix)


@pytest.mark.parametrize("name", FIXED)
def test_a_fixed_key_does_not_depend_on_the_worker(name: str) -> None:
    assert QueueKeys("q").named(name, "w") == QueueKeys("q").named(name)


def test_the_scripts_prefixes_lead_to_the_keys_and_channels_of_python() -> None:
    keys = QueueKeys("q")
    assert keys.named("job") + b"a" == keys.job("a") == b"jq:{q}:job:a"
    assert keys.named("reply") + b"x" == keys.topic(replies("x")) == b"jq:{q}:reply:x"
    assert keys.named("events") == keys.topic(EVENTS)
    assert keys.named("control") == keys.topic(CONTROL)
    assert keys.named("inbox", "w") == b"jq:{q}:inbox:w"
