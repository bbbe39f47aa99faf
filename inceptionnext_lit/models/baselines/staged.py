"""What backbones of four stages have in common: feature maps, norm, pooling and classifier."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from inceptionnext_lit.models.backbone import Backbone
from inceptionnext_lit.models.features import Indices, intermediates, take_levels
from inceptionnext_lit.models.layers import FeatureInfo, checkpoint_block, make_classifier, make_pool

STRIDES = (4, 8, 16, 32)


class StagedBackbone(Backbone):
    """Stages, a norm of the last map, pooling, dropout and a Linear.

    A subclass sets ``first_conv``, which has a ``weight``; it must refuse images that are too small or have another
    number of channels.

    Args:
        stages: Four stages, each with its patch embedding: ``(N, C, H, W)`` to ``(N, C', H', W')``.
        dims: Channels of the stages' maps.
        norm: Norm of the last map, over ``(N, C, H, W)``.
        in_chans: Channels of the image.
        num_classes: Number of logits; 0 returns the pooled features.
        global_pool: ``"avg"``, ``"max"`` or ``"avgmax"``; ``""`` classifies each position separately, with outputs
            ``(N, num_classes, H / 32, W / 32)``, or ``C`` channels without classes.
        drop_rate: Dropout rate before the Linear.

    Shape:
        ``(N, in_chans, H, W)`` to ``(N, num_classes)``.

    Raises:
        UserError: If ``global_pool`` is none of the above.
    """

    classifier_name: ClassVar[str] = "head"

    def __init__(
        self,
        stages: Sequence[nn.Module],
        dims: Sequence[int],
        norm: nn.Module,
        *,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.global_pool = global_pool
        self.drop_rate = drop_rate
        self.num_features = self.head_hidden_size = dims[-1]
        self.stages = nn.ModuleList(stages)
        self.feature_info: FeatureInfo = [
            {"num_chs": dim, "reduction": stride, "module": f"stages.{i}"}
            for i, (dim, stride) in enumerate(zip(dims, STRIDES, strict=True))
        ]
        self.norm = norm
        self.pool = make_pool(global_pool)
        self.head_drop = nn.Dropout(drop_rate)
        self.head = make_classifier(dims[-1], num_classes)
        self.grad_checkpointing = False

    def forward_features(self, x: Tensor) -> Tensor:
        """Compute the normalized last map, ``(N, in_chans, H, W)`` to ``(N, C, H / 32, W / 32)``."""
        for stage in self._levels():
            x = stage(x)
        features: Tensor = self.norm(x)
        return features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Classify the last map, or return the Linear's input with ``pre_logits``."""
        x = self.head_drop(self.pool(x))  # (N, C, H, W) -> (N, C), or unchanged
        if pre_logits:
            return x
        if self.global_pool != "":
            logits: Tensor = self.head(x)  # (N, C) -> (N, num_classes)
            return logits
        per_position: Tensor = self.head(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # (N, num_classes, H, W)
        return per_position

    def forward(self, x: Tensor) -> Tensor:
        """Classify images."""
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: Indices = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Compute the feature maps of selected stages.

        Args:
            x: Images ``(N, in_chans, H, W)``.
            indices: Stages to return; the last n for an int, all for None.
            norm: Whether to normalize the last stage's map, if it is selected; the norm does not fit the others.
            stop_early: Whether to stop after the last requested stage.
            output_fmt: ``"NCHW"``.
            intermediates_only: Whether to leave out the last map.

        Returns:
            The selected maps; or the last computed map, normalized after the last stage, and the selected ones.

        Raises:
            UserError: If ``output_fmt`` is not ``"NCHW"``.
        """
        wanted, last = take_levels(len(self.stages), indices), len(self.stages) - 1
        out = intermediates(
            x, self._levels(), indices, output_fmt=output_fmt, stop_early=stop_early, intermediates_only=False
        )
        x, maps = cast(tuple[Tensor, list[Tensor]], out)
        if last in wanted or not stop_early:
            x = self.norm(x)
            if norm and last in wanted:
                maps[-1] = x
        return maps if intermediates_only else (x, maps)

    def prune_intermediate_layers(
        self, indices: Indices = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove what ``forward_intermediates`` does not need for these stages.

        Args:
            indices: As for ``forward_intermediates``.
            prune_norm: Whether to remove the final norm; always done if stages are removed.
            prune_head: Whether to remove the Linear; always done if stages are removed.

        Returns:
            The indices of the stages, counted from the front.
        """
        wanted = take_levels(len(self.stages), indices)
        removes = max(wanted) < len(self.stages) - 1
        self.stages = self.stages[: max(wanted) + 1]
        if prune_norm or removes:
            self.norm = nn.Identity().train(self.training)
        if prune_head or removes:
            self.num_features = self.head_hidden_size = int(self.feature_info[max(wanted)]["num_chs"])
            self.reset_classifier(0)
        return wanted

    def get_classifier(self) -> nn.Module:
        """Return the Linear."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the Linear, and the pooling if ``global_pool`` is given; ``""`` removes the pooling."""
        if global_pool is not None:
            self.pool = make_pool(global_pool).train(self.training)
            self.global_pool = global_pool
        self.num_classes = num_classes
        like = next(self.parameters())
        self.head = make_classifier(self.num_features, num_classes, like=like).train(self.training)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the stages' activations in the backward pass, to save memory at the cost of time."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return patterns that group parameters by depth: stages (``coarse``) or their blocks, then norm and head.

        A stage's patch embedding belongs to its first block.
        """
        fine = [(r"^stages\.(\d+)\.blocks\.(\d+)", None), (r"^stages\.(\d+)\.", (0,))]
        return {"stem": r"^stages\.0\.(?:embed|pos_embed)", "blocks": r"^stages\.(\d+)" if coarse else fine}

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters without weight decay, besides biases and norms."""
        return set()

    def _levels(self) -> list[Callable[[Tensor], Tensor]]:
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return [partial(checkpoint_block, stage) for stage in self.stages]
        return list(self.stages)
