"""The options of a cut-out, as the command line takes them; what they allow, their model says."""

from typing import Annotated

from typer import Option

from erasestream.schemas import options

Format = Annotated[options.OutputFormat, Option(help="Of the cut-outs.")]
Channels = Annotated[options.Channels, Option(help="The cut-out, or its alpha channel alone.")]
Size = Annotated[options.Size, Option(help="The most megapixels that come out.")]
MaxDimension = Annotated[int | None, Option(help="Longest side in pixels, instead of --size.")]
Crop = Annotated[bool, Option("--crop", help="Cut off what is empty around the product.")]
CropMargin = Annotated[
    str | None, Option(help="Around the product: 20px, 5%, or two or four of these.")
]
BgColor = Annotated[str | None, Option(help="What the product stands on: ffffff, fff or white.")]
Quality = Annotated[int | None, Option(help="1 to 100, of jpg and webp (without: lossless).")]
Edges = Annotated[
    options.Edges, Option(help="Take the old background's colour out of soft edges, or not.")
]
