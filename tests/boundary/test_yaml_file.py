"""A YAML file of options is plain data of bounded size, or is refused in one line."""

from __future__ import annotations

import os
import time
import tracemalloc
from pathlib import Path

import pytest

from gdm_repr.boundary.yaml_file import MOST_BYTES, MOST_VALUES, read_yaml


def _bomb(levels: int) -> str:
    rows = ["&b0 [x,x,x,x,x,x,x,x,x,x]"]
    rows += [f"&b{i} [" + ",".join([f"*b{i - 1}"] * 10) + "]" for i in range(1, levels)]
    return "lr: [" + ", ".join(rows) + "]\n"


def _merge_bomb(levels: int) -> str:
    rows = ["- &m0 {a: 1, b: 2}"]
    merged = [f"- &m{i} {{<<: [" + ",".join([f"*m{i - 1}"] * 10) + "]}" for i in range(1, levels)]
    return "x:\n" + "\n".join(rows + merged) + "\n"


BAD = [
    ("a: 1\nb: 2\na: 3\n", "line 3: the key 'a' stands here twice"),
    ("model:\n  x: {b: 1, b: 2}", "line 2: the key 'b'"),
    ("model:\n  1: 2\n", "line 2: the key 1 is no text"),
    ("yes: 1\n", "line 1: the key yes is no text"),
    ("? [1]\n: 2", "is no text"),
    ("a: !!python/object/apply:os.system [ls]", "line 1: the tag"),
    ("a: !mine 1", "line 1: the tag"),
    ("a: !!binary aaaa", "line 1: the tag"),
    ("- 1\n- 2\n", "not list"),
    ("", "not NoneType"),
    ("--- {a: 1}\n--- {b: 2}\n", "not readable as YAML"),
    ("a: [1, 2", "not readable as YAML"),
    ("a: *b", "not readable as YAML"),
    ("a: 2024-13-45", "not readable as YAML"),
    ("a: {<<: 5}", "not readable as YAML"),
    ("a: \0", "not readable as YAML"),
    ("a: &x [1, *x]", "line 1: an alias stands inside"),
    ("a: &x {<<: *x}", "line 1: an alias stands inside"),
    ("a: " + "9" * 5000, "line 1: a number of 5000 characters"),
    ("a: 1" + ":59" * 100_000, "line 1: a number of"),
    ("a: " + "[" * 2000 + "]" * 2000, "line 1: is nested deeper"),
    ("a: " + "{a: " * 2000, "line 1: is nested deeper"),
    ("\n".join(" " * i + "a:" for i in range(1000)), "line 61: is nested deeper"),
    (_bomb(9), "line 1: stands for more than 100000 values"),
    (_merge_bomb(9), "stands for more than 100000 values"),
]


@pytest.mark.parametrize(("text", "says"), BAD, ids=range(len(BAD)))
def test_what_is_no_plain_data_is_refused_by_file_and_line(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    tracemalloc.start()
    with pytest.raises(ValueError) as error:
        read_yaml(path, "--base")
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()
    message = str(error.value)
    assert message.startswith(f"--base {path}") and says in message
    assert len(message) < 800


def test_files_that_are_none_or_too_large_are_refused_at_once(tmp_path: Path) -> None:
    large, pipe, folder = tmp_path / "large.yaml", tmp_path / "pipe", tmp_path / "folder"
    large.write_text("a: 1 #" + "x" * MOST_BYTES)
    os.mkfifo(pipe)
    folder.mkdir()
    started = time.monotonic()
    for path, says in ((large, "larger than"), (pipe, "no regular file")):
        with pytest.raises(ValueError, match=says):
            read_yaml(path)
    with pytest.raises((ValueError, OSError)):
        read_yaml(folder)
    assert time.monotonic() - started < 5


def test_aliases_and_merge_keys_within_bounds_are_read(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(
        "base: &b {lr: 1, n: [1, 2]}\none: *b\ntwo: {<<: *b, lr: 2}\nthree: {<<: [*b, {m: 3}]}\n"
    )
    n = [1, 2]
    assert read_yaml(path) == {
        "base": {"lr": 1, "n": n},
        "one": {"lr": 1, "n": n},
        "two": {"lr": 2, "n": n},
        "three": {"lr": 1, "n": n, "m": 3},
    }
    path.write_text("a: [" + "1, " * (MOST_VALUES // 10) + "1]")
    assert len(read_yaml(path)["a"]) == MOST_VALUES // 10 + 1
