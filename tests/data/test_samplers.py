import itertools

import pytest

from inceptionnext_lit.data.samplers import Draw, EvaluationSampler, TrainingSampler


def steps_of(
    replicas: int, batch_size: int, *, length: int = 50, step_size: int = 12, epoch: int = 3
) -> list[set[Draw]]:
    """Return the images of each optimizer step over all ranks."""
    shares = []
    for rank in range(replicas):
        sampler = TrainingSampler(length, step_size, seed=1, replicas=replicas, rank=rank)
        sampler.set_epoch(epoch)
        draws = list(sampler)
        assert len(draws) == len(sampler)
        shares.append([draws[i : i + batch_size] for i in range(0, len(draws), batch_size)])
    batches = [set(itertools.chain(*parts)) for parts in zip(*shares, strict=True)]
    count = step_size // (replicas * batch_size)
    return [set().union(*batches[i : i + count]) for i in range(0, len(batches), count)]


@pytest.mark.parametrize(("replicas", "batch_size"), [(1, 6), (1, 3), (2, 6), (2, 3), (3, 4), (4, 1)])
def test_a_step_has_the_same_images_on_any_number_of_ranks(replicas: int, batch_size: int) -> None:
    steps = steps_of(replicas, batch_size)
    assert steps == steps_of(1, 12)
    assert len(steps) == 50 // 12
    assert all(len(step) == 12 for step in steps)


def test_order_depends_only_on_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = TrainingSampler(20, 5, seed=seed)
        sampler.set_epoch(epoch)
        return [draw.image for draw in sampler]

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    assert sorted(order(0, 0)) == list(range(20))


def test_epochs_follow_each_other_without_a_trainer() -> None:
    sampler = TrainingSampler(20, 5, seed=0)
    first, second = list(sampler), list(sampler)
    assert [draw.epoch for draw in first + second] == [0] * 20 + [1] * 20
    assert [draw.image for draw in first] != [draw.image for draw in second]


def test_start_leaves_out_the_first_images_once() -> None:
    sampler = TrainingSampler(20, 4, seed=0, replicas=2, rank=1)
    whole = list(sampler)
    sampler.start(0, 6)
    assert list(sampler) == whole[6:]
    sampler.start(0, 6)
    sampler.set_epoch(1)  # nothing of the epoch was left
    assert len(list(sampler)) == 10
    sampler.set_epoch(0)
    assert list(sampler) == whole
    assert len(sampler) == 10  # the epoch's length does not change, since the trainer counts the skipped ones itself


def test_repeated_augmentation_keeps_the_epochs_length() -> None:
    draws = list(TrainingSampler(30, 6, seed=0, repeats=3))
    assert len(draws) == len(set(draws)) == 30
    assert [draw.repeat for draw in draws] == [0, 1, 2] * 10
    assert len({draw.image for draw in draws}) == 10
    assert all(draws[i].image == draws[i + 2].image for i in range(0, 30, 3))


def test_without_shuffling_the_order_is_the_folders() -> None:
    sampler = TrainingSampler(7, 2, seed=0, shuffle=False)
    assert [draw.image for draw in sampler] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("replicas", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("length", [1, 4, 8, 10, 101])
def test_evaluation_sees_every_image_once_in_the_batches_of_one_rank(length: int, replicas: int) -> None:
    single = [range(start, min(start + 4, length)) for start in range(0, length, 4)]
    shares = [list(EvaluationSampler(length, 4, replicas=replicas, rank=rank)) for rank in range(replicas)]
    counts = [-(-len(share) // 4) for share in shares]
    assert len(set(counts)) == 1  # equally many batches on each rank, or the others would block
    batches = [share[i : i + 4] for share in shares for i in range(0, len(share), 4)]
    counted = [[draw.image for draw in batch if draw.counts] for batch in batches]
    assert sorted(filter(None, counted)) == [list(batch) for batch in single]
    assert sum(not draw.counts for share in shares for draw in share) == counts[0] * replicas - len(single)
