import pytest

from inceptionnext_lit.data.global_batch import accumulation
from inceptionnext_lit.errors import UserError


@pytest.mark.parametrize(
    ("total", "batch_size", "devices", "expected"),
    [(4096, 128, 8, 4), (4096, 128, 1, 32), (4096, 64, 64, 1), (1280, 160, 8, 1), (7, 7, 1, 1)],
)
def test_accumulation_makes_the_global_batch(total: int, batch_size: int, devices: int, expected: int) -> None:
    assert accumulation(total, batch_size, devices) == expected
    assert batch_size * devices * expected == total


def test_an_indivisible_batch_names_the_nearest_choices() -> None:
    with pytest.raises(UserError) as error:
        accumulation(4096, 100, 8)
    assert str(error.value) == (
        "4096 images per step (data.global_batch_size) are not a multiple of 100 (data.batch_size) × 8 devices = 800; "
        "choose --data.batch_size 64 or 128, or --data.global_batch_size 4000 or 4800 (to which model.lr must be "
        "adapted)."
    )


def test_a_number_of_devices_that_does_not_divide() -> None:
    with pytest.raises(UserError) as error:
        accumulation(4096, 128, 3)
    assert "choose --data.global_batch_size 3840 or 4224" in str(error.value)


def test_more_at_once_than_a_step_has() -> None:
    with pytest.raises(UserError) as error:
        accumulation(4096, 128, 64)
    assert "choose --data.batch_size 64, or --data.global_batch_size 8192" in str(error.value)
