"""Sharded training: parameters, gradients and optimizer state are sharded across ranks (FSDP2)."""

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Shard a model in place, block by block.

    A block is a member of a module list that has children of its own, as in every timm model. Its parameters are
    gathered when it runs and freed afterwards. BatchNorm's running statistics are not parameters: they are not sharded,
    and differ between ranks unless ``trainer.sync_batchnorm`` is on.

    Args:
        model: Any timm model, on the CPU or on this rank's GPU.
        mesh: The ranks that share it.
    """
    for container in reversed(list(model.modules())):  # inner blocks first
        if isinstance(container, nn.Sequential | nn.ModuleList):
            for block in container:
                if next(block.children(), None) is not None and next(block.parameters(), None) is not None:
                    fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
