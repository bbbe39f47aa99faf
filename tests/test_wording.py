"""Names that tell things apart, and suggestions."""

from pathlib import Path

import pytest

from inceptionnext_lit.wording import distinct_ends, starting_with


@pytest.mark.parametrize(
    ("paths", "ends"),
    [
        ([], []),
        (["runs/a/best.ckpt"], ["best.ckpt"]),
        (["runs/a/best.ckpt", "runs/b/best.ckpt"], ["a/best.ckpt", "b/best.ckpt"]),
        (["a/v0/c/best.ckpt", "a/v1/c/best.ckpt", "last.ckpt"], ["v0/c/best.ckpt", "v1/c/best.ckpt", "last.ckpt"]),
        (["/x/1.png", "/x/y/1.png", "/z/y/1.png"], ["x/1.png", "x/y/1.png", "z/y/1.png"]),
        (["/1.png", "/a/1.png"], ["/1.png", "a/1.png"]),
        (["a/1.png", Path("a/../a/1.png"), "b/1.png"], ["a/1.png", "a/1.png", "b/1.png"]),
    ],
)
def test_distinct_ends(paths: list[str | Path], ends: list[str]) -> None:
    assert distinct_ends(paths) == ends


def test_names_with_a_start() -> None:
    names = ["swin_tiny_b_224", "swin_tiny_a", "swin_base", "xswin_tiny", "swin_tiny_b"]
    assert starting_with("swin_tiny", names) == ["swin_tiny_a", "swin_tiny_b", "swin_tiny_b_224"]
    assert starting_with("swin_tiny", names, most=1) == ["swin_tiny_a"]
    assert starting_with("", names) == []
    assert starting_with("deit", names) == []
