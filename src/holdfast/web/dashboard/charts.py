"""Charts as SVG: bars of what succeeded go up from the base line, bars of what failed go down.

Position tells them apart, not colour alone. The page puts the numbers beside it, and a table behind it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup

from holdfast.postgres.overview import Bucket
from holdfast.web.dashboard import words

#: Units of a bar with its gap, of the whole height, and of the least that is seen.
_STEP, _BAR, _HEIGHT, _LEAST = 10.0, 7.0, 100.0, 1.5


@dataclass(frozen=True)
class Chart:
    """`up` and `down` are the largest values of each side; `labels` times along the line."""

    svg: Markup
    up: int
    down: int
    labels: Sequence[str]


def outcome_chart(buckets: Sequence[Bucket], *, label: str, step: float) -> Chart:
    """What became of jobs."""
    up = max((bucket.succeeded for bucket in buckets), default=0)
    down = max((bucket.failed + bucket.dead for bucket in buckets), default=0)
    scale = (_HEIGHT - 2) / max(up + down, 1)
    base = 1 + up * scale if up or down else _HEIGHT - 1
    bars = Markup("").join(_bucket(number, bucket, base, scale) for number, bucket in enumerate(buckets))
    width = _STEP * len(buckets)
    svg = Markup(
        '<svg class="chart" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<line class="base" x1="0" x2="{}" y1="{:.2f}" y2="{:.2f}"/>{}</svg>'
    ).format(width, _HEIGHT, label, width, base, base, bars)
    return Chart(svg, up, down, _labels(buckets, step))


def _bucket(number: int, bucket: Bucket, base: float, scale: float) -> Markup:
    x = number * _STEP + (_STEP - _BAR) / 2
    title = (
        f"{bucket.at:%b %d, %H:%M} UTC: {words.number(bucket.succeeded)} succeeded,"
        f" {words.number(bucket.failed)} failed attempts, {words.number(bucket.dead)} dead"
    )
    failed, dead = (_height(value, scale) for value in (bucket.failed, bucket.dead))
    up = _height(bucket.succeeded, scale)
    parts = [
        _rect("hit", number * _STEP, 0, _STEP, _HEIGHT),
        _rect("ok", x, base - up, _BAR, up),
        _rect("failed", x, base, _BAR, failed),
        _rect("dead", x, base + failed, _BAR, dead),
    ]
    return Markup("<g><title>{}</title>{}</g>").format(title, Markup("").join(part for part in parts if part))


def _height(value: int, scale: float) -> float:
    return max(value * scale, _LEAST) if value else 0.0


def _rect(name: str, x: float, y: float, width: float, height: float) -> Markup:
    if not height:
        return Markup("")
    return Markup('<rect class="{}" x="{:g}" y="{:.2f}" width="{:g}" height="{:.2f}"/>').format(
        name, x, y, width, height
    )


def _labels(buckets: Sequence[Bucket], step: float, parts: int = 4) -> list[str]:
    """Times at equal distances, the first and the last bucket among them."""
    if not buckets:
        return []
    places = [round(part * (len(buckets) - 1) / parts) for part in range(parts + 1)]
    return [_label(buckets[place].at, step) for place in places]


def _label(at: datetime, step: float) -> str:
    return f"{at:%b %d}" if step >= 7200 else f"{at:%H:%M}"


def spark(values: Sequence[int], *, label: str) -> Markup:
    """A small line without axes."""
    top = max([*values, 1])
    points = " ".join(f"{number * 4},{22 - 20 * value / top:.1f}" for number, value in enumerate(values))
    width = 4 * max(len(values) - 1, 1)
    return Markup(
        '<svg class="spark" viewBox="0 0 {} 24" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<polyline points="{}"/></svg>'
    ).format(width, label, points)
