"""How much memory a process took, as it says itself."""

from pathlib import Path
from typing import Final

_STATUS: Final = Path("/proc/self/status")
#: Code that defines ``peak``: the largest resident memory so far, in KiB.
PEAK: Final = f"""
import re
from pathlib import Path

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("{_STATUS}").read_text())[1])
"""


def tells_its_peak() -> bool:
    """Whether this system's processes know it; Linux's do."""
    return _STATUS.exists()
