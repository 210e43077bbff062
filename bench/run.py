"""Measure Cardfile beside its peers, or without its tricks for speed, and write bench/RESULTS.md."""

import argparse
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.compare import choose_tricks, compare_ablations, compare_peers
from bench.growth import measure_growth
from bench.load import measure_load
from bench.measure import Plan, seed_database
from bench.peers import ROOT, WORKLOADS
from bench.report import (
    Sections,
    describe_ablations,
    describe_comparison,
    describe_size,
    finding_table,
    join_sections,
    write_results,
)
from bench.size import measure_size
from bench.webhooks import measure_webhooks

RESULTS = ROOT / "bench" / "RESULTS.md"
FULL = Plan(rounds=5, seconds=4, workloads=WORKLOADS, large=100_000, largest=200_000)
QUICK = Plan(rounds=2, seconds=1, workloads=WORKLOADS, largest=20_000)


def main() -> None:
    """Measure and print the tables; write them to the results where nothing is left out."""
    arguments = parse_arguments()
    plan = make_plan(arguments)
    tricks = choose_tricks(arguments.ablate) if arguments.ablate else []
    if not shutil.which("wrk"):
        raise SystemExit("This needs wrk: apt-get install wrk.")
    with TemporaryDirectory() as folder:
        sections = measure(Path(folder), plan, tricks)
    print(join_sections(sections))
    is_complete = plan == FULL and arguments.ablate in {None, "all"}
    output = arguments.output or (RESULTS if is_complete else None)
    if output:
        write_results(output, sections)


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(prog="bench.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds of 1 s, and smaller databases")
    parser.add_argument("--ablate", metavar="NAME", help="measure Cardfile without this trick for speed, or each: all")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=int, help="of each workload and server in a round")
    parser.add_argument("--workload", action="append", choices=WORKLOADS, help="only this one; may be repeated")
    parser.add_argument("--output", type=Path, help="write the results to this file instead of bench/RESULTS.md")
    return parser.parse_args()


def make_plan(arguments: argparse.Namespace) -> Plan:
    """Return the plan that the arguments describe."""
    plan = QUICK if arguments.quick else FULL
    return plan._replace(
        rounds=arguments.rounds or plan.rounds,
        seconds=arguments.seconds or plan.seconds,
        workloads=tuple(arguments.workload or plan.workloads),
    )


def measure(folder: Path, plan: Plan, tricks: list[str]) -> Sections:
    """Return the results: of the tricks where some are named, else of the comparison with the peers and the growth."""
    database = seed_database(folder / "source", plan.companies)
    if tricks:
        return describe_ablations(compare_ablations(folder, database, plan, tricks), plan, tricks)
    comparison = compare_peers(folder, database, plan)
    sections = describe_comparison(comparison, measure_growth(folder, database, plan), plan)
    sections["Load"] = finding_table(measure_load(folder, database, plan))
    sections["Webhooks"] = finding_table(measure_webhooks(folder, database, plan))
    sources = [database.path, *(folder / "large-source").glob("cardfile.db")]
    return sections | describe_size([measure_size(folder / f"size-{each.parent.name}", each) for each in sources])


if __name__ == "__main__":
    main()
