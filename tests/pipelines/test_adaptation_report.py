"""The report of a fine-tuning answers what it did, from the metrics that a run leaves."""

from pipelines.learning.comparing import paired
from pipelines.reports.adaptation import adaptation


def test_it_says_what_changed_where_and_what_moved() -> None:
    before = {"draws": 20, "failures": list(range(10)), "success_rate": 0.5}
    after = {"draws": 20, "failures": [1], "success_rate": 0.95}
    metrics = {
        "simulation": paired(before, after),
        "forgetting": paired(after, after),
        "mix": {"chosen": 0.25, "by": "held-out recorded episodes"},
        "identified": {
            "found": True,
            "moved": [
                {
                    "parameter": "servo.gripper.offset",
                    "nominal": 0.0,
                    "found": -0.14,
                    "low": -0.17,
                    "high": -0.1,
                }
            ],
            "remarks": ["its zero is off"],
        },
        "recorded": {"episode_error_deg": {"0": 1.0, "7": 9.0}, "look_wrong": [7]},
        "episodes_curve": [
            {"episodes": 0, "tuned": {"success": before}, "scratch": None},
            {"episodes": 5, "tuned": {"success": after}, "scratch": {"success": before}},
        ],
    }
    section = adaptation(metrics)
    assert section is not None
    text = "".join(section.blocks)
    for wanted in (
        "50.0% → 95.0% (+45.0 points",
        "95.0% → 95.0% (+0.0 points",
        "25%, by held-out recorded episodes",
        "servo.gripper.offset",
        "-0.14",
        "its zero is off",
        "2 episodes, 1 of which look wrong",
        "from scratch",
    ):
        assert wanted in text
    assert adaptation({"curve": []}) is None


def test_it_says_which_tasks_were_taught_and_what_became_of_the_old_ones() -> None:
    before = {"draws": 40, "failures": list(range(2, 40)), "success_rate": 0.05, "per_task": {"own": [2, 40]}}
    after = {"draws": 40, "failures": [1], "success_rate": 0.975, "per_task": {"own": [39, 40]}}
    section = adaptation(
        {
            "tasks": ["own"],
            "simulation": paired(before, after),
            "forgetting": paired(after, before),
            "forgotten": True,
        }
    )
    assert section is not None
    text = "".join(section.blocks)
    for wanted in ("the new tasks", "39 of 40", "forgotten some of what it could: a sample of the old tasks"):
        assert wanted in text
    assert "default space" not in text
