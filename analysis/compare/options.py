"""Options of a comparison."""

from __future__ import annotations

from pydantic import Field

from gdm_repr.command import Command, UserPath, UserPlace
from gdm_repr.config import Words
from gdm_repr.identity import Free


class CompareConfig(Command):
    """Compare the choices behind the runs of an MLflow store, whoever made them.

    A choice is made of the params that differ between runs, seeds and paths aside. Each metric is
    given as mean over seeds with its 95 % interval, and as difference from a reference choice,
    paired over seeds. Only finished runs count; the others are listed.

    Example:
      gdm-repr compare --experiment gdm-repr --parent groupings-digits --out runs/comparison
      gdm-repr compare --experiment sweep --filter "params.data = 'digits'" --metrics 'val*' --out runs/sweep
    """  # noqa: E501

    tracking_uri: UserPlace | None = Field(
        None, description="MLflow store; MLFLOW_TRACKING_URI, or sqlite:///mlflow.db, by default."
    )
    experiment: str | None = Field(
        None,
        description="Its experiment, or id:ID; MLFLOW_EXPERIMENT_NAME or _ID, or gdm-repr, by "
        "default. With --parent, all are searched.",
    )
    filter: str = Field("", description="Which runs, as MLflow writes it: params.data = 'digits'.")
    parent: str | None = Field(
        None, description="Compare the children of this run: its id or name, or a study's name."
    )
    choice: Words = Field(
        (), description="Params or tags that make a choice, instead of those that differ; a.*,b."
    )
    seed_key: str | None = Field(
        None, description="Param that holds the seed; study.seed, seed or train.seed by default."
    )
    metrics: Words = Field(
        (), description="Metrics to compare, the main one first; those of all choices by default."
    )
    reference: str | None = Field(
        None, description="Choice the others are compared with; the best of the first metric."
    )
    quality: str | None = Field(
        None, description="Metric of the Pareto picture; the first that is not a cost."
    )
    cost: str | None = Field(
        None, description="Cost of the Pareto picture; evaluations or seconds by default."
    )
    pictures: Words = Field(
        ("strip*.png", "samples*.png", "grouping*.png"),
        description="Names of the runs' pictures to set side by side, as patterns.",
    )
    out: Free[UserPath] = Field(description="Folder for the page, its figures and tables.")
    overwrite: Free[bool] = Field(
        False, description="Replace a comparison of other settings in --out."
    )
    log_to_parent: Free[bool] = Field(True, description="Keep the page with the run of --parent.")
