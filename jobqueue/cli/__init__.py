"""The ``jobqueue`` command."""

from __future__ import annotations

import sys
from contextlib import suppress


def main() -> None:
    """Run the command line of this process, and exit with the code that it ends with."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        # A terminal that lacks a letter is no reason to fail.
        reconfigure(errors="backslashreplace")
    try:
        from jobqueue.cli.app import app

        app(prog_name="jobqueue")
    except KeyboardInterrupt:
        # Pressed while the command was still being loaded.
        from jobqueue.cli.exits import ExitCode

        sys.exit(ExitCode.INTERRUPTED)
    finally:
        # What cannot be written any more (a closed pipe) must not end in a traceback of the
        # interpreter's own last flush.
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                with suppress(OSError, ValueError):
                    stream.close()
