"""Load a weights file into a model, and print the model's cost.

Usage: python examples/weights_and_cost.py MODEL FILE
"""

import argparse

import timm

import inceptionnext_lit  # noqa: F401  (registers the family with timm)
from inceptionnext_lit.models.cost import count_model
from inceptionnext_lit.models.weights import load_weights

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", metavar="MODEL", help="any model name of timm")
parser.add_argument("file", metavar="FILE", help=".pth, .bin, .safetensors or .ckpt")
options = parser.parse_args()

model = timm.create_model(options.model)
report = load_weights(model, options.file)
print(report)  # one line; report.details() lists every tensor

count, (height, width) = count_model(options.model)
print(f"{options.model} at {height}×{width}: {count.total.params / 1e6:.2f} M parameters, "
      f"{count.total.macs / 1e9:.3g} G multiply-adds")  # fmt: skip
for name, cost in count.modules.items():
    if name and "." not in name:
        print(f"  {name}: {cost.params / count.total.params:.1%} of the parameters")
