"""Seeds derived from what they are for, so that no generator state has to be stored or replayed.

Every random draw of a training run has a name: the order of an epoch, the augmentation of an image, the mixing and the
stochastic depth of a step. Its seed is computed from the run's seed and that name. A run resumed in the middle of an
epoch therefore draws what the uninterrupted run would have drawn, with any number of loader processes.
"""

import hashlib
import os
import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

VARIABLE = "PL_GLOBAL_SEED"  # set by Lightning's seed_everything and inherited by other processes


def given_seed() -> int | None:
    """Return the seed that Lightning's ``seed_everything`` was called with in this process or its parent, or None."""
    return int(os.environ[VARIABLE]) if VARIABLE in os.environ else None


def random_seed() -> int:
    """Return the seed that was given, or a new one from the system's source of randomness."""
    seed = given_seed()
    return int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed


def run_seed() -> int:
    """Return the run's seed: that of ``seed_everything``, or one drawn from torch's generator."""
    seed = given_seed()
    return int(torch.randint(2**32, ())) if seed is None else seed


def derive(*parts: int | str) -> int:
    """Derive the seed of one purpose.

    Args:
        parts: The run's seed and what identifies the purpose, such as epoch and index.

    Returns:
        An integer below 2³², valid for every generator; seeds of similar purposes are unrelated.
    """
    name = "\0".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=4).digest(), "little")


def generator_states() -> tuple[Any, Any, Tensor, Tensor | None]:
    """Return the states of Python's, NumPy's and torch's generators; of the current GPU only if it is in use."""
    on_gpu = torch.cuda.get_rng_state() if torch.cuda._initialized else None
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), on_gpu


def restore_generators(states: tuple[Any, Any, Tensor, Tensor | None]) -> None:
    """Restore what :func:`generator_states` returned."""
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    if states[3] is not None:
        torch.cuda.set_rng_state(states[3])


def seed_generators(*parts: int | str) -> None:
    """Seed Python, NumPy and torch for one purpose, see :func:`derive`; GPUs only if they are in use."""
    seed = derive(*parts)
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    # not before the first use of a GPU, nor in a forked loader process, which cannot use one
    if torch.cuda._initialized and not torch.cuda._is_in_bad_fork():
        torch.cuda.manual_seed(seed)
