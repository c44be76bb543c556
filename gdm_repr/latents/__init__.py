"""The latent store: grouped latents of a data set, read lazily, band by band."""

from typing import TYPE_CHECKING

from gdm_repr.faces import hand_on

if TYPE_CHECKING:
    from gdm_repr.data.quarantine import Rejected
    from gdm_repr.latents.format import Band, Manifest, label_type
    from gdm_repr.latents.neighbours import NearestIndex, Neighbours, nearest
    from gdm_repr.latents.store import LatentBatch, LatentStore, data_of, open_store
    from gdm_repr.latents.writer import StoreWriter, require_same

__all__ = [
    "Band",
    "LatentBatch",
    "LatentStore",
    "Manifest",
    "NearestIndex",
    "Neighbours",
    "Rejected",
    "StoreWriter",
    "data_of",
    "label_type",
    "nearest",
    "open_store",
    "require_same",
]

__getattr__, __dir__ = hand_on(
    __name__,
    {
        "Band": ".format",
        "LatentBatch": ".store",
        "LatentStore": ".store",
        "Manifest": ".format",
        "NearestIndex": ".neighbours",
        "Neighbours": ".neighbours",
        "Rejected": "gdm_repr.data.quarantine",
        "StoreWriter": ".writer",
        "data_of": ".store",
        "label_type": ".format",
        "nearest": ".neighbours",
        "open_store": ".store",
        "require_same": ".writer",
    },
)
