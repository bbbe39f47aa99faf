"""BatchNorm over all processes, on the CPU too.

``torch.nn.SyncBatchNorm`` refuses the CPU, and so does ``DistributedDataParallel`` a model that has one there.
"""

from typing import Any, Literal, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.layer_sync import LayerSync
from torch import Tensor, nn
from torch.distributed import all_reduce, get_world_size, is_available, is_initialized
from torch.nn.modules.batchnorm import _BatchNorm

from inceptionnext_lit.lightning_compat import will_validate

DistBN = Literal["reduce", "broadcast"]


class AverageStatistics(Callback):
    """Averages BatchNorms' running statistics over the processes before a validation, as timm's ``--dist-bn reduce``.

    Between processes they differ by the last batch alone: in each step, ``DistributedDataParallel`` hands out those of
    the first process. It is done at the end of that batch, so that a checkpoint that is written before the validation
    holds them too.
    """

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Average, if a validation follows; sharded models keep each process's own."""
        if trainer.world_size == 1 or pl_module.device_mesh is not None:
            return
        if will_validate(trainer):
            for module in pl_module.modules():
                if isinstance(module, _BatchNorm) and not isinstance(module, ProcessBatchNorm | nn.SyncBatchNorm):
                    for statistic in (module.running_mean, module.running_var):
                        if statistic is not None:
                            all_reduce(statistic)
                            statistic /= get_world_size()


class ProcessBatchNorm(_BatchNorm):
    """BatchNorm whose statistics in training are those of all processes' batches together.

    Shape:
        ``(N, C, ...)`` to ``(N, C, ...)``; N may differ from process to process.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        pass  # any number of positions

    def forward(self, input: Tensor) -> Tensor:
        """Normalise, with statistics of all processes in training."""
        if not (self.training and is_available() and is_initialized() and get_world_size() > 1):
            return super().forward(input)
        axes = [axis for axis in range(input.ndim) if axis != 1]
        shape = [1, -1] + [1] * (input.ndim - 2)
        x = input.float()
        count = x.new_full((1,), x.numel() / x.shape[1])
        total = _sum_over_processes(torch.cat((x.sum(axes), count)))
        count = total[-1:].detach()
        mean = total[:-1] / count
        centred = x - mean.reshape(shape)  # the difference of two large sums would lose digits
        variance = _sum_over_processes(centred.square().sum(axes)) / count
        self._track(mean.detach(), variance.detach() * count / (count - 1))
        scale = torch.rsqrt(variance + self.eps)
        out: Tensor = centred * (scale if self.weight is None else scale * self.weight).reshape(shape)
        if self.bias is not None:
            out = out + self.bias.reshape(shape)
        return out.to(input.dtype)

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        rate = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, rate)
        self.running_var.lerp_(variance, rate)


class _SumOverProcesses(torch.autograd.Function):
    """Sum that gradients flow through: each process gets those of all."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone(memory_format=torch.contiguous_format)
        all_reduce(total)
        return total


def _sum_over_processes(x: Tensor) -> Tensor:
    return cast(Tensor, _SumOverProcesses.apply(x))


class DeviceSyncBatchNorm(LayerSync):
    """Lightning's ``sync_batchnorm`` on any device: torch's own layer on GPUs, :class:`ProcessBatchNorm` elsewhere."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Replace every BatchNorm in a model, in place; names, parameters and statistics stay."""
        if torch.cuda.is_available():
            return cast(nn.Module, nn.SyncBatchNorm.convert_sync_batchnorm(model))  # type: ignore[no-untyped-call]
        return _replace(model, nn.modules.batchnorm._BatchNorm, ProcessBatchNorm)

    def revert(self, model: nn.Module) -> nn.Module:
        """Put ``BatchNorm2d`` back, in place."""
        return _replace(model, (nn.SyncBatchNorm, ProcessBatchNorm), nn.BatchNorm2d)


def _replace(module: nn.Module, old: type[nn.Module] | tuple[type[nn.Module], ...], new: type[_BatchNorm]) -> nn.Module:
    for name, child in module.named_children():
        setattr(module, name, _replace(child, old, new))
    if not isinstance(module, old) or isinstance(module, new) or not isinstance(module, _BatchNorm):
        return module
    norm = new(module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats)
    norm.weight, norm.bias = module.weight, module.bias
    norm.running_mean, norm.running_var = module.running_mean, module.running_var
    norm.num_batches_tracked = module.num_batches_tracked
    return norm.train(module.training)
