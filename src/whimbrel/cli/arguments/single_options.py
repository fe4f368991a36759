"""Typer's commands, changed to refuse an option that is given twice and to show flags without a value."""

from collections import Counter
from typing import Any

from typer.core import TyperCommand, TyperGroup, TyperOption


class SingleOptionCommand(TyperCommand):
    """A command that refuses an option given twice: else the last is used, and the other, perhaps a filter, ignored."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _, _, options_given = self.make_parser(ctx).parse_args(args=list(args))
        for option, count in Counter(options_given).items():
            if count > 1 and isinstance(option, TyperOption) and not (option.is_flag or option.multiple):
                ctx.fail(f"Option {option.opts[0]} is given {count} times; give it once")
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _hide_flag_values(self.get_params(ctx))
        super().format_help(ctx, formatter)


class Group(TyperGroup):
    """A group of commands."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _hide_flag_values(self.get_params(ctx))
        super().format_help(ctx, formatter)


def _hide_flag_values(options: list[Any]) -> None:
    """Removes `<bool>` behind flags, which take no value."""
    for option in options:
        if isinstance(option, TyperOption) and option.is_flag:
            option.metavar = ""
