"""The answers of the server, for its OpenAPI description."""

from typing import Any

from pydantic import BaseModel, Field


class Row(BaseModel):
    """The prediction for an image, like a row that the predict command writes."""

    path: str | None = Field(description="The file's name in the form; null for a body that is the image itself.")
    label: str = Field(description="The most probable class; of a multi-label model all present labels, joined by |.")
    probability: float = Field(description="The probability of the most probable class.")
    top5: dict[str, float] = Field(description="The five most probable classes with their probabilities, best first.")
    unsure: bool | None = Field(None, description="With --unsure_below: whether the probability is below that.")
    words: str | None = Field(None, description="The words of the label, if classes are named by WordNet IDs.")


class MaskRow(BaseModel):
    """The predicted mask of an image."""

    path: str | None = Field(description="The file's name in the form; null for a body that is the image itself.")
    confidence: float = Field(description="The mean over the pixels of the probability of the predicted class.")
    unsure: bool | None = Field(None, description="With --unsure_below: whether the confidence is below that.")
    areas: dict[str, float] = Field(description="Share of the pixels that each class has.")
    mask: str = Field(description="A PNG file with a palette, whose values are class indices, in base64.")


class ImageProblem(BaseModel):
    """An image without a label."""

    path: str | None
    status: int
    reason: str


class Problem(BaseModel):
    """Why there are no labels."""

    detail: str = Field(description="One sentence.")
    errors: list[ImageProblem] = Field([], description="The images that have no label.")


class Health(BaseModel):
    """Whether the server labels images."""

    status: str = Field(description="ok, starting, restarting, or stopping; the HTTP status is 503 unless it is ok.")
    model: str
    waiting: int = Field(description="Images that wait for the model.")
    restarts: int = Field(description="How often the model's process was started again.")
    last_failure: str | None = Field(description="Why it ended the last time.")
    uptime_s: float


class Limits(BaseModel):
    """The server's limits."""

    max_batch: int
    max_wait_ms: float
    max_queue: int
    max_bytes: int
    max_pixels: int
    timeout_s: float


class Metadata(BaseModel):
    """What the model is, and what the server takes."""

    model: str = Field(description="Name of the file, or of the model.")
    version: str = Field(description="Version of inceptionnext_lit.")
    task: str = Field(description="classification or segmentation.")
    num_classes: int
    class_names: list[str]
    class_words: dict[str, str] = Field(description="The words of classes that are named by WordNet IDs.")
    palette: list[list[int]] | None = Field(description="For segmentation, the color of each class.")
    multi_label: bool
    preprocessing: dict[str, Any]
    unsure_below: float | None
    heat_map: bool = Field(description="Whether /explain draws heat maps.")
    heat_map_note: str = Field(description="Why not.")
    limits: Limits
