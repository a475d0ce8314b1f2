"""House rules that are executed: where secrets open, how money is counted, and that nobody takes a back door."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ownkey.api.statuses import STATUSES
from ownkey.domain.refusals import Code

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "ownkey"
MONEY = [
    "domain/money.py", "domain/pricing.py", "domain/bounds.py", "domain/ledger.py", "domain/caps.py",
    "domain/booking.py", "gateway/outcome.py", "store/holds.py", "store/ends.py", "store/periods.py",
    "store/ledger_rows.py", "store/recovery.py", "store/corrections.py", "store/late_costs.py", "domain/endpoints.py",
    "domain/late_costs.py", "domain/key_readings.py", "store/key_readings.py", "domain/billing.py", "store/addons.py",
    "store/payment_rows.py", "store/payments.py", "store/wallets.py", "control/billing.py", "payments/stripe_facts.py",
    "domain/activity.py", "domain/replay.py", "domain/statement.py", "store/totals.py", "store/receipt_search.py",
    "store/statement.py", "control/savings.py", "control/csv_rows.py",
]


def python_files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*.py")) if "__pycache__" not in path.parts)


def names_of(path: Path) -> set[str]:
    """Every attribute name and every string that could be one."""
    tree = ast.parse(path.read_text())
    found = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return found | {
        node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_reveal_has_one_home() -> None:
    """S4: a secret's plaintext is asked for in one module only: the one that sends."""
    homes = [
        path.relative_to(SOURCE).as_posix() for path in python_files(SOURCE) if "reveal" in names_of(path)
    ]

    assert homes == ["providers/upstream.py"]


@pytest.mark.parametrize("name", MONEY)
def test_money_is_counted_in_whole_numbers(name: str) -> None:
    """No float, no true division and no round in the modules that count money."""
    for node in ast.walk(ast.parse((SOURCE / name).read_text())):
        where = f"{name}:{getattr(node, 'lineno', 0)}"
        assert not (isinstance(node, ast.Name) and node.id in ("float", "round")), where
        assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), where
        assert not (isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div)), where


def test_every_refusal_has_a_status() -> None:
    """The doors' table from code to status is complete, and caps and credits answer 402, which SDKs do not retry."""
    assert set(STATUSES) == set(Code)
    assert {STATUSES[c] for c in (Code.AI_PAUSED, Code.SPEND_CAP_TOO_LOW, Code.INSUFFICIENT_CREDITS)} == {402}


def test_every_refusal_is_documented() -> None:
    """docs/errors.md names every code."""
    text = (ROOT / "docs" / "errors.md").read_text()

    assert [code.value for code in Code if f"`{code.value}`" not in text] == []


def test_the_serving_process_knows_nothing_of_the_emulator() -> None:
    """No back doors: what `ownkey serve` loads contains no part of the emulator, and no word of it."""
    script = (
        "import sys, ownkey.bootstrap, ownkey.cli.main\n"
        "print([m for m in sys.modules if m.startswith('ownkey.emulator')])"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    speaking = [
        path.relative_to(SOURCE).as_posix() for path in python_files(SOURCE)
        if "emulator" in path.read_text().lower() and path.relative_to(SOURCE).parts[0] != "emulator"
    ]

    assert loaded.stdout.strip() == "[]"
    assert speaking == ["cli/demo.py"]


@pytest.mark.parametrize("path", [
    ROOT / "src" / "ownkey" / "cli" / "demo.py", ROOT / "src" / "ownkey" / "cli" / "demo_purchase.py",
    ROOT / "tests" / "deployment.py",
    *python_files(ROOT / "tests" / "system"),
    # The simulator puts a process together itself, with other edges: it has no door to come in by. A million receipts
    # cannot come in by one either, and the catalogue of texts is read off the sources.
    *(path for path in python_files(ROOT / "tools") if path.parent.name not in ("sim", "portal_figures", "words")),
], ids=lambda path: path.name)
def test_demo_and_system_tests_use_public_doors_only(path: Path) -> None:
    """No back doors: nothing of the use cases, the store or the vault is imported where the product is judged."""
    # Pure rules and words, and the demo's own second half: no way into a running product.
    allowed = ("ownkey.cli.problems", "ownkey.cli.demo", "ownkey.domain")
    for node in ast.walk(ast.parse(path.read_text())):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module]
        for module in modules:
            assert not module.startswith("ownkey") or module.startswith(allowed), f"{path.name} imports {module}"


def test_nothing_dangerous_is_called() -> None:
    """No eval, exec, pickle, shell or unsafe YAML anywhere in the product."""
    for path in python_files(SOURCE):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec", "__import__"), path
            if isinstance(node, ast.Import):
                assert not {alias.name for alias in node.names} & {"pickle", "marshal", "shelve", "yaml"}, path
            if isinstance(node, ast.keyword):
                assert not (node.arg == "shell" and getattr(node.value, "value", False)), path


def test_requirements_are_hashed_and_name_no_host() -> None:
    """Every pinned requirement has hashes, and no file names a registry's address."""
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        text = path.read_text()
        pinned = [line for line in text.splitlines() if "==" in line and not line.lstrip().startswith("#")]
        assert pinned
        assert all(line.rstrip().endswith("\\") for line in pinned)
        assert "://" not in text


def test_there_are_few_direct_dependencies() -> None:
    """At most twenty direct runtime dependencies, each with a reason in writing."""
    wanted = (ROOT / "requirements" / "runtime.in").read_text().split()
    reasons = (ROOT / "docs" / "decisions" / "dependencies.md").read_text()

    assert len(wanted) <= 20
    assert [name for name in wanted if name.split("==")[0] not in reasons] == []
