"""Learning and the commands: the only package that imports torch and lightning."""

from typing import TYPE_CHECKING

from sim2real.lazy import exports

if TYPE_CHECKING:
    from pipelines.api.arm import Deployment, Recording, deploy, record
    from pipelines.api.bench import PolicyBench, Quantization, bench_policy, quantize_policy
    from pipelines.api.benchmark import Benchmark, benchmark
    from pipelines.api.cost import CostResult, cost
    from pipelines.api.evaluate import Evaluation, evaluate
    from pipelines.api.export import export_policy
    from pipelines.api.federate import FederationResult, simulate_federation
    from pipelines.api.fleet import FleetResult, simulate_fleet
    from pipelines.api.identify import Twin, identify
    from pipelines.api.learn import TrainedPolicy, TunedPolicy, finetune, pretrain
    from pipelines.api.scaling import Scaling, scaling
    from pipelines.api.sweep import SweepResult, sweep
    from pipelines.api.transfer import Transfer, transfer

__all__ = [
    "Benchmark",
    "CostResult",
    "Deployment",
    "Evaluation",
    "FederationResult",
    "FleetResult",
    "PolicyBench",
    "Quantization",
    "Recording",
    "Scaling",
    "SweepResult",
    "TrainedPolicy",
    "Transfer",
    "TunedPolicy",
    "Twin",
    "bench_policy",
    "benchmark",
    "cost",
    "deploy",
    "evaluate",
    "export_policy",
    "finetune",
    "identify",
    "pretrain",
    "quantize_policy",
    "record",
    "scaling",
    "simulate_federation",
    "simulate_fleet",
    "sweep",
    "transfer",
]

_WHERE = {
    "CostResult": "pipelines.api.cost",
    "Benchmark": "pipelines.api.benchmark",
    "Deployment": "pipelines.api.arm",
    "Evaluation": "pipelines.api.evaluate",
    "FederationResult": "pipelines.api.federate",
    "FleetResult": "pipelines.api.fleet",
    "PolicyBench": "pipelines.api.bench",
    "Quantization": "pipelines.api.bench",
    "Recording": "pipelines.api.arm",
    "SweepResult": "pipelines.api.sweep",
    "TrainedPolicy": "pipelines.api.learn",
    "Scaling": "pipelines.api.scaling",
    "Transfer": "pipelines.api.transfer",
    "TunedPolicy": "pipelines.api.learn",
    "Twin": "pipelines.api.identify",
    "bench_policy": "pipelines.api.bench",
    "cost": "pipelines.api.cost",
    "benchmark": "pipelines.api.benchmark",
    "deploy": "pipelines.api.arm",
    "evaluate": "pipelines.api.evaluate",
    "export_policy": "pipelines.api.export",
    "finetune": "pipelines.api.learn",
    "identify": "pipelines.api.identify",
    "pretrain": "pipelines.api.learn",
    "quantize_policy": "pipelines.api.bench",
    "record": "pipelines.api.arm",
    "simulate_federation": "pipelines.api.federate",
    "simulate_fleet": "pipelines.api.fleet",
    "sweep": "pipelines.api.sweep",
    "scaling": "pipelines.api.scaling",
    "transfer": "pipelines.api.transfer",
}
"""The module of each public name, which is imported when the name is used."""

__getattr__, __dir__ = exports(__name__, _WHERE)
