"""The master key of a real deployment is rotated under calls, killed in the middle, and goes on: the small size of
`make rotation`."""

from pathlib import Path

from tools.rotation.run import rotate_many

WORKSPACES = 200


def test_a_rotation_under_load_survives_a_kill(tmp_path: Path) -> None:
    """S3: no call fails while the server lives, a rewrap that was killed goes on by itself, and nothing is left on the
    old key, which is retired."""
    (done,) = rotate_many(tmp_path / "home", WORKSPACES, ("in_rewrap",), calling=3)

    assert (done.failed, done.left, done.data_keys) == (0, 0, WORKSPACES + 1)
    assert done.calls > 20
