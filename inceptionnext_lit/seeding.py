"""Seeds derived from what they are for, so that no generator state has to be stored or replayed.

Every random draw of a training run has a name: the order of an epoch, the augmentation of an image, the mixing and the
stochastic depth of a step. Its seed is computed from the run's seed and that name. A run resumed in the middle of an
epoch therefore draws what the uninterrupted run would have drawn, with any number of loader processes.
"""

import hashlib
import os
import random

import numpy as np
import torch

VARIABLE = "PL_GLOBAL_SEED"  # set by Lightning's seed_everything and inherited by other processes


def run_seed() -> int:
    """Return the run's seed: Lightning's ``seed_everything``, or a random one that is stored in its place."""
    if VARIABLE not in os.environ:
        os.environ[VARIABLE] = str(int(np.random.SeedSequence().generate_state(1)[0]))
    return int(os.environ[VARIABLE])


def derive(*parts: int | str) -> int:
    """Derive the seed of one purpose.

    Args:
        parts: The run's seed and what identifies the purpose, such as epoch and index.

    Returns:
        An integer below 2³², valid for every generator; seeds of similar purposes are unrelated.
    """
    name = "\0".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=4).digest(), "little")


def seed_generators(*parts: int | str) -> None:
    """Seed Python, NumPy and torch for one purpose, see :func:`derive`; GPUs only if they are in use."""
    seed = derive(*parts)
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    # not before the first use of a GPU, nor in a forked loader process, which cannot use one
    if torch.cuda._initialized and not torch.cuda._is_in_bad_fork():
        torch.cuda.manual_seed(seed)
