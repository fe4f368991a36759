"""What preflight found, for people: shown, and asked about."""

from collections.abc import Iterable, Iterator, Sequence

from rich.console import RenderableType

from whimbrel.cli.output.screen import Screen
from whimbrel.cli.output.terminal_text import Paragraph, Text
from whimbrel.domain.runs.preflight_findings import Finding
from whimbrel.errors import WarningsRefused

STYLES = {"error": "bold red", "warning": "bold yellow", "unknown": "bold blue"}


def findings_lines(found: Iterable[Finding]) -> Iterator[RenderableType]:
    """For each: what it is, what to do, and in one piece the command that does it."""
    for each in found:
        yield Text.assemble((f"{each.level}: ", STYLES[each.level]), (f"{each.check}. ", "bold"), each.reason)
        build = str((each.detail or {}).get("build") or "")
        yield Paragraph(Text(each.remedy.removesuffix(build).rstrip(), style="dim"), indent=2)
        if build:
            yield Text(f"  {build}", no_wrap=True)


def consent(screen: Screen, found: Sequence[Finding], *, yes: bool) -> None:
    """Show what was found, and where somebody can answer, ask whether to go on. Raises WarningsRefused if not."""
    screen.tell(*findings_lines(found))
    ask = any(each.level == "warning" for each in found) and not yes and not screen.json
    if ask and screen.answerable and not screen.ask("Continue?"):
        raise WarningsRefused("Not started, as you said. Nothing was written.")
