"""Ids and the check of names."""

from __future__ import annotations

import base64
import re
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobqueue.ids import MAX_NAME_BYTES, check_name, new_job_id, new_token, new_worker_id
from tests.support.names import HOSTILE_NAMES


def test_job_ids_are_distinct_and_sort_by_their_making() -> None:
    ids = [new_job_id() for _ in range(1_000)]
    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids)
    assert all(re.fullmatch("[0-9a-v]{26}", id) for id in ids)


@given(st.uuids())
def test_a_job_id_is_a_uuid_in_base_32(uuid: UUID) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobqueue.ids.uuid7", lambda: uuid)
        expected = base64.b32hexencode(uuid.bytes).decode().rstrip("=").lower()
        assert new_job_id() == expected


def test_tokens_are_distinct_and_hold_no_space() -> None:
    tokens = [new_token() for _ in range(1_000)]
    assert len(set(tokens)) == len(tokens)
    assert all(re.fullmatch("[0-9a-f]{16}", token) for token in tokens)


def test_worker_names_are_distinct_legal_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "h" * 1_000)
    names = [new_worker_id() for _ in range(100)]
    assert len(set(names)) == len(names)
    assert all(check_name(name, "worker") == name for name in names)


@pytest.mark.parametrize("name", HOSTILE_NAMES.values(), ids=HOSTILE_NAMES.keys())
def test_any_text_is_a_name(name: str) -> None:
    assert check_name(name, "id") == name


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_bytes_are_counted_and_not_characters(name: str) -> None:
    if len(name.encode()) <= MAX_NAME_BYTES:
        assert check_name(name, "id") == name
    else:
        with pytest.raises(ValueError, match=r"^id must be at most 255 bytes long, not \d+$"):
            check_name(name, "id")


@pytest.mark.parametrize("character", ["a", "\u00e9", "\u20ac", "\U0010ffff"])
def test_the_limit_is_exact(character: str) -> None:
    size = len(character.encode())
    longest = character * (MAX_NAME_BYTES // size)
    assert check_name(longest + "a" * (MAX_NAME_BYTES % size), "id")
    with pytest.raises(ValueError, match="not 256"):
        check_name(longest + "a" * (MAX_NAME_BYTES % size + 1), "id")


@pytest.mark.parametrize("value", [None, 1, b"a", ["a"], 1.5])
def test_what_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match=f"^id must be a string, not {type(value).__name__}$"):
        check_name(value, "id")


@pytest.mark.parametrize("name", ["", "\ud800", "a\udfff", "\ud800" * 300])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^the queue's name "):
        check_name(name, "the queue's name")
