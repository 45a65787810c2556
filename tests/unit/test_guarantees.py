"""The page of guarantees names tests and scenarios that exist, and the README leads to it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.chaos.scenarios import SCENARIOS
from tests.support import acl

ROOT = Path(__file__).parents[2]
TEXT = acl.PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(set(re.findall(r"tests/[\w/]+(?:\.py)?", TEXT))))
def test_a_file_that_is_named_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\btest_\w+", TEXT))))
def test_a_test_that_is_named_exists(name: str) -> None:
    files = list((ROOT / "tests").rglob("test_*.py"))
    assert any(file.stem == name for file in files) or any(
        f"def {name}(" in file.read_text(encoding="utf-8") for file in files
    )


@pytest.mark.parametrize("name", sorted(set(re.findall(r"S\d+(?= `)", TEXT))))
def test_a_scenario_is_called_what_it_is_called_there(name: str) -> None:
    assert re.findall(rf"{name} `([^`]+)`", TEXT) == [SCENARIOS[name].title]


def test_the_recipes_are_read() -> None:
    assert {"jobqueue", "producer"} == set(acl.recipes())
    assert "+evalsha" in acl.recipes()["jobqueue"]


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md"])
def test_the_way_there(page: str) -> None:
    assert "(docs/guarantees.md)" in (ROOT / page).read_text(encoding="utf-8")
