"""nststab doctor: what works on this machine, and what to do about what does not."""

import click

from nststab.cli.options import SettingsCommand


@click.command("doctor", cls=SettingsCommand, short_help="Check what works on this machine.")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Check what works on this machine, and say what to do about what does not.

    \b
    nststab doctor

    The exit code is 0 where all works that the four methods need, 1 otherwise. `none` is no fault: a device or an
    instruction that this machine does not have.
    """
    from nststab.tasks.doctor import doctor, verdict

    titles, findings = [], []
    for title, finding in doctor():
        if title not in titles:
            titles.append(title)
            click.echo(title)
        click.echo(f"  {finding.state:6}  {finding.name:21}  {finding.text}" if finding.name else f"  {finding.text}")
        if finding.advice:
            click.echo(f"{'':33}-> {finding.advice}")
        findings.append(finding)
    text, works = verdict(findings)
    click.echo(text)
    if not works:
        ctx.exit(1)
