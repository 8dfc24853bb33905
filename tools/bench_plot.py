#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""bench_plot FIGURES FILE.svg: a chart of what ./dev bench measured, one JSON object a line."""
import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

LEAT, LIMIT, PEER, INK = "#c8102e", "#8a8f98", "#b9c6d6", "#22262b"
LIMITS = ("limit", "spsc-ring", "fdatasync-loop")  # what can only be neared
UNITS = {"op/s": "operations a second", "us": "microseconds", "bytes": "bytes", "ratio": "ratio"}
BAR, GAP, HEAD = 1.0, 0.9, 1.1  # heights: of a bar, between benches, of a bench's name


def human(value):
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def bars_of(figure):
    """leat first, then the others from the best to the worst."""
    others = sorted(figure["peers"].items(), key=lambda p: p[1], reverse=figure["better"] == "higher")
    return [("leat", figure["leat"])] + others


def height(figures):
    return sum(HEAD + GAP + BAR * len(bars_of(f)) for f in figures)


def colours(name):
    if name == "leat":
        return {"color": LEAT}
    if name in LIMITS:
        return {"facecolor": "white", "edgecolor": LIMIT, "linewidth": 1.2}
    return {"color": PEER}


def draw(axes, figures):
    values = [v for f in figures for _, v in bars_of(f) if v > 0] or [1]
    low, high = min(values) / 3, max(values)
    span = (high / low) ** 0.45 if len(values) > 1 else 10  # room for what stands at the bars
    axes.set_xscale("log")
    axes.set_xlim(low, high * span)
    y = 0
    for figure in figures:
        axes.text(low, y + HEAD / 2, figure["bench"], va="center", weight="bold", size=9.5, color=INK)
        y += HEAD
        for name, value in bars_of(figure):
            axes.barh(y + BAR / 2, max(value, low) - low, height=0.8 * BAR, left=low, **colours(name))
            axes.annotate(f"{human(value)}  {name}", (max(value, low), y + BAR / 2), (4, 0),
                          textcoords="offset points", va="center", size=8,
                          color=LEAT if name == "leat" else INK, weight="bold" if name == "leat" else "normal")
            y += BAR
        y += GAP
    axes.set_ylim(y, 0)
    axes.set_yticks([])
    unit, better = figures[0]["unit"], figures[0]["better"]
    axes.set_title(f"{UNITS[unit]}: {better} is better", loc="left", size=11, color=INK)
    axes.tick_params(axis="x", which="both", labelsize=8, colors=LIMIT)
    axes.xaxis.set_major_formatter(lambda v, _: human(v))
    axes.xaxis.set_minor_formatter(lambda *_: "")
    axes.grid(axis="x", which="major", color="#e7eaee", zorder=0)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#d0d5db")


def main(source, target):
    with open(source, encoding="utf-8") as lines:
        figures = [json.loads(line) for line in lines]
    kinds = {}
    for figure in figures:
        kinds.setdefault((figure["unit"], figure["better"]), []).append(figure)
    panels = sorted(kinds.values(), key=lambda p: list(UNITS).index(p[0]["unit"]))
    columns = [panels[:1], panels[1:]] if len(panels) > 1 else [panels]
    inches = max(sum(0.17 * height(p) + 0.9 for p in column) for column in columns)
    chart = plt.figure(figsize=(7 * len(columns), inches + 0.4))
    for at, column in enumerate(columns):
        top = 1 - 0.5 / (inches + 0.4)
        for panel in column:
            part = 0.17 * height(panel) / (inches + 0.4)
            draw(chart.add_axes([(at + 0.03) / len(columns), top - part, 0.94 / len(columns), part]), panel)
            top -= part + 0.9 / (inches + 0.4)
    for kind in [target] + sys.argv[3:]:
        chart.savefig(kind, dpi=110)


main(sys.argv[1], sys.argv[2])
