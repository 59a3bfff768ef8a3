"""The results as pictures. The only importer of matplotlib."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.bench.figures import apart
from tests.bench.outcome import OWN, Outcome, memory
from tests.bench.peers.roster import ROSTER, Peer

mpl.use("agg")

#: Ours, the others, the limit; told apart by those who see no colours too.
_OWN, _OTHER, _LIMIT = "#0b6e4f", "#b0b7bd", "#5b6770"
_SIZE: Final = (8, 4.2)
_DPI: Final = 110
#: Height of a line of text, of a picture's.
_LINE: Final = 0.045
#: Where a logarithmic bar begins, in ms: no worker adds less.
_LEAST_MS: Final = 0.1
_PEERS: Final = tuple(peer for peer in ROSTER if peer.kind != "part")


def draw(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw what was measured; return the pictures."""
    outcome = Outcome(results["runs"])
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"cpu.png": _cpu, "latency.png": _latency, "memory.png": _memory}
    drawn = []
    for name, picture in pictures.items():
        figure = picture(outcome)
        if figure is not None:
            figure.savefig(folder / name, dpi=_DPI)
            drawn.append(folder / name)
    return drawn


def _colour(peer: Peer) -> str:
    return {"own": _OWN, "limit": _LIMIT}.get(peer.kind, _OTHER)


def _cpu(outcome: Outcome) -> Figure | None:
    """CPU a chunk, by peer."""
    return _bars(
        outcome,
        "CPU of the worker for one chunk, in µs (less is better)",
        (
            ("a", "cpu_us_chunk", "400 streams at 25 chunks/s"),
            ("b", "cpu_us_chunk", "streams without pause"),
        ),
    )


def _latency(outcome: Outcome) -> Figure | None:
    """Added latency, by peer."""
    return _bars(
        outcome,
        "Latency added to a chunk, 100 streams at 25 chunks/s, in ms (less is better, logarithmic)",
        (("paced", "latency_ms.p50", "median"), ("paced", "latency_ms.p99", "99th percentile")),
        logarithmic=True,
    )


def _bars(
    outcome: Outcome,
    title: str,
    panels: Sequence[tuple[str, str, str]],
    *,
    logarithmic: bool = False,
) -> Figure | None:
    figure = Figure(figsize=_SIZE, layout="constrained")
    figure.suptitle(title, fontsize=11)
    peers = [peer for peer in reversed(_PEERS) if outcome.median(peer.name, *panels[0][:2])]
    if not peers:
        return None
    axes: Sequence[Axes] = figure.subplots(1, len(panels), sharey=True)
    for axis, (workload, name, words) in zip(axes, panels, strict=True):
        values = [outcome.median(peer.name, workload, name) or 0 for peer in peers]
        bars = axis.barh(
            [peer.title for peer in peers], values, color=[_colour(peer) for peer in peers]
        )
        axis.bar_label(bars, fmt="%.3g", padding=3, fontsize=8)
        axis.set_title(words, fontsize=9)
        axis.margins(x=0.18)
        _plain(axis)
        if logarithmic:
            axis.set_xscale("log")
            axis.set_xlim(_LEAST_MS, max(values) * 2)
        # The bars say their numbers.
        axis.xaxis.set_visible(False)
    return figure


def _memory(outcome: Outcome) -> Figure | None:
    """Memory, by open streams."""
    lines = [(peer, memory(outcome, peer.name)) for peer in _PEERS]
    lines = sorted(
        ((peer, levels) for peer, levels in lines if levels), key=lambda one: one[1][-1][1]
    )
    if not lines:
        return None
    figure = Figure(figsize=_SIZE, layout="constrained")
    axis = figure.subplots()
    most = lines[-1][1][-1][1]
    places = apart([levels[-1][1] for _, levels in lines], most * _LINE)
    for (peer, levels), place in zip(lines, places, strict=True):
        own = peer.name == OWN
        style = "--" if peer.kind == "limit" else "-"
        axis.plot(
            [0, *(level for level, _ in levels)], [0.0, *(more for _, more in levels)],
            style, marker="o", color=_colour(peer), linewidth=3 if own else 1,
        )  # fmt: skip
        axis.annotate(
            peer.title, (levels[-1][0], place), xytext=(8, 0), textcoords="offset points",
            fontsize=8, fontweight="bold" if own else "normal", verticalalignment="center",
        )  # fmt: skip
    axis.set_title("Memory of one worker beyond idle, in MiB, by open streams", fontsize=11)
    axis.set_xlabel("open streams")
    axis.margins(x=0.16)
    axis.set_xlim(left=0)
    axis.set_ylim(bottom=0)
    _plain(axis)
    return figure


def _plain(axis: Axes) -> None:
    """Leave out what says nothing."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
