"""Reports on models: what they cost, beside what the paper says they cost."""

from typing import Literal

Format = Literal["table", "markdown", "csv", "json"]
