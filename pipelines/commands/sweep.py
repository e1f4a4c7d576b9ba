"""`sim2real sweep`: run a task under many draws of the parameters and see what breaks it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.commands._options import add, follow_instruction

if TYPE_CHECKING:
    from pipelines.api.sweep import SweepResult

_FIRST_FAILED = -1

SUMMARY = "run a task under many draws of the parameters and see what breaks it"
GROUP = "in simulation"
COMPILES = True
HELP = (
    "Run a task under many draws of the simulation's parameters, in parallel, and say how often it succeeds, "
    "which parameters decide that, and which draws fail. The same command in the same --out continues an "
    "interrupted sweep; with more --draws it enlarges a finished one. Writes results.parquet, summary.json and "
    "report.html."
)
EXAMPLES = """  sim2real sweep --task lift --draws 256 --out runs/sweep                     # the expert, default ranges
  sim2real sweep --task lift --draws 512 --policy runs/lift/policy.onnx --out runs/policy
  sim2real sweep --task push --draws 512 --param object.cube.friction=0.1:2 --param 'servo.*.kp=x0.5:x1.5' --out runs/p
  sim2real sweep --task lift --draws 500 --base task --design grid \\
      --param object.cube.mass=0.01:0.2 --param object.cube.friction=0.1:1 --out runs/map   # a map of two parameters
  sim2real sweep --task lift --policy runs/tuned/policy.onnx --against runs/policy --out runs/b  # paired, same draws
  sim2real sweep --replay 17 --out runs/sweep                                   # video and plots of one draw
  sim2real sweep --explain --out runs/sweep    # the smallest change from nominal that makes the first failed draw fail
  sim2real sweep --explain 17 --out runs/sweep                                  # … that makes draw 17 fail

settings of --param: NAME=LO:HI (uniform), NAME=VALUE (fixed), NAME=xLO:xHI (factors of the nominal value),
NAME=+LO:+HI (added to it); NAME may hold wildcards; `sim2real parameters` lists the names."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "task", draws="episodes (256, or as many as --against has)", policy={"default": "expert"})
    add(parser, "instruction")
    add(parser, "robot", space="what varies and how (default: every declared range)")
    parser.add_argument(
        "--base",
        choices=("default", "task", "nominal"),
        help="what varies besides --space and --param: default ranges, only where the task starts, or nothing",
    )
    add(parser, "object", param="one range more; may be repeated")
    add(parser, "twin", "cameras", seed="which draws (%(default)s)")
    parser.add_argument(
        "--design",
        default="sobol",
        choices=("sobol", "independent", "lhs", "oat", "grid", "saltelli"),
        help="how draws fill the space (%(default)s); grid crosses the parameters of --param",
    )
    parser.add_argument(
        "--levels", type=int, default=5, metavar="L", help="values per parameter of a grid (%(default)s)"
    )
    add(parser, "sees", "workers")
    parser.add_argument(
        "--engine",
        default="local",
        choices=("local", "ray"),
        help="this machine, or the cluster that RAY_ADDRESS names",
    )
    parser.add_argument(
        "--against", metavar="DIR", help="a finished sweep: same task and draws, paired comparison with it"
    )
    parser.add_argument(
        "--replay", type=int, metavar="ROW", help="run one draw of --out again: video and joint plots"
    )
    parser.add_argument(
        "--explain",
        type=int,
        nargs="?",
        const=_FIRST_FAILED,
        metavar="ROW",
        help="strip a failed draw, the first where none is named, to the smallest change that still fails",
    )
    add(parser, out="where the sweep lives")
    add(parser, "json")


def run(args: argparse.Namespace) -> int:
    follow_instruction(args)
    import json

    out = Path(args.out)
    if args.replay is not None:
        from pipelines.reports.draw import write_draw_report
        from pipelines.reports.report import write_report
        from pipelines.sweeps.replay_draw import replay_draw

        replayed = replay_draw(out, args.replay, trusted_task=args.task, trusted_policy=args.policy)
        answer = replayed.to_dict() | {"report": str(write_draw_report(replayed))}
        write_report([out])  # it links to what has been looked at
        text = f"draw {answer['index']}: {answer['outcome']}; {answer['report']}"
    elif args.explain is not None:
        answer, text = _explain(out, args)
    else:
        result = _sweep(args, out)
        answer = dict(result.summary) | {"report": str(result.report), "failed": list(result.failed)}
        text = str(result)
    print(json.dumps(answer) if args.json else text)
    return 0


def _explain(out: Path, args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from pipelines.reports.report import write_report
    from pipelines.sweeps.explain import explain_draw

    wanted = None if args.explain == _FIRST_FAILED else args.explain
    answer = explain_draw(out, wanted, trusted_task=args.task, trusted_policy=args.policy)
    index = answer["index"]
    write_report([out])
    if not answer["changes"]:
        return (
            answer,
            f"draw {index} fails at nominal parameters too, from where its task starts ({answer['failure']})",
        )
    lines = [f"draw {index} still fails ({answer['failure']}) when only this differs from nominal:"]
    for name, change in answer["changes"].items():
        unit = answer["units"][name]
        lines.append(
            f"  {name}: {change['nominal']:.4g} → {change['value']:.4g} {unit if unit != '1' else ''}".rstrip()
        )
    return answer, "\n".join([*lines, f"found in {answer['trials']} episodes; written to {answer['path']}"])


def _sweep(args: argparse.Namespace, out: Path) -> "SweepResult":
    from pipelines.api.sweep import run_plan

    plan = _plan_against(args) if args.against else _plan(args)
    return run_plan(plan, out, workers=args.workers, engine=args.engine, against=args.against)


def _plan(args: argparse.Namespace) -> Any:
    from dataclasses import replace

    from pipelines.sweeps.simulated import plan_from
    from randomization.space import Space, parse_setting

    plan = plan_from(args, draws=256 if args.draws is None else args.draws)
    space = plan.space
    if args.base is not None:
        space = Space(space.variations, args.base, space.correlations)
    gridded = tuple(parse_setting(text)[0] for text in args.param)
    space = space.with_parameters(args.param)
    return replace(plan, space=space, design=args.design, levels=args.levels, gridded=gridded)


def _plan_against(args: argparse.Namespace) -> Any:
    from dataclasses import replace

    from pipelines.sweeps.plan import check_policy, plan_of
    from randomization.designs import load_design
    from sim2real.errors import UserError

    own = args.task is not None and ":" in args.task  # must be named again, see `refuse_code`
    names = (*(() if own else ("task",)), "object", "space", "base", "twin", "cameras", "param")
    given = [f"--{name}" for name in names if getattr(args, name)]
    if given:
        raise UserError(
            f"--against takes task and draws from the sweep in {args.against}; leave out {', '.join(given)}"
        )
    plan = replace(
        plan_of(Path(args.against), task=args.task),
        policy=args.policy,
        privileged=None if args.sees is None else args.sees == "truth",
    )
    check_policy(plan)
    if args.draws is None or args.draws == plan.draws:
        return plan
    if not load_design(plan.design).prefix_stable:
        raise UserError(
            f"the draws of the design {plan.design} are others when there are more or fewer of them, and "
            f"{args.against} has {plan.draws}; leave out --draws"
        )
    return replace(plan, draws=args.draws)
