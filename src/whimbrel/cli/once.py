"""Commands that take no option twice."""

from collections import Counter
from typing import Any

from typer.core import TyperCommand, TyperOption


class Once(TyperCommand):
    """A command that takes no option with two values: else the last is taken, and the other, a filter perhaps, forgotten."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        for option, count in Counter(given).items():
            if count > 1 and isinstance(option, TyperOption) and not (option.is_flag or option.multiple):
                ctx.fail(f"Option {option.opts[0]} is given {count} times; give it once")
        return super().parse_args(ctx, args)
