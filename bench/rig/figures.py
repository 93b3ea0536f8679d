"""Statistics of the benchmarks. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 11: 2.201, 14: 2.145}
"""Student's t, two-sided, by degrees of freedom."""
T_95_BEYOND = 2.1


def paired_ratio(pairs: Sequence[tuple[float, float]], limit: float | None = None) -> dict[str, float]:
    """first / second over paired runs, with its 95 % interval (t, on the logarithm). ``limit`` is for the lower end:
    beyond it the excess is certain."""
    logs = [math.log(first / second) for first, second in pairs]
    mean = statistics.fmean(logs)
    figures = {"ratio": round(math.exp(mean), 4)}
    if len(logs) > 1:
        half = T_95.get(len(logs) - 1, T_95_BEYOND) * statistics.stdev(logs) / math.sqrt(len(logs))
        figures |= {"low_95": round(math.exp(mean - half), 4), "high_95": round(math.exp(mean + half), 4)}
    return figures if limit is None else figures | {"limit_for_low_95": limit}


def missed(found: Mapping[str, object], above: str = "") -> list[str]:
    """Names of the figures, at whatever depth, that are beyond the limit given beside them: ``x_limit`` or ``limit_x``
    of ``x``; of several values (`spread`) the median counts. What could not be measured (``failed``) is missed, too."""
    names = [f"{above}failed"] if "failed" in found else []
    for name, value in found.items():
        limit = found.get(f"{name}_limit", found.get(f"limit_{name}"))
        figure = value.get("median") if isinstance(value, dict) else value
        if isinstance(limit, int | float) and isinstance(figure, int | float) and figure > limit:
            names.append(f"{above}{name}")
        if isinstance(value, dict):
            names += missed(value, f"{above}{name}.")
    return names


def percentile(values: Sequence[float], share: float) -> float:
    """Of values in any order; NaN of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else math.nan


def spread(values: Sequence[float], digits: int = 1) -> dict[str, float]:
    """n, median and extremes of a few values."""
    if not values:
        return {"n": 0}
    middle = round(statistics.median(values), digits)
    return {"n": len(values), "median": middle, "min": round(min(values), digits), "max": round(max(values), digits)}
