"""Names of ours, made of names that others chose: keys of metrics, params and tags, and files.

No two names share one of ours: what is an ordinary name already stays as it is, and a name that
would lose something gets a digest of itself at its end. So do ordinary names that end like that.

>>> metric_key("band_std/0_29"), metric_key("loss, [0, 29]")
('band_std/0_29', 'loss_0_29')
>>> metric_key("a b"), metric_key("a_b")
('a_b-c8687a08aa5d', 'a_b')
"""

from __future__ import annotations

import hashlib
import re

MAX_KEY = 250  # of MLflow's stores
MAX_FILE = 200
_DIGITS = 12
_PART = r"[A-Za-z0-9-](?:[A-Za-z0-9_.-]*[A-Za-z0-9-])?"
_KEY = re.compile(rf"{_PART}(?:/{_PART})*")
_FILE = re.compile(r"[a-z0-9_-][a-z0-9_. -]*(?<![. ])")  # disks may not tell capitals apart
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)")  # of Windows
_DIGESTED = re.compile(rf"-[0-9a-f]{{{_DIGITS}}}$")
# The package's own ways to write a band, an element with its channel, a layer of a network, and
# what a number is of. They read as they always did: [0, 29] is another way to write the band 0_29.
_BAND = re.compile(r"(^|(?<=/)|, |(?<=_to_))\[(\d+), (\d+)\]")
_ELEMENT = re.compile(r"(^|(?<=/))(\d+):(\d+)(?=/|$)")
_LAYER = re.compile(r"(^|(?<=/))(torchvision|timm):([\w.-]+):([\w.-]+)(?=/|$)", re.ASCII)
_WORDS = re.compile(
    r"(^|(?<=/))(raw coefficients|principal components|random directions|all bands|other model)"
    r"(?=/|$)"
)


class Key(str):
    """A key that `metric_key` made, which takes it as it is."""

    __slots__ = ()


def metric_key(name: str, most: int = MAX_KEY) -> Key:
    """Turn a name into a key that MLflow accepts; no two names share one.

    Args:
        name: any text; a slash parts it.
        most: characters that the key may have.
    """
    if isinstance(name, Key) and len(name) <= most:
        return name
    own = _BAND.sub(lambda band: f"{band[1] and '_'}{band[2]}_{band[3]}", name)
    own = _ELEMENT.sub(r"\2_\3", own)
    own = _LAYER.sub(r"\2_\3_\4", own)
    own = _WORDS.sub(lambda words: words[0].replace(" ", "_"), own)
    if _KEY.fullmatch(own) and not _DIGESTED.search(own) and len(own) <= most:
        return Key(own)
    parts = (_plain(part) for part in own.split("/"))
    return Key(_with_digest("/".join(part for part in parts if part), name, most))


def key_part(name: str) -> Key:
    """Turn a name into one part of a key, in which a slash parts nothing.

    >>> key_part("a/b").startswith("a_b-"), key_part("a_b")
    (True, 'a_b')
    """
    if "/" in name:
        return Key(_with_digest(_plain(name), name, MAX_KEY // 2))
    return metric_key(name, MAX_KEY // 2)


def file_name(name: str) -> str:
    """Turn a name into a file's without ending; no two names share one, on any disk.

    >>> file_name("bands"), file_name("a/b")
    ('bands', 'a_b-c14cddc033f6')
    """
    usual = _FILE.fullmatch(name) and not _DIGESTED.search(name) and not _RESERVED.match(name)
    return name if usual and len(name) <= MAX_FILE else _with_digest(_plain(name), name, MAX_FILE)


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("_.")


def _with_digest(begin: str, name: str, most: int) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    return f"{begin[: most - _DIGITS - 1].rstrip('/_.') or 'name'}-{digest}"
