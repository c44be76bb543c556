"""Whether a store of latents fits a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gdm_repr.config import SHIPPED

if TYPE_CHECKING:
    from gdm_repr.api import GDM
    from gdm_repr.latents.store import LatentStore
    from gdm_repr.ode import Plan


def open_latents(
    path: Path, model: GDM, checkpoint: str | None = None, ids: Path | None = None
) -> tuple[GDM, LatentStore, Plan]:
    """Open a model's latent store.

    Args:
        path: the store's folder.
        model: that made it.
        checkpoint: what the user calls the model, for the error.
        ids: file of the ids of the images that are looked at; all of them when None.

    Returns:
        The model in the order of generation that the store was encoded by, the store (of these
        images), and the plan.

    Raises:
        ValueError: if the store can't be read, is empty, or is another model's, or has not all of
            the ids.
    """
    from gdm_repr.latents.ids import select_ids
    from gdm_repr.latents.store import open_store
    from gdm_repr.ode import Plan

    store = open_store(path)
    _require_model(store, model.checkpoint.fingerprint, checkpoint)
    store.require({"basis": model.basis.fingerprint()})
    where = f"--latents {str(path)!r}: its manifest"
    order = store.manifest.settings.get("order")
    if order is not None and not _is_counts(order):
        raise ValueError(
            f"{where} has the order {str(order)[:80]}, not group numbers; encode again"
        )
    try:
        model = model.with_order(order)
    except ValueError as error:
        raise ValueError(f"{where} does not fit the model ({error})") from None
    store.require({"grouping": model.grouping.fingerprint()})
    if not len(store):
        raise ValueError(f"--latents {str(path)!r}: the store holds no image")
    try:
        solver = dict(store.manifest.settings["solver"])
        del solver["precision"]
        if not _is_counts(solver["steps"]):
            raise TypeError(f"steps {str(solver['steps'])[:80]}")
        plan = Plan(**{**solver, "steps": tuple(solver["steps"])})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{where} does not say how it was encoded ({error!r}); encode again"
        ) from error
    return model, store if ids is None else select_ids(store, ids), plan


def _require_model(store: LatentStore, fingerprint: str, checkpoint: str | None) -> None:
    """Refuse the latents of another model, and say which one made them, as far as it is known."""
    made_by = store.manifest.settings.get("checkpoint")
    if store.manifest.fingerprint.get("checkpoint") == fingerprint:
        return
    if checkpoint is None:
        store.require({"checkpoint": fingerprint})
    said = f"the default, {SHIPPED}" if checkpoint == SHIPPED else checkpoint
    if made_by == checkpoint:
        told = f"were made by {made_by} as it was then, and its file has changed since"
        mend = "use the checkpoint they were encoded with, or encode again"
    elif made_by is None:
        told = f"were made by another model; --checkpoint is {said}"
        mend = "use the checkpoint they were encoded with"
    else:
        told = f"were made by the model {made_by}; --checkpoint is {said}"
        mend = f"use the checkpoint they were encoded with: --checkpoint {made_by}"
    raise ValueError(f"latents {str(store.path)!r} {told}; {mend}")


def _is_counts(value: object) -> bool:
    return isinstance(value, list) and all(type(each) is int and each >= 0 for each in value)
