"""Writes what `nststab evaluate stability` measured of the shipped styles into cards and docs/styles/README.md.

python benchmarks/style_cards.py --stability FOLDER [--all-methods FOLDER] [--held-out FILE.json]
python benchmarks/style_cards.py --light FOLDER

The second line writes the cards of the styles light/NAME alone. FOLDER is what `nststab evaluate stability -o FOLDER`
wrote, of the networks and of all four methods; FILE.json comes from benchmarks/held_out.py. A style that FOLDER
does not have keeps its card, which `nststab train style --davis DIR` wrote. The page's text before its first style
stays as it is.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nststab.measure.settings import LOSS_FRAMES
from nststab.storage.durable import write_durably
from nststab.styles.shipped import Style, light_cards, styles

PAGE = Path(__file__).resolve().parents[1] / "docs" / "styles" / "README.md"
MARK = "<!-- the styles: benchmarks/style_cards.py writes all that follows -->\n"
NAMES = {"input": "content ceiling", "independent": "independent", "recurrent": "recurrent"}
FIGURES = ("psnr", "ssim", "flicker", "style_loss", "content_loss")
WHAT = (
    "{count} DAVIS sequences, {frames} frames, at longest side {size}, background patches of {patch_size} pixels, "
    "search {radius} pixels, {patches} patches a pair; unweighted losses, scaled by energy, "
    "of {loss_frames} frames of each; flicker in levels of 255; mean over sequences"
)
Row = Mapping[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measured = parser.add_mutually_exclusive_group(required=True)
    measured.add_argument("--stability", type=Path)
    measured.add_argument("--light", type=Path)
    parser.add_argument("--all-methods", type=Path)
    parser.add_argument("--held-out", type=Path)
    options = parser.parse_args()
    if options.light:
        write_light_cards(read(options.light / "results.json"))
        return
    networks = read(options.stability / "results.json")
    every = read(options.all_methods / "results.json") if options.all_methods else {"rows": []}
    held_out = read(options.held_out) if options.held_out else {}
    sections = []
    for style in styles():
        rows = of_style(networks["rows"], style.name)
        if rows:
            write_card(style, rows, networks)
        else:
            rows = of_card(style)
        sections.append(section(style, rows, of_style(every["rows"], style.name), held_out.get(style.name)))
    head = PAGE.read_text().partition(MARK)[0]
    write_durably(PAGE, (head + MARK + "\n" + "\n".join(sections)).encode())


def read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text())
    return values


def of_style(rows: Sequence[Row], style: str) -> dict[str, Row]:
    return {row["method"]: row for row in rows if row["style"] == style}


def of_card(style: Style) -> dict[str, Row]:
    """What `train style --davis` measured by the same protocol, without intervals."""
    figures = style.card["figures"]
    return {method: figures[name] for method, name in NAMES.items()}


def write_card(style: Style, rows: Mapping[str, Row], results: Mapping[str, Any]) -> None:
    card = {**style.card, "figures": figures_of(style.name, rows, results)}
    write_durably(style.folder / "card.json", (json.dumps(card, indent=1, ensure_ascii=False) + "\n").encode())


def write_light_cards(results: Mapping[str, Any]) -> None:
    cards = read(light_cards())
    for name, card in cards.items():
        rows = of_style(results["rows"], name)  # results call a style by its last name
        if rows:
            card["figures"] = figures_of(f"light/{name}", rows, results)
    write_durably(light_cards(), (json.dumps(cards, indent=1, ensure_ascii=False) + "\n").encode())


def figures_of(style: str, rows: Mapping[str, Row], results: Mapping[str, Any]) -> dict[str, Any]:
    settings = results["settings"]
    limit = "" if settings["limit"] == "all" else f" --limit {settings['limit']}"
    losses = "" if settings["loss_frames"] == LOSS_FRAMES else f" --set loss_frames={settings['loss_frames']}"
    frames = "all" if settings["limit"] == "all" else f"the first {settings['limit']}"
    named = {**settings, "count": len(settings["sequences"]), "frames": frames}
    figures: dict[str, Any] = {
        "command": f"nststab evaluate stability --davis DAVIS --styles {style} --patches {settings['patches']}"
        f"{limit}{losses} --seed {results['seed']} -o FOLDER",
        "what": WHAT.format(**named),
    }
    for method, name in NAMES.items():
        row = rows[method]
        figures[name] = {"n": row["n"], **{key: round(row[key], 4) for key in FIGURES}}
    return figures


def section(style: Style, rows: Mapping[str, Row], every: Mapping[str, Row], held_out: Row | None) -> str:
    """A style's part of the page."""
    card = style.card
    known = [str(card[key]) for key in ("title", "artist", "year") if card[key] != "unknown"]
    lines = [
        f"## {style.name}",
        "",
        f"{', '.join(known)}. Gram trace {card['gram_trace']['relu1_1']:.0f} at relu1_1.",
        "",
        f"![{style.name}]({style.name}.jpg)",
        "",
        *table(rows),
        "",
        gain(rows["independent"], rows["recurrent"]),
    ]
    if every:
        lines += ["", "All four methods, on few frames (above: how many):", "", *table(every)]
    if held_out:
        lines += ["", optimized(held_out)]
    return "\n".join(lines) + "\n"


def table(rows: Mapping[str, Row]) -> list[str]:
    """Markdown, the input first; the cheats are left out."""
    lines = [
        "| | PSNR dB | SSIM | flicker | style loss | of the input's | content loss |",
        "|---|---|---|---|---|---|---|",
    ]
    for method in ("input", "gatys", "ruder", "independent", "recurrent"):
        if method in rows:
            row = rows[method]
            share = row["style_loss"] / rows["input"]["style_loss"]
            lines.append(
                f"| {method} | {interval(row, 'psnr', 2)} | {interval(row, 'ssim', 3)} | {row['flicker']:.2f} "
                f"| {row['style_loss']:.3f} | {share:.3f} | {row['content_loss']:.3f} |"
            )
    return lines


def interval(row: Row, name: str, digits: int) -> str:
    if f"{name}_interval" not in row:
        return f"{row[name]:.{digits}f}"
    low, high = row[f"{name}_interval"]
    return f"{row[name]:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def gain(independent: Row, recurrent: Row) -> str:
    psnr, ssim = (recurrent[name] - independent[name] for name in ("psnr", "ssim"))
    style, content = (recurrent[name] / independent[name] - 1 for name in ("style_loss", "content_loss"))
    return (
        f"Recurrent over independent: {psnr:+.2f} dB, {ssim:+.3f} SSIM, style loss {style:+.1%}, content loss "
        f"{content:+.1%}."
    )


def optimized(row: Row) -> str:
    network, gatys = row["network"], row["gatys"]
    return (
        f"On {row['photos']} held-out photographs at {row['side']} pixels the independent network's total loss is "
        f"{network['total']:.2f} (content {network['content']:.2f}, style {network['style']:.2f} at weight "
        f"{row['style_weight']:g}); {row['iterations']} iterations of L-BFGS from the content reach "
        f"{gatys['total']:.2f} ({gatys['content']:.2f}, {gatys['style']:.2f}), "
        f"and the network's loss after {row['as_many_iterations']:.0f}."
    )


if __name__ == "__main__":
    main()
