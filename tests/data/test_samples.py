"""Samples in arrays: equal to a list of samples, without an object per image."""

import pickle
import tracemalloc

import numpy as np
import pytest

from inceptionnext_lit.data.sources.packed_strings import PackedStrings
from inceptionnext_lit.data.sources.sample_table import Sample, Samples

SINGLE = [Sample("a/1.jpg", 1), Sample("a/ü 2.jpg", 0), Sample("b/\udcff.jpg", 2), Sample("c", 0)]
SEVERAL = [
    Sample("1", (0, 2), 2.0, "p"),
    Sample("2", (), 1.0, "q"),
    Sample("3", (1,), 0.5, "p"),
    Sample("4", (0, 1, 2), 1.0, "r"),
]


@pytest.mark.parametrize("images", [SINGLE, SEVERAL, []])
def test_they_equal_the_packed_list(images: list[Sample]) -> None:
    packed = Samples.of(images)
    assert packed == images
    assert list(packed) == images
    assert [packed[n] for n in range(len(images))] == images
    assert packed[::-1] == images[::-1]
    assert packed[1:3] == images[1:3]
    assert packed + packed[:2] == images + images[:2]
    assert pickle.loads(pickle.dumps(packed)) == images
    if images:
        assert packed[-1] == images[-1]
        assert packed.take(np.array([2, 0])) == [images[2], images[0]]
        assert packed.take(np.array([True, False, True, True])) == [images[0], *images[2:]]
        assert packed.take(np.array([3, 1])).take(np.array([1])) == [images[1]]
        assert packed != images[1:]
        with pytest.raises(IndexError):
            packed[len(images)]


def test_labels_are_plain_numbers() -> None:
    assert [type(sample.label) for sample in Samples.of(SINGLE)] == [int] * 4
    assert [type(label) for label in Samples.of(SEVERAL)[3].label] == [int] * 3
    assert Samples.of(SEVERAL).owners().tolist() == [0, 0, 2, 3, 3, 3]


def test_relabeled_labels_are_sorted() -> None:
    swapped = Samples.of(SEVERAL).relabeled(np.array([2, 1, 0], dtype=np.int32))
    assert [sample.label for sample in swapped] == [(0, 2), (), (1,), (0, 1, 2)]
    assert [s.label for s in Samples.of(SINGLE).relabeled(np.array([5, 6, 7], dtype=np.int32))] == [6, 5, 7, 5]


def test_parts_of_unlike_buffers_are_joined() -> None:
    here, there = PackedStrings.of(["1", "2"], prefix="/here/"), PackedStrings.of(["3"], prefix="/there/")
    assert here + there == ["/here/1", "/here/2", "/there/3"]
    assert here + PackedStrings.of(["3"], prefix="/here/") == ["/here/1", "/here/2", "/here/3"]


def test_an_image_takes_tens_of_bytes() -> None:
    tracemalloc.start()
    try:
        packed = Samples.of(Sample(f"class/{n}.jpg", n % 7) for n in range(10_000))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept / len(packed) < 50  # its path, three numbers, and the running ends; a list of samples takes 250
