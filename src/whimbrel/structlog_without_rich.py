"""Imports structlog, but not Rich with it, which structlog would load to draw tracebacks: Whimbrel's logs have plain ones.

Import this before anything that imports structlog. It saves a sixth of the time in which a worker process starts.
"""

import sys
from types import ModuleType
from typing import cast

RICH = "rich"

if "structlog" not in sys.modules:
    found = sys.modules.get(RICH)
    sys.modules[RICH] = cast("ModuleType", None)  # Python then says that there is no such module
    try:
        import structlog  # noqa: F401
    finally:
        if found is None:
            del sys.modules[RICH]
        else:
            sys.modules[RICH] = found
