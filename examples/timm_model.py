"""Use a model of the family through timm, in five lines.

Usage: python examples/timm_model.py
"""

import timm
import torch

import inceptionnext_lit  # noqa: F401  (registers the family with timm)

model = timm.create_model("inceptionnext_tiny", num_classes=10).eval()
with torch.no_grad():
    logits = model(torch.randn(2, 3, 224, 224))
print("logits", tuple(logits.shape))

backbone = timm.create_model("inceptionnext_tiny", features_only=True)
for level, stride in zip(backbone(torch.randn(1, 3, 224, 224)), backbone.feature_info.reduction(), strict=True):
    print("stride", stride, "features", tuple(level.shape))
