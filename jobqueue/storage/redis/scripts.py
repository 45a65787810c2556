"""Loads ``lua/*.lua``: puts in what each includes and reads the keys that its header declares."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from jobqueue.errors import ConfigurationError

_HEADER: Final = re.compile(r"\A(?:--[^\n]*\n)+")
_INCLUDE: Final = re.compile(r"^-- include: (?P<names>[a-z_ ]+)$", re.MULTILINE)
_WITH_FLOW: Final = re.compile(r"^-- with flow: (?P<names>[a-z_ ]+)$", re.MULTILINE)
_NAME: Final = re.compile(r"^local (?:function )?(\w+)", re.MULTILINE)
_FLAGS: Final = re.compile(r"^-- (?P<flags>flags: [a-z-]+)$", re.MULTILINE)
_KEYS: Final = re.compile(r"^-- KEYS\n(?P<lines>(?:--   [^\n]+\n)+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One verb.

    Attributes:
        name: File name without its ending.
        source: Full text, each include in place of the line that names it.
        sha: SHA-1 of it, as EVALSHA wants it.
        keys: Names of the keys in the order of KEYS.
    """

    name: str
    source: str
    sha: str
    keys: tuple[str, ...]


def scripts_folder() -> Path:
    """``lua/`` of the checkout where there is one, else the copy in the installed package."""
    package = Path(__file__).parents[2]
    checkout = package.parent / "lua"
    return checkout if (checkout / "claim.lua").is_file() else package / "lua"


@cache
def load(name: str) -> Script:
    """Read one script.

    Raises:
        ConfigurationError: The file is missing, or its header is not as the loader needs it.
    """
    folder = scripts_folder()
    try:
        text = (folder / f"{name}.lua").read_text(encoding="utf-8")
        header = _HEADER.match(text)
        body = _INCLUDE.sub(lambda line: _joined(folder, line["names"]), text)
        body = _WITH_FLOW.sub(lambda line: _with_flow(_joined(folder, line["names"])), body)
    except OSError as error:
        raise ConfigurationError(f"the script {name!r} is missing: {error}") from error
    declared = _KEYS.search(header.group()) if header else None
    if declared is None:
        raise ConfigurationError(f"the script {name!r} declares no KEYS in its header")
    keys = tuple(line.removeprefix("--").split()[0] for line in declared["lines"].splitlines())
    flags = _FLAGS.search(header.group()) if header else None
    # The server wants its flags in the very first line.
    shebang = f"#!lua {flags['flags'].replace(': ', '=')}\n" if flags else ""
    source = shebang + body
    return Script(name, source, hashlib.sha1(source.encode()).hexdigest(), keys)


def _joined(folder: Path, names: str) -> str:
    files = [folder / "include" / f"{name}.lua" for name in names.split()]
    return "".join(file.read_text(encoding="utf-8") for file in files)


def _with_flow(text: str) -> str:
    """What only a queue that uses time and flow needs, as one function that makes it when called.

    To define a function costs a script a tenth of a microsecond whether it is called or not, and
    there are dozens.
    """
    names = ", ".join(f"{name} = {name}" for name in _NAME.findall(text))
    return f"local function with_flow()\n{text}return {{ {names} }}\nend\n"
