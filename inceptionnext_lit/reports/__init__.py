"""Reports on models: evaluation metrics, cost and speed."""

from typing import Literal

Format = Literal["table", "markdown", "csv", "json"]
