"""Small pictures as SVG text: intervals on one axis, bars. Nothing to install, nothing to load."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

INK, GREY, BLUE, RED = "#1f2933", "#9aa5b1", "#2563eb", "#b91c1c"
_ROW, _LEFT, _WIDTH, _TOP, _BOTTOM = 24, 250, 860, 10, 34


@dataclass(frozen=True)
class Line:
    """One interval of a picture."""

    label: str
    value: float
    low: float
    high: float
    colour: str = BLUE
    note: str = ""  # stands at the right


def intervals(lines: Sequence[Line], mark: float | None = None, title: str = "") -> str:
    """Return intervals below each other on one axis, with a vertical mark; ends beyond the picture become arrows."""
    shown = [line for line in lines if math.isfinite(line.value)]
    if not shown:
        return "<p>nothing to draw</p>"
    low, high = _range(shown, mark)
    right = _WIDTH - 130
    height = _TOP + _ROW * len(shown) + _BOTTOM

    def x(value: float) -> float:
        return _LEFT + (min(max(value, low), high) - low) / (high - low) * (right - _LEFT)

    parts = [_open(height, title)]
    bottom = _TOP + _ROW * len(shown)
    for tick in ticks(low, high):
        parts.append(_line(x(tick), _TOP, x(tick), bottom, "#e4e7eb"))
        parts.append(_text(x(tick), bottom + 16, f"{tick:g}", "middle", GREY))
    if mark is not None and low <= mark <= high:
        parts.append(_line(x(mark), _TOP, x(mark), bottom, RED, dashed=True))
    for place, line in enumerate(shown):
        y = _TOP + _ROW * place + _ROW / 2
        parts.append(_text(_LEFT - 10, y + 4, line.label, "end", INK))
        parts.append(_line(x(line.low), y, x(line.high), y, line.colour, width=2))
        for end, outside, turn in ((line.low, line.low < low, 5), (line.high, line.high > high, -5)):
            at = x(end)
            tip = f'<path d="M{at + turn:.1f} {y - 4:.1f} L{at:.1f} {y:.1f} L{at + turn:.1f} {y + 4:.1f}"'
            parts.append(
                f'{tip} fill="none" stroke="{line.colour}"/>'
                if outside
                else _line(at, y - 4, at, y + 4, line.colour, width=2)
            )
        parts.append(f'<circle cx="{x(line.value):.1f}" cy="{y:.1f}" r="4" fill="{line.colour}"/>')
        parts.append(_text(right + 10, y + 4, line.note or f"{line.value:.4g}", "start", INK))
    return "".join([*parts, "</svg>"])


def bars(
    edges: Sequence[float], counts: Sequence[int], title: str, labels: Sequence[str] | None = None
) -> str:
    """Return a histogram; heights are square roots of counts, so that a tail of few is seen."""
    height, top, left = 190, 12, 50
    tallest = math.sqrt(max([*counts, 1]))
    width = (_WIDTH - 2 * left) / max(len(counts), 1)
    parts = [_open(height, title)]
    for place, count in enumerate(counts):
        tall = math.sqrt(count) / tallest * (height - top - 40)
        parts.append(
            f'<rect x="{left + place * width:.1f}" y="{height - 30 - tall:.1f}" width="{max(width - 2, 1):.1f}" '
            f'height="{tall:.1f}" fill="{BLUE}"><title>{count:,}</title></rect>'
        )
        named = labels[place] if labels else f"{edges[place]:.3g}"
        if len(counts) <= 12 or place % 5 == 0 or place <= 1:
            parts.append(_text(left + (place + 0.5) * width, height - 12, named, "middle", GREY))
    return "".join([*parts, "</svg>"])


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Return round numbers between two others."""
    raw = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * unit for unit in (1.0, 2.0, 5.0, 10.0) if power * unit >= raw)
    first = math.ceil(low / step)
    return [round(number * step, 12) for number in range(first, math.floor(high / step) + 1)]


def _range(lines: Sequence[Line], mark: float | None) -> tuple[float, float]:
    """Return an axis that holds all values, and ends of intervals as far as six times the spread of the values."""
    values = [line.value for line in lines] + ([] if mark is None else [mark])
    middle = (min(values) + max(values)) / 2.0
    widths = sorted(line.high - line.low for line in lines if math.isfinite(line.high - line.low))
    usual = widths[len(widths) // 2] if widths else 0.0
    reach = max(max(values) - min(values), usual, abs(middle) * 1e-3, 1e-9)
    ends = [end for line in lines for end in (line.low, line.high) if math.isfinite(end)]
    low = max(min([*ends, *values]), middle - 1.5 * reach)
    high = min(max([*ends, *values]), middle + 1.5 * reach)
    room = 0.04 * (high - low) or 1e-9
    return low - room, high + room


def _open(height: float, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" width="100%" role="img" '
        f'aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="12">'
    )


def _line(
    x1: float, y1: float, x2: float, y2: float, colour: str, *, width: int = 1, dashed: bool = False
) -> str:
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"{dash}/>'


def _text(x: float, y: float, text: str, anchor: str, colour: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
