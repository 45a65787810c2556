"""The wheel has what it needs, and works from a folder that is not the checkout."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.packaging.conftest import REPOSITORY, Installed
from tests.support.backends import Backend

pytestmark = pytest.mark.timeout(180)

APP = """
import asyncio, sys
from jobqueue import Queue

queue = Queue("packaged")

@queue.job()
async def double(number: int) -> int:
    return 2 * number

async def main(step):
    async with queue:
        if step == "enqueue":
            await double.options(id="one").enqueue(21)
        else:
            print(await queue.result("one", wait=5))
            await queue.set_result_ttl("one", 0.001)

if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
"""


def test_it_holds_the_package_the_scripts_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    scripts = REPOSITORY / "lua"
    expected = {f"jobqueue/lua/{path.relative_to(scripts)}" for path in scripts.rglob("*.lua")}
    assert expected
    assert expected <= names
    assert "jobqueue/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"jobqueue"}


def test_it_is_imported_from_the_environment(installed: Installed) -> None:
    show = "import jobqueue; print(jobqueue.__file__)"
    where = Path(installed.run(installed.python, "-c", show).stdout.strip())
    assert where.is_relative_to(installed.folder)


def test_every_public_name_can_be_imported(installed: Installed) -> None:
    installed.run(installed.python, "-W", "error", "-c", "from jobqueue import *")


def test_importing_it_loads_no_storage_and_no_command_line(installed: Installed) -> None:
    done = installed.run(installed.python, "-X", "importtime", "-c", "import jobqueue")
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "jobqueue.queue" in loaded
    tops = {name.partition(".")[0] for name in loaded}
    unwanted = {"redis", "hiredis", "sqlite3", "_sqlite3", "typer", "click", "rich", "uvloop"}
    assert not tops & unwanted


def test_the_command_knows_its_version(installed: Installed, wheel: Path) -> None:
    version = wheel.name.split("-")[1]
    assert version in installed.run(installed.command, "--version").stdout


@pytest.mark.storages("sqlite", "redis")
def test_a_job_runs(installed: Installed, backend: Backend) -> None:
    (installed.elsewhere / "app.py").write_text(APP)
    url = {"JOBQUEUE_URL": backend.url}
    installed.run(installed.python, "app.py", "enqueue", **url)
    installed.run(installed.command, "worker", "app:queue", "--burst", **url)
    assert installed.run(installed.python, "app.py", "result", **url).stdout == "42\n"
