"""The wallet's row: what it holds free, and how its sum moves beside the postings that move it."""

import sqlite3

from ownkey.domain.records import Wallet
from ownkey.store.connection import Connection

_WALLET = "SELECT workspace_id, balance_credits, held_credits, carry_nusd FROM wallet WHERE workspace_id = ?"
_MOVE = "UPDATE wallet SET balance_credits = balance_credits + ? WHERE workspace_id = ?"


def load_wallet(conn: sqlite3.Connection, workspace_id: str) -> Wallet | None:
    row = conn.execute(_WALLET, (workspace_id,)).fetchone()
    return None if row is None else Wallet(*row)


def free_credits(conn: sqlite3.Connection, workspace_id: str) -> int:
    """What no call holds; below 0 while there is debt."""
    wallet = load_wallet(conn, workspace_id)
    return 0 if wallet is None else wallet.balance_credits - wallet.held_credits


def move_balance(conn: Connection, workspace_id: str, credits: int) -> None:
    """Call it after the entry that moves them: notices name the entry."""
    conn.execute(_MOVE, (credits, workspace_id))
