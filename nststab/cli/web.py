"""nststab web."""

from contextlib import nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from nststab.cli.common import STYLE, console_listener, network_option, overwrite_option, say
from nststab.cli.options import SettingsCommand
from nststab.storage.folders import refuse_overwriting
from nststab.tasks.settings import PORT


@click.command("web", cls=SettingsCommand, short_help="A page that stylizes the camera in the browser.")
@click.argument("style", metavar="[STYLE[,STYLE...]]...", nargs=-1, type=STYLE)
@click.option("-o", "--output", metavar="FOLDER", help="Write the page there, for any web server.")
@click.option("--serve", is_flag=True, help="Serve the page to this machine alone, until Ctrl-C.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="Where to serve it.")
@network_option
@overwrite_option
def command(style: tuple[str, ...], output: str | None, serve: bool, port: int, method: str, yes: bool) -> None:
    """Write or serve a page that stylizes the camera, a video or a picture in the browser, frame by frame.

    \b
    nststab web --serve
    nststab web light/candy -o site/

    Each STYLE brings its network; all that are shipped come where none is given. Several styles of one network, with
    commas between, can be mixed. Nothing leaves the machine that shows the page, and the page loads nothing from
    elsewhere. It runs by WebGPU or by WebAssembly, which has threads only where the server sends the headers that
    docs/live.md names.
    """
    if output is None and not serve:
        raise click.UsageError("say --serve to see the page, or -o FOLDER to write it, or both")
    if output is not None:
        refuse_overwriting(Path(output), yes)
    from nststab.tasks.web import site_server, write_site

    with TemporaryDirectory(prefix="nststab_") if output is None else nullcontext(output) as folder:
        server = site_server(folder, port) if serve else None
        write_site(folder, style=style, method=method, overwrite=yes, progress=console_listener())  # type: ignore[arg-type]
        if output is not None:
            size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6
            say(f"{folder}: {size:.0f} MB")
        if server is not None:
            click.echo(f"http://localhost:{server.server_port}/  (Ctrl-C ends it)")
            with server, suppress(KeyboardInterrupt):
                server.serve_forever()
