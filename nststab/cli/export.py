"""nststab export."""

import click

from nststab.cli.common import STYLE, NearestChoice, network_option, overwrite_option, refuse_early, say
from nststab.cli.options import SettingsCommand


@click.command("export", cls=SettingsCommand, short_help="Write a network for other programs, as ONNX.")
@click.argument("style", metavar="STYLE[,STYLE...]", type=STYLE)
@click.option("-o", "--output", required=True, metavar="OUT", help="A .onnx file, or with --openvino an .xml file.")
@network_option
@click.option(
    "--precision",
    type=NearestChoice(("float32", "float16")),
    default="float32",
    show_default=True,
    help="Of the arithmetic; inputs and outputs are float32.",
)
@click.option("--openvino", is_flag=True, help="Write OpenVINO's own format.")
@overwrite_option
def command(style: str, output: str, method: str, precision: str, openvino: bool, yes: bool) -> None:
    """Write the network of STYLE, a name, a folder or a checkpoint, to a file that other programs run.

    Several styles of one network, with commas between, are mixed by an input of the file.

    Frames of any size and number go in and come out: what this program does around a network is in the graph. ONNX
    Runtime or OpenVINO must draw what torch does before anything is written. docs/export.md shows how to call the file
    from Python, C++, JavaScript and OpenCV.
    """
    refuse_early(output, yes)
    from nststab.tasks.export import export

    made = export(
        style,
        output,
        method=method,  # type: ignore[arg-type]
        precision=precision,  # type: ignore[arg-type]
        openvino=openvino,
        overwrite=yes,
    )
    styles = f" of {len(made.styles)} weights" if len(made.styles) > 1 else ""
    say(f"{output}: inputs {', '.join(made.inputs)}{styles}; {made.decibels:.0f} dB from what torch draws")
