"""Randomness as a function of what it is for, so that nothing of it has to be stored or replayed.

Every random draw of a training run belongs to a name: the order of an epoch, the augmentation of an image, the mixing
and the stochastic depth of a step. The seed of each is computed from the run's seed and that name. So a run that is
continued in the middle draws what the uninterrupted one would have drawn, with any number of loader processes.
"""

import hashlib
import os
import random

import numpy as np
import torch

VARIABLE = "PL_GLOBAL_SEED"  # where Lightning's seed_everything leaves the seed, for other processes too


def run_seed() -> int:
    """The run's seed: that of Lightning's ``seed_everything``, or one that is drawn now and left in the same place."""
    if VARIABLE not in os.environ:
        os.environ[VARIABLE] = str(int(np.random.SeedSequence().generate_state(1)[0]))
    return int(os.environ[VARIABLE])


def derive(*parts: int | str) -> int:
    """Give the seed of one purpose.

    Args:
        parts: The run's seed, and whatever tells this purpose from all others, such as epoch and index.

    Returns:
        A number below 2³², which every generator takes; seeds of neighbouring purposes have nothing in common.
    """
    name = "\0".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=4).digest(), "little")


def seed_generators(*parts: int | str) -> None:
    """Seed Python, NumPy and torch for one purpose; see :func:`derive`. GPUs are seeded where they are in use."""
    seed = derive(*parts)
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    # neither before the first use of a GPU nor in a loader process, which cannot use one
    if torch.cuda._initialized and not torch.cuda._is_in_bad_fork():
        torch.cuda.manual_seed(seed)
