"""Plot the memory of each process over the images, as SVG.  Pure."""

from typing import NamedTuple

WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 40, 48
COLOURS = ("#2457d6", "#c2571a", "#2f8f4e", "#7a3fb5")
STYLE = "text{font:13px sans-serif;fill:#333}line{stroke:#ddd}polyline{fill:none;stroke-width:2}"


class Series(NamedTuple):
    """Memory of one process: points of images done and MB."""

    name: str
    points: list[tuple[int, float]]


def draw(series: list[Series]) -> str:
    """Return the plot, with axes from zero: memory that does not grow is a flat line."""
    most_images = max(done for each in series for done, _ in each.points)
    step = _step(max(mb for each in series for _, mb in each.points))
    steps = int(max(mb for each in series for _, mb in each.points) / step) + 1

    def x(done: float) -> float:
        return LEFT + done / most_images * (WIDTH - LEFT - RIGHT)

    def y(mb: float) -> float:
        return HEIGHT - BOTTOM - mb / (steps * step) * (HEIGHT - TOP - BOTTOM)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>Resident memory over {most_images} images</title><style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for level in range(steps + 1):
        at = y(level * step)
        lines.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        lines.append(_text(LEFT - 8, at + 4, f"{level * step}", "end"))
    for part in range(5):
        done = most_images * part // 4
        lines.append(_text(x(done), HEIGHT - BOTTOM + 18, f"{done}", "middle"))
    lines.append(_text(x(most_images / 2), HEIGHT - 10, "images", "middle"))
    lines.append(_text(LEFT - 8, TOP - 14, "MB", "end"))
    for number, each in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x(done):.1f},{y(mb):.1f}" for done, mb in each.points)
        lines.append(f'<polyline stroke="{colour}" points="{path}"/>')
        at = LEFT + 24 + 130 * number
        lines.append(f'<rect x="{at}" y="16" width="12" height="12" fill="{colour}"/>')
        lines.append(_text(at + 18, 27, each.name, "start"))
    return "\n".join([*lines, "</svg>"]) + "\n"


def _step(most: float) -> int:
    return next(step for step in (1, 5, 20, 50, 100, 250, 1000, 5000) if most / step <= 6)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
