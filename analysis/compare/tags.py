"""Tags that a choice's runs bear, and which params do not tell choices apart."""

from __future__ import annotations

from pydantic import BaseModel

from gdm_repr.analysis.options import FeatureConfig
from gdm_repr.config import EncodeConfig, TrainConfig
from gdm_repr.identity import Mark, marked

# Tags of a choice's tracked run, and of the study's.
CHOICE_TAG, SEED_TAG, FINGERPRINT_TAG = "study.choice", "study.seed", "study.fingerprint"
STUDY_TAG, PLACE_TAG = "study.name", "study.place"  # place of the choice in its study, 0 first
_PARTS: dict[str, type[BaseModel]] = {
    "train": TrainConfig,
    "encode": EncodeConfig,
    "analyse": FeatureConfig,
}


def is_free(param: str) -> bool:
    """Tell whether a param of a choice's run is one that does not count: how, not what.

    >>> is_free("encode.batch_size"), is_free("train.batch_size")
    (True, False)
    """
    part, _, name = param.partition(".")
    return part in _PARTS and name.rpartition(".")[2] in marked(_PARTS[part], Mark.FREE)
