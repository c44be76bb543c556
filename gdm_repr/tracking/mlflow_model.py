"""The model that MLflow loads and serves, a "model from code": what the HTTP API does, by predict.

    model = mlflow.pyfunc.load_model("models:/digits@champion")
    z = model.predict(x)                                       # (n, C, d)
    x = model.predict(z, params={"operation": "decode"})       # (n, C, H, W)

MLflow keeps this script and the checkpoint; the method itself comes from the installed package, so
that a logged model needs no pickle and no copy of our code.

Inputs are images, as float arrays (n, C, H, W) in [-1, 1] or as files in base64, or latents
(n, C, d). What is done with them is the param ``operation``:

    encode       images to latents; with ``errors`` also the errors of it, by image and band
    decode       latents to images
    reconstruct  images to images, by way of their latents; ``errors`` as of encode
    edit         images or latents to edited images; ``edit`` is the JSON that ``/v1/edit`` takes
    sample       seeds to images, one of each

``steps``, ``solver``, ``coordinate`` and ``order`` (as ``0,1,2``) are those of the API. With
``png`` images come back as PNG files in base64 instead of arrays.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from gdm_repr.tracking.logged_model import predict_params

if TYPE_CHECKING:
    from torch import Tensor

    from gdm_repr.api import GDM
    from gdm_repr.ode import Plan

OPERATIONS = ("encode", "decode", "reconstruct", "edit", "sample")
BATCH_SIZE = 64  # images computed at a time


class Representation(PythonModel):
    """A Groupwise Diffusion Model, both ways."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the safetensors checkpoint."""
        from gdm_repr.api import GDM, model_preprocess

        self._model = GDM.from_pretrained(context.artifacts["checkpoint"])
        self._preprocess = model_preprocess(self._model)

    def predict(
        self,
        context: PythonModelContext,
        model_input: np.ndarray,  # bare: MLflow warns of hints that its schemas cannot express
        params: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Do what the param ``operation`` names.

        Returns:
            Float32 latents (n, C, d) or images (n, C, H, W), not clipped; a list of PNG files in
            base64 with ``png``; with ``errors`` a mapping of ``z`` or ``images``, and ``errors``.

        Raises:
            MlflowException: in one line, for inputs or params that can't be used.
        """
        asked = {name: default for name, (_, default) in predict_params().items()} | (params or {})
        try:
            return self._answer(np.asarray(model_input), asked)
        except ValueError as error:  # which MLflow's server would hide behind a traceback
            told = " ".join(str(error).split())
            raise MlflowException.invalid_parameter_value(told) from None

    def _answer(self, given: np.ndarray, asked: dict[str, Any]) -> Any:  # noqa: ANN401
        operation = asked["operation"]
        if operation not in OPERATIONS:
            raise ValueError(f"operation={operation!r}: choose from {', '.join(OPERATIONS)}")
        model = self._model.with_order(_order(asked["order"]))
        plan = model.plan(asked["steps"], solver=asked["solver"], coordinate=asked["coordinate"])
        if operation in ("encode", "reconstruct"):
            return self._encoded(self._images(given), model, plan, asked)
        if operation == "decode":
            z = self._latents(given)
        elif operation == "sample":
            z = _noise(model, given)
        else:
            z = self._edited(given, asked["edit"], model, plan)
        return _shown(_decode(model, z, plan), asked)

    def _encoded(self, x: Tensor, model: GDM, plan: Plan, asked: dict[str, Any]) -> Any:  # noqa: ANN401
        import torch

        from gdm_repr.serve import wire

        back, measured = asked["operation"] == "reconstruct", asked["errors"]
        values: list[Tensor] = []
        errors: dict[str, list[Any]] = {}
        for part in _parts(x):
            found = model.encode(
                part, plan, latent_error=measured, round_trip=back or measured, check=False
            )
            value = found.reconstruction if back else found.z
            assert value is not None
            values.append(value)
            for name, numbers in wire.errors_of(found).items():
                errors.setdefault(name, []).extend(numbers)
        result = _shown(torch.cat(values), asked, images=back)
        if not measured:
            return result
        return {"images" if back else "z": result, "errors": errors}

    def _edited(self, given: np.ndarray, text: str, model: GDM, plan: Plan) -> Tensor:
        """Return the latents that an edit asks for."""
        from pydantic import TypeAdapter, ValidationError

        from gdm_repr.serve.edits import AnyEdit, MixRequest

        try:
            edit = TypeAdapter[Any](AnyEdit).validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, ("edit", *first["loc"])))
            raise ValueError(f"{name}={str(first['input'])[:80]!r}: {first['msg']}") from None
        if any(given is not None for given in (edit.images, edit.z, edit.ids, edit.store)):
            raise ValueError("edit: images or z are the inputs; leave them and ids out here")
        z = self._latents_of(given, model, plan)
        references = z
        if isinstance(edit, MixRequest):
            references = self._latents_of(np.array(edit.references, object), model, plan)
        edited: Tensor = edit.edited(model, z, references)[0]
        return edited

    def _latents_of(self, given: np.ndarray, model: GDM, plan: Plan) -> Tensor:
        """Return latents, on the CPU, of these or of images."""
        import torch

        if given.ndim == 3:
            return self._latents(given)
        parts = _parts(self._images(given))
        return torch.cat([model.encode(part, plan, check=False).z for part in parts]).cpu()

    def _images(self, given: np.ndarray) -> Tensor:
        """Return x (n, C, H, W)."""
        from gdm_repr.serve import wire

        if given.dtype.kind == "f":
            return wire.images_of_array(given, self._model.shape)
        return wire.images_of_json(given.tolist(), self._model.shape, self._preprocess)

    def _latents(self, given: np.ndarray) -> Tensor:
        """Return z (n, C, d)."""
        from gdm_repr.serve import wire

        shape = (self._model.shape[0], self._model.grouping.d)
        if given.dtype.kind == "f":
            return wire.latents_of_array(given, shape)
        return wire.latents_of_json(given.tolist(), shape)


def _order(text: str) -> list[int] | None:
    """Read an order of generation."""
    if not text:
        return None
    if not re.fullmatch(r"\d{1,4}(,\d{1,4}){0,255}", text):
        raise ValueError(f"order={text[:80]!r}: must be numbers of groups, as 0,1,2")
    return [int(each) for each in text.split(",")]


def _noise(model: GDM, seeds: np.ndarray) -> Tensor:
    """Return latents (n, C, d), one of each seed."""
    import torch

    if seeds.ndim != 1 or not len(seeds):
        raise ValueError(f"inputs of shape {seeds.shape}: sample takes seeds, as [0, 1, 2]")
    return torch.cat([model.noise(1, seed=seed) for seed in seeds.tolist()])


def _parts(rows: Tensor) -> list[Tensor]:
    """Split rows into batches; none are one batch of none."""
    return [rows[start : start + BATCH_SIZE] for start in range(0, max(1, len(rows)), BATCH_SIZE)]


def _decode(model: GDM, z: Tensor, plan: Plan) -> Tensor:
    import torch

    return torch.cat([model.decode(part, plan) for part in _parts(z)])


def _shown(values: Tensor, asked: dict[str, Any], *, images: bool = True) -> Any:  # noqa: ANN401
    """Return values as an array, or images as files."""
    from gdm_repr.serve import wire

    if not bool(values.isfinite().all()):
        raise ValueError("the results are not finite; use more steps, or smaller values")
    if images and asked["png"]:
        return [base64.b64encode(each).decode() for each in wire.as_pngs(values)]
    return values.cpu().numpy()


mlflow.models.set_model(Representation())
