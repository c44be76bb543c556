"""How a command begins and ends: where its options come from, and what becomes of mistakes.

A value comes from the first of: command line flag, environment variable ``GDM_REPR_NAME`` (nested
names joined by two underscores), the YAML file given by ``--config``, the default. A network, basis
or grouping of another name does not inherit the options of the one it replaces. The user's mistakes
end in one line, ours with a traceback.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from gdm_repr.boundary.endings import ending
from gdm_repr.boundary.numerals import loose_numbers
from gdm_repr.boundary.streams import sturdy_streams
from gdm_repr.boundary.yaml_file import read_yaml
from gdm_repr.files import user_path, user_place
from gdm_repr.identity import Free

# Types of the options that are a path, or a text that may be or hold one. Every option that names a
# place is of one of these, so that ~ is the home folder however the option was given.
UserPath = Annotated[Path, AfterValidator(user_path)]
UserPlace = Annotated[str, AfterValidator(user_place)]

_ENDS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


BUSY_FOR = 0.05  # seconds in which is seen whether others compute
BUSY_CORES = 0.5  # of the machine, in use by others
SPINS = "4000"  # at a barrier; 1,000 are hardly better than sleep, and more no better than 4,000


class Terminated(KeyboardInterrupt):
    """A signal asked the process to end, as Ctrl-C does: what is done is saved first."""

    def __init__(self, number: int) -> None:
        """Keep the signal's number."""
        super().__init__(number)
        self.number = number


@sturdy_streams()
def run_command(
    name: str, body: Callable[[], int], *, resume: str = "run the same command again to continue"
) -> int:
    """Run a command's body and turn what ends it early into an exit status.

    Args:
        name: the command's name, as in ``encode``.
        body: does the work and returns the exit status.
        resume: how to go on after an interruption, for the line that reports it.

    Returns:
        The body's status; 2 after what the user can mend, told in one line on stderr (a ValueError,
        errors of the file system, too little memory, a killed worker); 130 after Ctrl-C; 128 and
        the signal's number after SIGTERM or SIGHUP. Other exceptions pass: they are bugs.
    """
    _choose_wait()
    with _signals_as_exceptions() as seen:
        try:
            return body()
        except KeyboardInterrupt as error:
            again = " again: what was saved before is kept" if len(seen) > 1 else ""
            seen += [0, 0]  # one more ends us at once, and not in a traceback
            number = error.number if isinstance(error, Terminated) else int(signal.SIGINT)
            what = "interrupted" if number == signal.SIGINT else "asked to end"
            print(f"\ngdm-repr {name}: {what}{again}; {resume}", file=sys.stderr)
            return 128 + number
        except Exception as error:
            message = ending(error, resume)
            if message is None:
                raise
            return _report(name, message)


def _choose_wait() -> None:
    """Let OpenMP's threads sleep at barriers where others compute, and spin a little where none do.

    Threads that spin starve each other: 20 times slower on two busy cores. On idle ones sleeping
    threads make a small network two to three times slower. OpenMP reads this when torch is first
    imported; what the environment says is left.
    """
    if {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        return
    import psutil

    used = psutil.cpu_times_percent(BUSY_FOR)  # without what gives way, as senders of records do
    if (used.user + used.system) / 100 * (psutil.cpu_count() or 1) < BUSY_CORES:
        os.environ["GOMP_SPINCOUNT"] = SPINS
    else:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


@contextmanager
def _signals_as_exceptions() -> Iterator[list[int]]:
    """Let signals that ask for the end raise, where they are not ignored; the third ends at once.

    Yields:
        The signals that came.
    """
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield seen
        return
    process = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a worker that was forked, whose handlers are ours
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        seen.append(number)
        if len(seen) > 2:
            os._exit(128 + number)
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)

    before = {}
    for number in _ENDS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            before[number] = signal.signal(number, end)
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold signals back until the block has ended, so that what it changes stays consistent.

    Python delivers signals to the main thread only; in any other the block needs no protection.

    Raises:
        KeyboardInterrupt: At the end of the block, if one came during it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[tuple[int, FrameType | None]] = []

    def hold(number: int, frame: FrameType | None) -> None:
        came.append((number, frame))

    before = {number: signal.getsignal(number) for number in _ENDS}
    held = {number: handler for number, handler in before.items() if callable(handler)}
    for number in held:
        signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
    for name, frame in came:
        held[signal.Signals(name)](name, frame)


