"""Nobody else on the host reads this process: no core dumps, no debugger, no key left in the environment.

Decrypted bytes pass through memory and Python cannot wipe its strings. What can be closed is what another
process of the same user sees: a core file, ptrace, /proc/<pid>/mem and /proc/<pid>/environ.
"""

import ctypes
import os
import sys

_PR_SET_DUMPABLE = 4  # linux/prctl.h


def harden_process() -> bool:
    """Turn off core dumps and make the process undumpable, for itself and the children it forks.

    Returns whether both took: false off Linux, where this does nothing, and under a sandbox that forbids
    prctl, where the process still runs. A process without root then cannot even read its own /proc/self/environ;
    another process of the same user can read neither its memory nor its descriptors.
    """
    if sys.platform != "linux":
        return False
    import resource  # POSIX only: at the top it would stop the module from loading elsewhere.

    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        result: int = ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    except (OSError, ValueError, AttributeError):
        return False
    return result == 0


def wipe_environment_variable(name: str) -> None:
    """Overwrite the variable's value where the kernel put it, so that /proc/<pid>/environ shows zeros.

    Unsetting alone only forgets the pointer: the bytes stay readable for the life of the process. The
    variable is empty afterwards; the caller removes it. Does nothing where there is no C library to ask.
    """
    if os.name != "posix":
        return
    try:
        library = ctypes.CDLL(None)
        library.getenv.restype = ctypes.c_void_p
        address = library.getenv(name.encode())
    except (OSError, AttributeError):
        return
    if address:
        ctypes.memset(address, 0, len(ctypes.string_at(address)))
