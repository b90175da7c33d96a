"""What a process that opens uploads may take and do. Free of torch."""

from __future__ import annotations

import math
import os
import resource
import time
from pathlib import Path


def limit(memory: int, seconds: int) -> None:
    """Bound what this process may take on top of what it has: memory, processor time, and bytes in a file."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    processor = math.ceil(time.process_time()) + seconds * (os.cpu_count() or 1)
    bounds = {
        resource.RLIMIT_AS: pages * os.sysconf("SC_PAGE_SIZE") + memory,
        resource.RLIMIT_CPU: processor,
        resource.RLIMIT_FSIZE: memory,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in bounds.items():
        resource.setrlimit(kind, (most, most))
