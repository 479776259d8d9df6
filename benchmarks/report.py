"""From the figures of a run to Markdown: medians, ratios taken within each repeat, their spread, and the targets."""

import statistics
from typing import Any

import numpy as np
from cases import CASES, MATRIX_TARGET, OTHER_CASES, OURS, WAYS


def training_report(results: dict[str, Any]) -> str:
    """Markdown of the cases in a run's results, in a fixed order."""
    lines = [
        "# Training speed",
        "",
        "Made by `make bench`; [what is measured, and how](../../docs/performance.md).",
        "",
    ]
    sections = {"loss": _loss_section, "noise": _noise_section}
    for name in [*CASES, *OTHER_CASES]:
        if name in results:
            lines += sections[name](results[name]) if name in sections else _epoch_section(name, results[name])
    return "\n".join(lines).rstrip() + "\n"


def ratios(peer: list[float], ours: list[float]) -> list[float]:
    """How many times as long the peer took, repeat by repeat: each pair was timed one after the other."""
    return [theirs / own for theirs, own in zip(peer, ours, strict=True)]


def spread(values: list[float], digits: int = 2) -> str:
    """Median (least to most)."""
    middle, least, most = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({least} to {most})"


def seconds_to(loss: float, seconds: list[float], losses: list[float]) -> float:
    """When the curve first goes down to the loss, on a line between the ends of two epochs; NaN where it doesn't."""
    after = next((i for i, reached in enumerate(losses) if reached <= loss), None)
    if after is None:
        return float("nan")
    if after == 0:
        return seconds[0]
    return float(np.interp(-loss, [-losses[after - 1], -losses[after]], seconds[after - 1 : after + 1]))


def _heading(title: str, figures: dict[str, Any]) -> list[str]:
    libraries = {"Python": figures["python"], **figures.get("versions", {})}
    versions = ", ".join(f"{name} {version}" for name, version in libraries.items())
    where = f"{figures['date']}, {figures['processor']}, {figures['system']}, {versions}."
    return [f"## {title}", "", f"{where} Rows {figures['data']}.", ""]


def _verdict(value: float, target: float | None, unit: str = "") -> str:
    if target is None:
        return ""
    return f"{target:g}{unit}, {'reached' if value >= target else 'missed'}"


def _epoch_section(name: str, figures: dict[str, Any]) -> list[str]:
    case, seconds = CASES[name], figures["seconds"]
    lines = _heading(case.title, figures)
    lines += ["| | seconds an epoch | keras_ae is faster by | target | by the least times | start-up, s |"]
    lines += ["|---|---|---|---|---|---|"]
    for way, taken in seconds.items():
        start = figures["first"][way] - statistics.median(taken)
        faster, target, least = "", "", ""
        if way != OURS:
            pairs = ratios(taken, seconds[OURS])
            faster, target = spread(pairs), _verdict(statistics.median(pairs), case.targets.get(way))
            least = f"{min(taken) / min(seconds[OURS]):.2f}"
        cells = (WAYS[way].label, spread(taken, 3), faster, target, least, f"{max(start, 0):.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"{len(seconds[OURS])} repeats, each a call for {figures['epochs']} epoch{'s' * (figures['epochs'] > 1)}.",
    ]
    if None not in figures["others"]:
        share = spread([100 * others for others in figures["others"]], 0)
        lines.append(f"In each, other processes had {share} % of the processors.")
    lines.append("")
    if "operations" not in figures:
        return lines
    lines += ["| float32 products of these shapes | GFLOP/s |", "|---|---|"]
    lines += [f"| {library} | {spread([r / 1e9 for r in rates], 0)} |" for library, rates in figures["rates"].items()]
    best = max(figures["rates"], key=lambda library: statistics.median(figures["rates"][library]))
    alone = [figures["operations"] / rate for rate in figures["rates"][best]]
    total = figures["operations"] / 1e12
    lines += ["", f"An epoch's products are {total:.4f} TFLOP: {statistics.median(alone):.3f} s at the rate of {best}."]
    lines += ["The share of that rate that an epoch reaches, in %:", "", "| | share | target |", "|---|---|---|"]
    for way, taken in seconds.items():
        shares = [100 * share for share in ratios(alone, taken)]
        aim = _verdict(statistics.median(shares), 100 * MATRIX_TARGET, " %") if (way, name) == (OURS, "dense") else ""
        lines.append(f"| {WAYS[way].label} | {spread(shares, 0)} | {aim} |")
    return [*lines, ""]


def _loss_section(figures: dict[str, Any]) -> list[str]:
    runs, epochs = figures["runs"], figures["keras_epochs"]
    goals = [min(run["keras"]["losses"][:epochs]) for run in runs]
    lines = _heading("Time to a held-out loss, dense VAE 784-512-16", figures)
    lines += [
        f"The loss is plain Keras's best of {epochs} epochs: {spread(goals, 1)} nats a row over {len(runs)} seeds."
    ]
    lines += ["Same start, optimizer (Adam), learning rate (0.001) and batch (128).", ""]
    lines += ["| | seconds, start-up included | keras_ae is faster by | start-up left out | faster by |"]
    lines += ["|---|---|---|---|---|"]
    whole, warm = _times_to_loss(runs, goals)
    for way in whole:
        cells = [spread(whole[way], 1), "", spread(warm[way], 1), ""]
        if way != OURS:
            cells[1], cells[3] = spread(ratios(whole[way], whole[OURS])), spread(ratios(warm[way], warm[OURS]))
        lines.append(f"| {WAYS[way].label} | {' | '.join(cells)} |")
    return [*lines, ""]


def _noise_section(figures: dict[str, Any]) -> list[str]:
    lines = _heading("One draw of noise, 128 x 16, compiled by XLA", figures)
    lines += ["| | milliseconds, median (quartiles) |", "|---|---|"]
    for name, times in figures["milliseconds"].items():
        low, middle, high = statistics.quantiles(times, n=4)
        lines.append(f"| {name} | {middle:.3f} ({low:.3f} to {high:.3f}) |")
    return [*lines, ""]


def _times_to_loss(runs: list[Any], goals: list[float]) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds of each way in each run, with start-up and without: the first epoch counted as long as the next ones."""
    whole: dict[str, list[float]] = {way: [] for way in runs[0]}
    warm: dict[str, list[float]] = {way: [] for way in runs[0]}
    for run, goal in zip(runs, goals, strict=True):
        for way, curve in run.items():
            seconds, losses = curve["seconds"], curve["losses"]
            start = seconds[0] - statistics.median(np.diff(seconds))
            whole[way].append(seconds_to(goal, seconds, losses))
            warm[way].append(whole[way][-1] - max(start, 0))
    return whole, warm
