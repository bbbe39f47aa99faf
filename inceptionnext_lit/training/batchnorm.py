"""BatchNorm statistics over all ranks, also on the CPU.

``torch.nn.SyncBatchNorm`` does not support the CPU, and ``DistributedDataParallel`` refuses a CPU model that has one.
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
    """Average BatchNorm's running statistics over ranks before a validation, like timm's ``--dist-bn reduce``.

    Ranks differ by the last batch only, because ``DistributedDataParallel`` broadcasts the first rank's statistics in
    each step. They are averaged at the end of that batch, so that a checkpoint written before the validation has them
    too.
    """

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Average the statistics if a validation follows; sharded models keep each rank's own."""
        if trainer.world_size == 1 or pl_module.device_mesh is not None:
            return
        if will_validate(trainer):
            for module in pl_module.modules():
                if isinstance(module, _BatchNorm) and not isinstance(module, CrossRankBatchNorm | nn.SyncBatchNorm):
                    for statistic in (module.running_mean, module.running_var):
                        if statistic is not None:
                            all_reduce(statistic)
                            statistic /= get_world_size()


class CrossRankBatchNorm(_BatchNorm):
    """BatchNorm with training statistics over the batches of all ranks.

    Shape:
        ``(N, C, ...)`` to ``(N, C, ...)``; N may differ between ranks.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        pass  # any number of positions

    def forward(self, input: Tensor) -> Tensor:
        """Normalize with the statistics of all ranks in training, with the running statistics otherwise."""
        if not (self.training and is_available() and is_initialized() and get_world_size() > 1):
            return super().forward(input)
        axes = [axis for axis in range(input.ndim) if axis != 1]
        shape = [1, -1] + [1] * (input.ndim - 2)
        x = input.float()
        count = x.new_full((1,), x.numel() / x.shape[1])
        total = _sum_over_ranks(torch.cat((x.sum(axes), count)))
        count = total[-1:].detach()
        mean = total[:-1] / count
        centered = x - mean.reshape(shape)  # the difference of two large sums would lose precision
        variance = _sum_over_ranks(centered.square().sum(axes)) / count
        self._track(mean.detach(), variance.detach() * count / (count - 1))
        scale = torch.rsqrt(variance + self.eps)
        out: Tensor = centered * (scale if self.weight is None else scale * self.weight).reshape(shape)
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


class _SumOverRanks(torch.autograd.Function):
    """Differentiable sum over ranks, whose gradient is the sum over ranks too."""

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


def _sum_over_ranks(x: Tensor) -> Tensor:
    return cast(Tensor, _SumOverRanks.apply(x))


class DeviceSyncBatchNorm(LayerSync):
    """Lightning's ``sync_batchnorm`` on any device: torch's layer on GPUs, :class:`CrossRankBatchNorm` elsewhere."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Replace every BatchNorm of a model in place, keeping names, parameters and statistics."""
        if torch.cuda.is_available():
            return cast(nn.Module, nn.SyncBatchNorm.convert_sync_batchnorm(model))  # type: ignore[no-untyped-call]
        return _replace(model, nn.modules.batchnorm._BatchNorm, CrossRankBatchNorm)

    def revert(self, model: nn.Module) -> nn.Module:
        """Restore ``BatchNorm2d`` in place."""
        return _replace(model, (nn.SyncBatchNorm, CrossRankBatchNorm), nn.BatchNorm2d)


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