def _report(name: str, message: str) -> int:
    print(f"gdm-repr {name}: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


class Command(BaseSettings):
    """Base of the commands' options: where values come from."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,  # no option of any command is meant to be infinite
        env_prefix="GDM_REPR_",
        env_nested_delimiter="__",
        env_ignore_empty=True,
        protected_namespaces=(),
        cli_implicit_flags=True,
        cli_kebab_case=True,
        cli_hide_none_type=True,
    )

    config: Free[UserPath | None] = Field(None, description="YAML file of these options.")
    dry_run: Free[bool] = Field(
        False, description="Open and check all that is needed, print the options, and stop."
    )

    @model_validator(mode="wrap")
    @classmethod
    def _numbers_are_numerals(
        cls, values: object, handler: ModelWrapValidatorHandler[Self]
    ) -> Self:
        """Refuse text that became a number by Python's reading of it (:mod:`.numerals`)."""
        made = handler(values)
        if loose := loose_numbers(values, made):
            place, text, rule = loose
            wrong = PydanticCustomError("numeral", "{rule}", {"rule": rule})
            raise ValidationError.from_exception_data(
                cls.__name__, [InitErrorDetails(type=wrong, loc=place, input=text)]
            )
        return made

    def resolved(self, *without: str) -> dict[str, Any]:
        """Return the options as they are recorded: plain, but for some that say nothing later."""
        return self.model_dump(mode="json", exclude={"config", "dry_run", *without})

    def check(self) -> None:
        """Refuse what types can't tell, before anything is opened.

        Raises:
            ValueError: for options that do not fit each other, or a folder ``out`` that can't be.
        """
        out = getattr(self, "out", None)
        if isinstance(out, Path):
            require_folder(out)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what :func:`parse` has merged, and nothing beside it."""
        return (init_settings,)


def require_folder(out: Path) -> None:
    """Refuse a place where no folder can be made or written to.

    Raises:
        ValueError: naming what stands in the way.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {str(out)!r}: is a file; give a folder")
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ValueError(f"--out {str(out)!r}: {str(there)!r} is a file; give another folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"--out {str(out)!r}: {str(there)!r} can't be written to; give another")


Options = TypeVar("Options", bound=Command)


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; see --help\n")


def parse(options: type[Options], name: str, argv: Sequence[str] | None) -> Options:
    """Read a command's options from flags, environment and YAML file.

    Args:
        options: the command's model; its docstring is the help's text.
        name: the command's name.
        argv: arguments without the program's name; ``sys.argv`` when None.

    Raises:
        ValueError: naming the option, its value and the rule it breaks.
        SystemExit: after ``--help``, or for a flag that does not exist.
    """
    arguments = _joined(sys.argv[1:] if argv is None else argv)
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config", type=Path)
    given = first.parse_known_args(arguments)[0].config or os.environ.get("GDM_REPR_CONFIG")
    parser = _Parser(
        prog=f"gdm-repr {name}",
        description=inspect.cleandoc(options.__doc__ or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    flags: CliSettingsSource[Any] = CliSettingsSource(
        options, root_parser=parser, add_argument_method=_add_argument
    )
    try:
        values = read_yaml(user_path(given)) if given else {}
        for source in (EnvSettingsSource(options), flags(args=arguments)):
            values = laid_over(values, source())
        return build(options, values)
    except SettingsError as error:
        raise ValueError(f"{error}: {error.__cause__}" if error.__cause__ else str(error)) from None
    except RecursionError:
        raise ValueError("an option's JSON is nested too deeply; write it flatter") from None


def _joined(arguments: Sequence[str]) -> list[str]:
    """Join a flag to a value that begins with a minus, ``-3:3:7``, which would pass for a flag."""
    joined: list[str] = []
    for argument in arguments:
        before = joined[-1] if joined else ""
        if re.match(r"-\.?\d", argument) and before.startswith("--") and "=" not in before:
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def build(options: type[Options], values: Mapping[str, Any], place: str = "") -> Options:
    """Make a command's options of values by name.

    Args:
        options: the command's model.
        values: plain, as from JSON or YAML.
        place: where they come from, put before what is wrong.

    Raises:
        ValueError: naming the option, its value and the rule it breaks.
    """
    try:
        return options(**values)
    except ValidationError as error:
        raise ValueError(place + _first_problem(error, options)) from None


def laid_over(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay options over others: another ``name`` takes the place of the old one's options, too."""
    if "name" in above and above["name"] != below.get("name", above["name"]):
        return dict(above)
    merged = dict(below)
    for key, value in above.items():
        under = below.get(key)
        if isinstance(under, dict) and isinstance(value, dict):
            merged[key] = laid_over(under, value)
        else:
            merged[key] = value
    return merged


def _add_argument(parser: argparse.ArgumentParser, *names: str, **settings: object) -> object:
    """Take ``--n`` beside the ``-n`` that pydantic-settings makes of an option of one letter."""
    long = [f"-{name}" for name in names if len(name) == 2]
    return parser.add_argument(*long, *names, **settings)  # type: ignore[arg-type]


def _first_problem(error: ValidationError, options: type[BaseModel]) -> str:
    """Say in one line which option is wrong, how, and what there is."""
    first = error.errors()[0]
    place = ".".join(
        str(part)
        for part in first["loc"]
        if not str(part).startswith(("tuple[", "literal[", "constrained-"))
    )
    if first["type"] == "missing":
        return f"--{place.replace('_', '-')} is required"
    if first["type"] == "extra_forbidden":
        return f"{shortened(place)}: no such option; see --help for those there are"
    more = f" ({len(error.errors()) - 1} more)" if len(error.errors()) > 1 else ""
    problem = first["msg"].removeprefix("Value error, ")
    return f"{shortened(place)}={shortened(repr(first['input']))}: {shortened(problem, 600)}{more}"


def shortened(text: str, most: int = 200) -> str:
    """Cut the middle out of a long text.

    >>> shortened("0123456789" * 3, 11)
    '0123...6789'
    """
    half = (most - 3) // 2
    return text if len(text) <= most else f"{text[:half]}...{text[-half:]}"


def run(
    options: type[Options],
    name: str,
    argv: Sequence[str] | None,
    body: Callable[[Options], int],
    *,
    opened: Callable[[Options], object] | None = None,
    go_on: str = "run the same command again to continue",
) -> int:
    """Parse a command's options and run its body, as every command's ``main`` does.

    Args:
        options: the command's model.
        name: the command's name.
        argv: arguments without the program's name; ``sys.argv`` when None.
        body: does the work and returns the exit status.
        opened: opens and checks all that the body needs, and writes nothing. The body begins with
            it, and ``--dry-run`` is it, so that both refuse the same. If what it returns has a
            ``config``, those options are the ones that the body goes by.
        go_on: what to do after Ctrl-C.

    Returns:
        The exit status; ``--dry-run`` opens what is needed, prints the resolved options as JSON and
        returns 0.
    """

    def parsed() -> int:
        config = parse(options, name, argv)
        config.check()
        if config.dry_run:
            if opened is not None:
                config = getattr(opened(config), "config", config)
            print(json.dumps(config.model_dump(mode="json"), indent=2))
            return 0
        return body(config)

    return run_command(name, parsed, resume=go_on)
