"""The suite with uvloop, without hiredis, or with as few permissions on a server as the
documentation's recipe grants: ``JOBQUEUE_TEST_VARIANT=uvloop,no-hiredis,acl``.

Imported before anything else is, since what is not to be found must not have been loaded.
"""

from __future__ import annotations

import asyncio
import os
import sys
from importlib import import_module
from typing import Any

VARIANT = frozenset(filter(None, os.environ.get("JOBQUEUE_TEST_VARIANT", "").split(",")))

if unknown := VARIANT - {"uvloop", "no-hiredis", "acl"}:
    raise ValueError(f"JOBQUEUE_TEST_VARIANT has unknown parts: {', '.join(sorted(unknown))}")
if "no-hiredis" in VARIANT:
    modules: dict[str, Any] = sys.modules
    modules["hiredis"] = None  # an import of it fails, as if it were not installed
if "uvloop" in VARIANT:
    uvloop: Any = import_module("uvloop")
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
