"""Shows preflight's findings to people, and asks about warnings."""

from collections.abc import Iterable, Iterator, Sequence

from rich.console import RenderableType

from whimbrel.cli.output.screen import Screen
from whimbrel.cli.output.terminal_text import Paragraph, Text
from whimbrel.domain.runs.preflight_findings import Finding
from whimbrel.errors import WarningsRefused

STYLES = {"error": "bold red", "warning": "bold yellow", "unknown": "bold blue", "info": "dim"}


def findings_lines(findings: Iterable[Finding]) -> Iterator[RenderableType]:
    """Yields for each finding what it is, what to do, and, unbroken, the command that does it."""
    for finding in findings:
        yield Text.assemble(
            (f"{finding.level}: ", STYLES[finding.level]), (f"{finding.check}. ", "bold"), finding.reason
        )
        build = str((finding.detail or {}).get("build") or "")
        yield Paragraph(Text(finding.remedy.removesuffix(build).rstrip(), style="dim"), indent=2)
        if build:
            yield Text(f"  {build}", no_wrap=True)


def consent(screen: Screen, findings: Sequence[Finding], *, yes: bool) -> None:
    """Shows the findings and, where a person can answer, asks whether to go on. Raises WarningsRefused if not."""
    screen.tell(*findings_lines(findings))
    ask = any(finding.level == "warning" for finding in findings) and not yes and not screen.json
    if ask and screen.answerable and not screen.ask("Continue?"):
        raise WarningsRefused("Not started, as you said. Nothing was written.")
