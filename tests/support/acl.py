"""The users of the documentation: what their recipes grant is what the tests run with."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

PAGE: Final = Path(__file__).parents[2] / "docs" / "guarantees.md"
PASSWORD: Final = "p@ss/word?#%41&x=y:z"
"""Of every character that a URL reserves."""
_RECIPE: Final = re.compile(r"^\$ redis-cli ACL SETUSER (\w+) ((?:.*\\\n)*.*)$", re.MULTILINE)


def recipes() -> dict[str, list[str]]:
    """The rules of each user of the page, ready for ACL SETUSER."""
    found = _RECIPE.findall(PAGE.read_text(encoding="utf-8"))
    return {user: shlex.split(rules.replace("\\\n", " ")) for user, rules in found}


def make_user(admin: Any, user: str, *without: str) -> None:
    """Create a user as the page says, but for some of its rules."""
    rules = [rule for rule in recipes()[user] if rule not in without]
    assert len(rules) == len(recipes()[user]) - len(without)
    known = [f">{PASSWORD}" if rule == ">PASSWORD" else rule for rule in rules]
    admin.execute_command("ACL", "SETUSER", user, *known)


def url_of(url: str, user: str, password: str = PASSWORD) -> str:
    """The same server as this user."""
    from urllib.parse import quote

    place = urlsplit(url)
    return place._replace(netloc=f"{user}:{quote(password, safe='')}@{place.netloc}").geturl()
