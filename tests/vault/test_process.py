"""A hardened process leaves no core file and cannot be read by its neighbours."""

import subprocess
import sys

import pytest

from ownkey.vault import process


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_hardened_process_cannot_be_dumped() -> None:
    """In a process of its own: the limit of core files is 0 and the kernel calls it undumpable."""
    program = (
        "import ctypes, resource\n"
        "from ownkey.vault.process import harden_process\n"
        "print(harden_process(), resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "True (0, 0) 0"


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Off Linux the process runs on and is told that nothing took."""
    monkeypatch.setattr(sys, "platform", "darwin")

    assert process.harden_process() is False


def test_wiping_a_variable_that_is_not_there_does_nothing() -> None:
    """No variable, no write."""
    process.wipe_environment_variable("OWNKEY_TEST_NO_SUCH_VARIABLE")
