"""The commands as the program has them: no option twice, and help that says of an option no more than there is to say."""

from collections import Counter
from typing import Any

from typer.core import TyperCommand, TyperGroup, TyperOption


class SingleOptionCommand(TyperCommand):
    """A command that takes no option with two values: else the last is taken, and the other, a filter perhaps, forgotten."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        for option, count in Counter(given).items():
            if count > 1 and isinstance(option, TyperOption) and not (option.is_flag or option.multiple):
                ctx.fail(f"Option {option.opts[0]} is given {count} times; give it once")
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _name_no_value(self.get_params(ctx))
        super().format_help(ctx, formatter)


class Group(TyperGroup):
    """Commands under one name."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _name_no_value(self.get_params(ctx))
        super().format_help(ctx, formatter)


def _name_no_value(options: list[Any]) -> None:
    """A flag takes none: `<bool>` behind it would ask for one."""
    for each in options:
        if isinstance(each, TyperOption) and each.is_flag:
            each.metavar = ""
