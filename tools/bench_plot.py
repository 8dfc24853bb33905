#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""bench_plot FIGURES FILE.svg: a chart of what ./dev bench measured, one JSON object a line."""
import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

LEAT, LIMIT, PEER, INK = "#c8102e", "#8a8f98", "#b9c6d6", "#22262b"
LIMITS = ("limit", "spsc-ring", "fdatasync-loop")  # bare loops that keep no promise
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


def frame(figure):
    """Heights above and below the bars; leat alone needs no heading, its name stands at the bar."""
    return (HEAD, GAP) if figure["peers"] else (0, GAP / 3)


def height(figures):
    return sum(sum(frame(f)) + BAR * len(bars_of(f)) for f in figures) + HEAD


def colours(name):
    outline = {"facecolor": "white", "edgecolor": LIMIT, "linewidth": 1.2}
    return outline if name in LIMITS else {"color": LEAT if name == "leat" else PEER}


def draw(axes, figures):
    values = [v for f in figures for _, v in bars_of(f) if v > 0] or [1]
    low, high = min(values) / 3, max(values)
    span = (high / low) ** 0.45 if len(values) > 1 else 10  # room for what stands at the bars
    axes.set_xscale("log")
    axes.set_xlim(low, high * span)
    y = HEAD / 2
    for figure in figures:
        above, below = frame(figure)
        if above:
            axes.text(low, y + above / 2, figure["bench"], va="center", weight="bold", size=9.5, color=INK)
        y += above
        for name, value in bars_of(figure):
            axes.barh(y + BAR / 2, max(value, low) - low, height=0.8 * BAR, left=low, **colours(name))
            label = name if above else figure["bench"]
            axes.annotate(f"{human(value)}  {label}", (max(value, low), y + BAR / 2), (4, 0),
                          textcoords="offset points", va="center", size=8,
                          color=LEAT if name == "leat" else INK, weight="bold" if name == "leat" else "normal")
            y += BAR
        y += below
    axes.set_ylim(y + HEAD / 2, 0)
    axes.set_yticks([])
    unit, better = figures[0]["unit"], figures[0]["better"]
    axes.set_title(f"{UNITS[unit]}: {better} is better", loc="left", size=11, color=INK)
    axes.tick_params(axis="x", which="both", labelsize=8, colors=LIMIT)
    axes.xaxis.set_major_formatter(lambda v, _: human(v))
    axes.xaxis.set_minor_formatter(lambda *_: "")
    axes.grid(axis="x", which="major", color="#e7eaee", zorder=0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#d0d5db")


def main(source, target):
    with open(source, encoding="utf-8") as lines:
        figures = sorted(map(json.loads, lines), key=lambda f: not f["peers"])  # leat alone: last
    kinds = {}
    for figure in figures:
        kinds.setdefault((figure["unit"], figure["better"]), []).append(figure)
    panels = sorted(kinds.values(), key=lambda p: list(UNITS).index(p[0]["unit"]))
    columns = [[] for _ in panels[:2]]
    for panel in panels:  # to the shorter column
        min(columns, key=lambda column: sum(height(p) + 5 for p in column)).append(panel)
    inches = max(sum(0.17 * height(p) + 0.9 for p in column) for column in columns)
    chart = plt.figure(figsize=(7 * len(columns), inches + 0.4))
    for at, column in enumerate(columns):
        top = 1 - 0.5 / (inches + 0.4)
        for panel in column:
            part = 0.17 * height(panel) / (inches + 0.4)
            draw(chart.add_axes([(at + 0.03) / len(columns), top - part, 0.94 / len(columns), part]), panel)
            top -= part + 0.9 / (inches + 0.4)
    chart.savefig(target, dpi=110)


main(sys.argv[1], sys.argv[2])
