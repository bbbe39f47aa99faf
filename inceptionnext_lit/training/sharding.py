"""Sharded training: parameters, gradients and optimiser state spread over the processes (FSDP2)."""

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Shard a model in place, block by block.

    A block is a member of a list of modules that has parts of its own; that is how every model of timm's is built. Its
    parameters are gathered when it runs and given back after. BatchNorm's running statistics are not parameters: they
    stay whole on each process, and differ from process to process unless ``trainer.sync_batchnorm`` is on.

    Args:
        model: Any timm model, on the CPU or on this process's GPU.
        mesh: The processes that share it.
    """
    for container in reversed(list(model.modules())):  # the inner blocks first
        if isinstance(container, nn.Sequential | nn.ModuleList):
            for block in container:
                if next(block.children(), None) is not None and next(block.parameters(), None) is not None:
                    fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
