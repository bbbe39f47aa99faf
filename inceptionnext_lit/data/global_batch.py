"""The arithmetic of the global batch: images per step = images per device × devices × accumulated batches."""

from inceptionnext_lit.errors import UserError


def accumulation(global_batch: int, batch_size: int, devices: int) -> int:
    """How many batches each device accumulates so that a step has exactly the recipe's number of images.

    Args:
        global_batch: Images per optimiser step over all devices, for which the recipe's learning rate is meant.
        batch_size: Images per batch and device.
        devices: Devices of all nodes together.

    Returns:
        Batches per step and device.

    Raises:
        UserError: If no whole number comes out; with the nearest batch sizes and the nearest global batches that do.
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
        f"{global_batch} images a step (data.global_batch_size) cannot be made of {batch_size} (data.batch_size) × "
        f"{devices} {'device' if devices == 1 else 'devices'} = {at_once} images at once; choose {', or '.join(ways)}."
    )
