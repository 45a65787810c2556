"""Standard output of the short commands: tables for people, plain text for pipes, JSON."""

from __future__ import annotations

import json
import math
import sys
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

if TYPE_CHECKING:
    from rich.table import Table


def jsonable(value: Any) -> Any:
    """A value as JSON has it: dates in ISO 8601, bytes in base64, durations in seconds."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {_key(key): jsonable(item) for key, item in items}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in cast("Iterable[Any]", value)]
    if isinstance(value, set | frozenset):
        members = [jsonable(item) for item in cast("Iterable[Any]", value)]
        return sorted(members, key=lambda member: json.dumps(member, sort_keys=True))
    return _scalar(value)


def _scalar(value: object) -> Any:
    if isinstance(value, bytes | bytearray):
        return b64encode(value).decode("ascii")
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, UUID | Decimal):
        return str(value)
    return repr(value)


def _key(key: Any) -> str:
    plain = jsonable(key)
    return plain if isinstance(plain, str) else json.dumps(plain)


def one_line(text: str) -> str:
    """Text that stays on its line and cannot steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def write(text: str) -> None:
    """Write a line (or several) to standard output, at once.

    Raises:
        BrokenPipeError: Nobody reads any more.
    """
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def write_json(value: Any, *, indent: int | None = None) -> None:
    """Write one JSON document; only ASCII, so that it survives every locale."""
    write(json.dumps(jsonable(value), indent=indent))


def compact(value: Any) -> str:
    """A value on one line, for people."""
    return one_line(json.dumps(jsonable(value), ensure_ascii=False))


def moment(at: datetime | None) -> str | None:
    """A moment, for people."""
    return None if at is None else at.isoformat(timespec="milliseconds")


def table(title: str, rows: Iterable[tuple[str, str]], *, numbers: bool = False) -> Table:
    """Two columns, for a terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = Table(title=Text(title), show_header=False, box=box.ROUNDED, title_justify="left")
    grid.add_column(style="bold")
    grid.add_column(justify="right" if numbers else "left", overflow="fold")
    for label, value in rows:
        grid.add_row(Text(label), Text(value))
    return grid


def write_rows(title: str, rows: Iterable[tuple[str, str]], *, numbers: bool = False) -> None:
    """A table on a terminal; else a line for each row, label and value apart by a tab."""
    if not sys.stdout.isatty():
        write("\n".join(f"{label}\t{value}" for label, value in rows))
        return
    from rich.console import Console

    Console().print(table(title, rows, numbers=numbers))
    sys.stdout.flush()


def write_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str | None]]) -> None:
    """A table with many columns on a terminal; else a line for each row, the first with the names
    of the columns, apart by tabs. ``None`` is nothing on a terminal, and ``-`` elsewhere."""
    if not sys.stdout.isatty():
        lines = [columns, *([cell or "-" for cell in row] for row in rows)]
        write("\n".join("\t".join(line) for line in lines))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(title=Text(title), box=box.ROUNDED, title_justify="left")
    for column in columns:
        grid.add_column(Text(column), overflow="fold")
    for row in rows:
        grid.add_row(*(Text(cell or "") for cell in row))
    Console().print(grid)
    sys.stdout.flush()
