"""The options of a cut-out on the command line; `schemas.options` validates them."""

from typing import Annotated

from typer import Option

from erasestream.schemas import options

Format = Annotated[options.OutputFormat, Option(help="Format of the cut-outs.")]
Channels = Annotated[options.Channels, Option(help="The cut-out, or its alpha channel alone.")]
Size = Annotated[options.Size, Option(help="Largest size of a cut-out, in megapixels.")]
MaxDimension = Annotated[int | None, Option(help="Longest side in pixels, instead of --size.")]
Crop = Annotated[bool, Option("--crop", help="Crop to the product.")]
CropMargin = Annotated[
    str | None, Option(help="Margin around the product: 20px, 5%, or two or four of these.")
]
BgColor = Annotated[str | None, Option(help="Background colour: ffffff, fff or white.")]
Quality = Annotated[
    int | None, Option(help="1 to 100, for jpg and webp (webp is lossless without it).")
]
Edges = Annotated[
    options.Edges, Option(help="Whether to remove the old background's colour from soft edges.")
]
OwnAlpha = Annotated[
    options.OwnAlpha,
    Option(help="Whether an image's own transparency is the cut-out (auto: if it isolates it)."),
]
