"""Images as x in [-1, 1], with ids and labels; what can't be read goes to the quarantine."""

from typing import TYPE_CHECKING

from gdm_repr.faces import hand_on

if TYPE_CHECKING:
    from gdm_repr.data.dataset import Batch, ImageDataset
    from gdm_repr.data.images import Preprocess
    from gdm_repr.data.loading import load, open_begun, open_data, work_ahead
    from gdm_repr.data.quarantine import QuarantineLog, Rejected

__all__ = [
    "Batch",
    "ImageDataset",
    "Preprocess",
    "QuarantineLog",
    "Rejected",
    "load",
    "open_begun",
    "open_data",
    "work_ahead",
]

__getattr__, __dir__ = hand_on(
    __name__,
    {
        "Batch": ".dataset",
        "ImageDataset": ".dataset",
        "Preprocess": ".images",
        "QuarantineLog": ".quarantine",
        "Rejected": ".quarantine",
        "load": ".loading",
        "open_begun": ".loading",
        "open_data": ".loading",
        "work_ahead": ".loading",
    },
)
