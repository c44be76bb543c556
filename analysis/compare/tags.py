"""Tags that a choice's runs bear, and which params do not tell choices apart."""

from __future__ import annotations

from gdm_repr.analysis.identity import FETCHED, NOT_COMPARED

# Tags of a choice's tracked run, and of the study's.
CHOICE_TAG, SEED_TAG, FINGERPRINT_TAG = "study.choice", "study.seed", "study.fingerprint"
STUDY_TAG, PLACE_TAG = "study.name", "study.place"  # place of the choice in its study, 0 first
# Options that change how a model or store is made, not what it is.
MACHINE = {
    "config", "dry_run", "resume", "overwrite", "out", "track", "workers", "device", "compile"
}  # fmt: skip
TRAIN_FREE = MACHINE | {"checkpoint_every", "sample_every"}
ENCODE_FREE = MACHINE | {"checkpoint", "batch_size"}


def is_free(param: str) -> bool:
    """Tell whether a param of a choice's run is one that does not count: how, not what.

    >>> is_free("encode.batch_size"), is_free("train.batch_size")
    (True, False)
    """
    part, _, name = param.partition(".")
    last = name.rpartition(".")[2]
    analyse = {*NOT_COMPARED, *FETCHED}
    return last in {"train": TRAIN_FREE, "encode": ENCODE_FREE, "analyse": analyse}.get(part, ())
