"""A run's note in MLflow: what was found, and links to the pages that lie with the run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from gdm_repr.tracking.keys import MAX_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

NOTE_TAG = "mlflow.note.content"
_MARKUP = re.compile(r"([\\`*\[])")


def make_note(run: Run, lines: Sequence[str], pages: Mapping[str, str]) -> str:
    """Write a note in Markdown, as MLflow shows it.

    Args:
        run: that it is on.
        lines: plain sentences, a paragraph each; what is too long for a note is cut.
        pages: paths of the run's files, by the words that lead there.
    """
    place = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifacts"
    links = [f"[{_plain(words)}]({place}/{quote(path)})" for words, path in pages.items()]
    end = "\n\n".join(["", *links]) if links else ""
    text = "\n\n".join(map(_plain, lines))
    room = MAX_TAG - len(end)
    return ((text if len(text) <= room else f"{text[: room - 2]} …") + end).strip()


def put_note(client: MlflowClient, run: Run, text: str, earlier: Sequence[str] = ()) -> None:
    """Put a text into a run's note, once, and leave there what others wrote.

    Args:
        client: of the tracking server.
        run: as the server has it now.
        text: from :func:`make_note`.
        earlier: texts that it takes the place of.
    """
    now = run.data.tags.get(NOTE_TAG, "")
    found = [each for each in (text, *earlier) if each and each in now]
    before = max(found, key=len, default=None)  # one may begin as another does
    new = f"{now}\n\n{text}".strip() if before is None else now.replace(before, text)
    if new != now and len(new) <= MAX_TAG:
        client.set_tag(run.info.run_id, NOTE_TAG, new)


def _plain(text: str) -> str:
    """Write a text so that Markdown shows it as it is."""
    return _MARKUP.sub(r"\\\1", text).replace("<", "&lt;")
