"""The scripts' headers: what the loader reads is what the scripts use."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from jobqueue.errors import ConfigurationError
from jobqueue.storage.redis import scripts
from jobqueue.storage.redis.keys import QueueKeys
from jobqueue.storage.redis.scripts import load, scripts_folder

FOLDER = scripts_folder()
NAMES = sorted(path.stem for path in FOLDER.glob("*.lua"))
INCLUDES = sorted(path.stem for path in (FOLDER / "include").glob("*.lua"))
KINDS = {"string", "list", "set", "zset", "hash", "prefix", "channel"}
# Names that differ from the header's, because the header's is that of a function or a table.
ALIASES = {"events_channel": "events", "reply_prefix": "reply"}

_LOCAL = re.compile(r"^local ([a-z_, ]+) = (KEYS\[\d+\](?:, KEYS\[\d+\])*)$", re.MULTILINE)
_TABLE = re.compile(r"^local (\w+) = \{ ([^}]*KEYS\[[^}]*) \}$", re.MULTILINE)
_FIELD = re.compile(r"(\w+) = KEYS\[(\d+)\]")
_FUNCTION = re.compile(r"^local function (\w+)\(", re.MULTILINE)
_INCLUDES = re.compile(r"^-- (?:include|with flow): (.+)$", re.MULTILINE)


def _text(name: str) -> str:
    return (FOLDER / f"{name}.lua").read_text(encoding="utf-8")


def _header(name: str) -> str:
    match = re.match(r"(?:--.*\n)+", _text(name))
    assert match is not None
    return match.group()


def _body(name: str) -> str:
    return _text(name)[len(_header(name)) :]


def _section(name: str, title: str) -> list[str]:
    match = re.search(rf"^-- {title}\n((?:--   .+\n)+)", _header(name), re.MULTILINE)
    return [line.removeprefix("--").strip() for line in match[1].splitlines()] if match else []


def _include(name: str) -> str:
    return (FOLDER / "include" / f"{name}.lua").read_text(encoding="utf-8")


def _included(name: str) -> list[str]:
    return " ".join(_INCLUDES.findall(_text(name))).split()


def _code(text: str) -> str:
    return re.sub(r"--.*", "", text)


def test_there_are_scripts() -> None:
    assert {"enqueue", "claim", "finish", "cancel", "heartbeat", "recover"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_header_says_purpose_keys_and_arguments(name: str) -> None:
    assert re.match(rf"-- {name}: \w.*[.\n]", _header(name))
    assert len(_section(name, "KEYS")) == len(load(name).keys) > 0
    assert _section(name, "ARGV")


@pytest.mark.parametrize("name", NAMES)
def test_each_key_has_its_kind(name: str) -> None:
    for line in _section(name, "KEYS"):
        assert line.split()[1] in KINDS, line


@pytest.mark.parametrize("name", NAMES)
def test_arguments_are_numbered_in_order_and_are_those_used(name: str) -> None:
    numbers = [
        match for line in _section(name, "ARGV") if (match := re.match(r"(\d+)(\.\.)?  ", line))
    ]
    assert [int(match[1]) for match in numbers] == list(range(1, len(numbers) + 1))
    assert not any(match[2] for match in numbers[:-1]), "only the last may be repeated"
    used = {int(number) for number in re.findall(r"ARGV\[(\d+)\]", _code(_body(name)))}
    assert used <= set(range(1, len(numbers) + 1))
    if used and not numbers[-1][2]:
        assert max(used) == len(numbers)


@pytest.mark.parametrize("name", NAMES)
def test_keys_stand_in_the_order_of_the_header(name: str) -> None:
    keys = load(name).keys
    places: dict[int, str] = {}
    body = _body(name)
    for names, values in _LOCAL.findall(body):
        numbers = [int(number) for number in re.findall(r"\d+", values)]
        assert len(numbers) == len(names.split(", "))
        places.update(zip(numbers, names.split(", "), strict=True))
    for table, fields in _TABLE.findall(body):
        places.update({int(number): f"{table}_{field}" for field, number in _FIELD.findall(fields)})
    for number, local in places.items():
        assert ALIASES.get(local, local) == keys[number - 1]
    # What no such line names is gone through in a loop: `for i = 1, 3 do ... KEYS[i]`.
    missing = set(range(1, len(keys) + 1)) - set(places)
    loops = re.findall(r"^for (\w+) = (\d+), (\d+) do\n(?:.*\n)*?.*KEYS\[\1\]", body, re.MULTILINE)
    looped = {each for _, start, end in loops for each in range(int(start), int(end) + 1)}
    assert missing <= looped
    literal = {int(number) for number in re.findall(r"KEYS\[(\d+)\]", _code(body))}
    assert literal | looped == set(range(1, len(keys) + 1))


@pytest.mark.parametrize("name", NAMES)
def test_each_key_of_a_header_is_one_that_python_names(name: str) -> None:
    keys = QueueKeys("q")
    own = b"jq:{q}:inbox:w"
    for each in load(name).keys:
        key = keys.named(each, "w")
        assert key == own or not key.endswith(b":w"), f"{each} is no key of a queue"


def test_a_key_is_described_alike_everywhere() -> None:
    kinds: dict[str, set[str]] = {}
    for name in NAMES:
        for line in _section(name, "KEYS"):
            key, kind, *_ = line.split()
            kinds.setdefault(key, set()).add(kind)
    assert {key: kind for key, kind in kinds.items() if len(kind) > 1} == {}


@pytest.mark.parametrize("name", NAMES)
def test_each_include_exists_and_is_used(name: str) -> None:
    included = _included(name)
    assert set(included) <= set(INCLUDES)
    assert len(set(included)) == len(included)
    sources = [_code(_include(each)) for each in included]
    for each, source in zip(included, sources, strict=True):
        others = _code(_body(name)) + "".join(other for other in sources if other is not source)
        used = [f for f in _FUNCTION.findall(source) if re.search(rf"\b{f}\(", others)]
        assert used, f"{name} includes {each} and uses nothing of it"


@pytest.mark.parametrize("name", NAMES)
def test_an_include_comes_before_what_needs_it(name: str) -> None:
    source = _code(load(name).source)
    for include in INCLUDES:
        for function in _FUNCTION.findall(_include(include)):
            first = re.search(rf"(?<![\w.:]){function}\(", source)
            assert first is None or source[: first.start()].endswith("local function "), (
                f"{name} calls {function} of {include} before it is defined"
            )


def test_no_include_is_left_over() -> None:
    assert {include for name in NAMES for include in _included(name)} == set(INCLUDES)


@pytest.mark.parametrize("name", NAMES)
def test_the_source_is_flags_then_the_script_with_each_include_in_its_place(name: str) -> None:
    script = load(name)
    flags = "#!lua flags=allow-oom\n" if "-- flags: allow-oom" in _header(name) else ""
    assert script.source.startswith(flags + f"-- {name}: ")
    at = len(flags)
    # Its own text, the names of what is included there, its own text again, ...
    for number, part in enumerate(_INCLUDES.split(_text(name))):
        for text in map(_include, part.split()) if number % 2 else [part]:
            found = script.source.find(text, at)
            assert found >= 0, f"{part} does not stand where it should"
            at = found + len(text)
    assert at == len(script.source)
    assert not _INCLUDES.search(script.source)
    assert script.sha == hashlib.sha1(script.source.encode()).hexdigest()
    assert load(name) is script


@pytest.mark.parametrize("name", NAMES)
def test_python_asks_for_each_script(name: str) -> None:
    folder = Path(scripts.__file__).parent
    code = "".join(path.read_text() for path in sorted(folder.glob("*.py")))
    assert f'"{name}"' in code


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "clock.lua").write_text("-- clock\n")
    monkeypatch.setattr(scripts, "scripts_folder", lambda: tmp_path)
    monkeypatch.setattr(scripts, "load", load.__wrapped__)
    return tmp_path


GOOD = "-- a: b.\n--\n-- KEYS\n--   job    prefix of\n--   ready  list\n-- ARGV\n--   1  now\n"


def test_a_header_is_read(folder: Path) -> None:
    (folder / "a.lua").write_text(f"{GOOD}-- include: clock\nreturn 1\n")
    script = scripts.load("a")
    assert script.keys == ("job", "ready")
    assert script.source == f"{GOOD}-- clock\n\nreturn 1\n"


def test_an_include_may_stand_in_the_middle(folder: Path) -> None:
    (folder / "include" / "late.lua").write_text("-- late\n")
    text = f"{GOOD}-- include: clock\nif x then return 1 end\n-- include: late\nreturn 2\n"
    (folder / "a.lua").write_text(text)
    expected = f"{GOOD}-- clock\n\nif x then return 1 end\n-- late\n\nreturn 2\n"
    assert scripts.load("a").source == expected


def test_what_belongs_to_flow_is_made_by_a_function(folder: Path) -> None:
    lanes = "local LOW = 1\nlocal function lanes()\n  local inner = 2\nend\n"
    (folder / "include" / "lanes.lua").write_text(lanes)
    (folder / "a.lua").write_text(f"{GOOD}-- with flow: lanes\nreturn 1\n")
    assert scripts.load("a").source == (
        f"{GOOD}local function with_flow()\n{lanes}return {{ LOW = LOW, lanes = lanes }}\nend\n\n"
        "return 1\n"
    )


@pytest.mark.parametrize(
    "text", ["", "return 1\n", "-- a: b.\nreturn 1\n", f"\n{GOOD}", "-- KEYS\n"]
)
def test_a_script_without_keys_is_refused(folder: Path, text: str) -> None:
    (folder / "a.lua").write_text(text)
    with pytest.raises(ConfigurationError, match="'a' declares no KEYS in its header"):
        scripts.load("a")


def test_a_script_or_include_that_is_missing_is_named(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="'a' is missing"):
        scripts.load("a")
    (folder / "a.lua").write_text(f"{GOOD}-- include: clock gone\nreturn 1\n")
    with pytest.raises(ConfigurationError, match=r"'a' is missing: .*gone\.lua"):
        scripts.load("a")
