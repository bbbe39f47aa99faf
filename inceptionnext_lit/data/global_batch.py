"""Gradient accumulation for the global batch: images per step = batch size × devices × accumulated batches."""

from inceptionnext_lit.errors import UserError


def accumulation(global_batch: int, batch_size: int, devices: int) -> int:
    """Compute how many batches each device accumulates to match the global batch exactly.

    Args:
        global_batch: Images per optimizer step over all devices, for which the recipe's learning rate is meant.
        batch_size: Images per batch and device.
        devices: Number of devices over all nodes.

    Returns:
        Batches per step and device.

    Raises:
        UserError: If it is not a whole number; suggests the nearest batch sizes and global batches that work.
    """
    at_once = batch_size * devices
    if global_batch % at_once == 0:
        return global_batch // at_once
    ways = []
    if global_batch % devices == 0:
        share = global_batch // devices
        sizes = [size for size in range(1, share + 1) if share % size == 0]
        below, above = [s for s in sizes if s < batch_size], [s for s in sizes if s > batch_size]
        ways.append(f"--data.batch_size {' or '.join(map(str, below[-1:] + above[:1]))}")
    steps = global_batch // at_once
    nearest = [count * at_once for count in (steps, steps + 1) if count > 0]
    ways.append(f"--data.global_batch_size {' or '.join(map(str, nearest))} (to which model.lr must be adapted)")
    raise UserError(
        f"{global_batch} images per step (data.global_batch_size) are not a multiple of {batch_size} (data.batch_size) "
        f"× {devices} {'device' if devices == 1 else 'devices'} = {at_once}; choose {', or '.join(ways)}."
    )


def plan_accumulation(*, images: int, batch_size: int, devices: int, global_batch: int | None, asked: int) -> int:
    """Compute the number of batches per step and device.

    Args:
        images: Number of images in the training split.
        batch_size: Images per batch and device.
        devices: Number of devices over all nodes.
        global_batch: Images per optimizer step; None uses ``asked``.
        asked: The trainer's ``accumulate_grad_batches``, 1 by default.

    Raises:
        UserError: If the numbers are inconsistent, or a step has more images than the training split.
    """
    count = asked if global_batch is None else accumulation(global_batch, batch_size, devices)
    if asked not in (1, count):
        raise UserError(
            f"trainer.accumulate_grad_batches is {asked}, but {global_batch} images per step (data.global_batch_size) "
            f"require {count}. Leave it out, or leave out data.global_batch_size."
        )
    if count * batch_size * devices > images:
        step = f"A batch_size of {batch_size}" if count == 1 else f"A step of {count * batch_size * devices} images"
        raise UserError(
            f"{step} is more than the {images} training images"
            + (f" give each of {devices} ranks" if devices > 1 else "")
            + ", so there is no full step to train on. Choose a smaller --data.batch_size"
            + (" and --data.global_batch_size." if global_batch else ".")
        )
    return count
