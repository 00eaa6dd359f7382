"""Errors in the words of the command: the library names arguments, the shell has options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from typer.core import TyperGroup

from gatewise.errors import GatewiseError

NAME = r"(?<![/\w'])(?P<name>[a-z_]+)="  # not in the path of a file
GIVEN = re.compile(NAME + r"(?P<value>'[^']*'|\d*)")
ADVICE = re.compile(r",? or [^,.;:]*" + NAME + r"('[^']*')?\)?(?=[,.;]|$)")
TARGET = "Name it as target"


class Commands(TyperGroup):
    """The commands; what is wrong is said in the options of the one that was asked for."""

    def invoke(self, ctx: Any) -> Any:
        """Run it."""
        try:
            return super().invoke(ctx)
        except GatewiseError as error:
            asked = self.commands[str(ctx.invoked_subcommand)]
            flags = [p for p in asked.params if p.opts[0].startswith("-")]
            said = in_options(str(error), {str(p.name).rstrip("_"): p.opts[0] for p in flags})
            if said == str(error):
                raise
            raise GatewiseError(said) from error


def in_options(message: str, options: Mapping[str, str]) -> str:
    """The message with options for arguments; advice to give one that is no option is cut.

    options: of each argument, {"on_bad_rows": "--on-bad-rows", ..}.
    """
    said = ADVICE.sub(lambda found: found[0] if found["name"] in options else "", message)
    said = GIVEN.sub(lambda found: _given(found, options), said)
    for name, option in options.items():
        end = r"\b" if "_" in name else r"(?= must be )"  # a plain word may be just that
        said = re.sub(rf"(?<![-/\w']){name}{end}", option, said)
    column = options.get("labels", options.get("target"))
    return said.replace(TARGET, f"Name it with {column}" if column else "Leave it out")


def _given(found: re.Match[str], options: Mapping[str, str]) -> str:
    """on_bad_rows='skip' as --on-bad-rows skip."""
    if found["name"] not in options:
        return found[0]
    return f"{options[found['name']]} {found['value'].strip(chr(39))}".rstrip()
