"""What a sweep costs: draws of `lift` with its expert, then the analysis and the report.

python benchmarks/sweep.py [--draws 1024] [--workers 2]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.reports.report import write_report
from pipelines.sweeps.plan import conclude


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", default="lift")
    parser.add_argument("--draws", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "sweep"
        command = [
            sys.executable,
            "-m",
            "pipelines",
            "sweep",
            "--task",
            args.task,
            "--draws",
            str(args.draws),
        ]
        begin = time.perf_counter()
        result = subprocess.run(
            [*command, "--workers", str(args.workers), "--out", str(out), "--json"],
            stdout=subprocess.PIPE,
            check=True,
        )
        seconds = time.perf_counter() - begin
        answer = json.loads(result.stdout)
        low, high = answer["wilson_95"]
        print(
            f"{args.draws} draws of {args.task} in {args.workers} workers: {seconds:.1f} s with start, analysis and "
            f"report; success {answer['success_rate']:.1%} [{low:.1%}, {high:.1%}]"
        )
        begin = time.perf_counter()
        conclude(out)
        middle = time.perf_counter()
        write_report([out])
        end = time.perf_counter()
        print(f"analysis {middle - begin:.1f} s, report with its own analysis {end - middle:.1f} s")


if __name__ == "__main__":
    main()
