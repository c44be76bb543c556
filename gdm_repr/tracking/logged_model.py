"""A checkpoint as MLflow's logged model: what it holds, how it is made, how it is found again.

What is logged is a model from code: the script :mod:`gdm_repr.tracking.mlflow_model`, the
safetensors file, and the name of our package as the one thing to install. Signature, params and an
example say what it takes. Nothing here loads the model.
"""

from __future__ import annotations

import base64
import io
import json
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.models import ModelSignature

CHECKPOINT_TAG = "checkpoint.sha256"
NAME = "model"  # of every logged model, as in runs:/RUN_ID/model
ARTIFACTS = "artifacts"  # MLflow's folder of the checkpoint in a logged model
READY: Literal["READY"] = "READY"  # MLflow's word for a model that was kept whole

_SCRIPT = Path(__file__).with_name("mlflow_model.py")
_FACTS = "gdm_repr"  # key of our metadata in a safetensors file
_MODES = {1: "L", 3: "RGB"}  # Pillow's, by channels


def predict_params() -> dict[str, tuple[str, Any]]:
    """Return what predict takes beside its inputs: MLflow's type of each, and its default."""
    from gdm_repr.config import DEFAULT_SOLVER, DEFAULT_STEPS

    return {
        "operation": ("string", "encode"),
        "steps": ("long", DEFAULT_STEPS),
        "solver": ("string", DEFAULT_SOLVER),
        "coordinate": ("string", "whitened"),
        "order": ("string", ""),
        "edit": ("string", ""),
        "errors": ("boolean", False),
        "png": ("boolean", False),
    }


def log_model(client: MlflowClient, run: Run, checkpoint: Path, digest: str) -> LoggedModel:
    """Keep a checkpoint as a model of a run.

    Args:
        client: of the tracking server.
        run: that made it; its params and fingerprints become the model's.
        checkpoint: the safetensors file.
        digest: its SHA-256, by which it is found again.

    Raises:
        ValueError: The file is no model of ours.
    """
    import mlflow
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    from gdm_repr.version import __version__

    facts = _read_facts(checkpoint)
    taken = ("fingerprint.", "mlflow.source.")
    tags = {key: value for key, value in run.data.tags.items() if key.startswith(taken)}
    # The user is left out as in the run: records name no person and no machine.
    tags |= {CHECKPOINT_TAG: digest, "fingerprint.checkpoint": digest, "mlflow.user": "unknown"}
    model = client.create_logged_model(
        run.info.experiment_id,
        name=NAME,
        source_run_id=run.info.run_id,
        tags=tags,
        params=dict(run.data.params),
    )
    client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])
    try:
        with TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            path = Path(folder) / NAME
            # MLflow's own log_model would load the model here, to try the example.
            mlflow.pyfunc.save_model(
                str(path),
                mlflow_model=Model(
                    artifact_path=model.artifact_location,
                    run_id=run.info.run_id,
                    model_uuid=model.model_id,
                    model_id=model.model_id,
                ),
                python_model=str(_SCRIPT),
                artifacts={"checkpoint": str(checkpoint)},
                pip_requirements=[f"gdm-repr=={__version__}"],
                signature=_signature(),
                input_example=(_example(facts["shape"]), {"operation": "encode"}),
                metadata={"shape": facts["shape"], "bands": facts["names"]},
            )
            client.log_model_artifacts(model.model_id, str(path))
    except Exception:
        client.finalize_logged_model(model.model_id, "FAILED")
        raise
    return client.finalize_logged_model(model.model_id, READY)


def find_model(client: MlflowClient, digest: str) -> LoggedModel | None:
    """Return the newest logged model of a checkpoint; None where there is none.

    Args:
        client: of the tracking server.
        digest: the checkpoint's SHA-256.
    """
    experiments = [each.experiment_id for each in client.search_experiments()]
    found = client.search_logged_models(experiments, f"tags.`{CHECKPOINT_TAG}` = '{digest}'")
    return next((model for model in found if model.status == READY), None)


def model_of_run(client: MlflowClient, run: Run) -> LoggedModel | None:
    """Return the last model that a run made; None where it made none that was kept whole."""
    outputs = run.outputs.model_outputs if run.outputs else []
    models = [client.get_logged_model(output.model_id) for output in outputs]
    ready = [model for model in models if model.status == READY]
    return max(ready, key=lambda model: model.creation_timestamp, default=None)


def _read_facts(checkpoint: Path) -> dict[str, Any]:
    """Read the image shape and the bands' names, without the tensors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(checkpoint, framework="np") as file:
            facts = json.loads(file.metadata()[_FACTS])
        return {"shape": [int(each) for each in facts["shape"]], "names": list(facts["names"])}
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the file {str(checkpoint)!r} is no model of gdm-repr") from error


def _signature() -> ModelSignature:
    """Say what predict takes: images are of rank 4 or texts, latents of rank 3, so any array."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

    anything = Schema([TensorSpec(np.dtype(object), (-1,))])
    specs = [ParamSpec(name, kind, default) for name, (kind, default) in predict_params().items()]
    return ModelSignature(inputs=anything, outputs=anything, params=ParamSchema(specs))


def _example(shape: list[int]) -> np.ndarray[Any, Any]:
    """Return one image as predict takes it: a ramp, as a PNG in base64 where there is one of it."""
    import numpy as np
    from PIL import Image

    channels, height, width = shape
    if channels not in _MODES:
        return np.zeros((1, *shape), np.float32)
    ramp = np.linspace(0, 255, height * width).reshape(height, width).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(ramp).convert(_MODES[channels]).save(buffer, "PNG")
    return np.array([base64.b64encode(buffer.getvalue()).decode()], dtype=object)
