"""The report of a simulated federation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.page import Section
from pipelines.reports import figures as draw
from sim2real.errors import UserError
from sim2real.files import read_json


def sections(directory: Path) -> list[Section]:
    """The report of a run of `sim2real federate simulate`. Raises UserError for one that is not finished."""
    if not (directory / "result.json").exists():
        raise UserError(f"the federation in {directory} is not finished; the command that began it goes on")
    a = read_json(directory / "result.json")
    return [_found(a), _rounds(a), _clients(a)]


def _found(a: Mapping[str, Any]) -> Section:
    section = Section("What learning together gives")
    ways = (("alone", a["alone"]), ("federated", a), ("pooled", a["pooled"]))
    section.tiles(
        [
            *((f"{row['success_rate']:.0%}", "", f"success, {name}") for name, row in ways),
            (f"{a['bytes_per_client_round'] / 1e3:,.0f}", "kB", "of a client in a round"),
        ]
    )
    section.text(
        f"{a['clients']} clients, {a['rounds']} rounds of {a['strategy']} with the codec {a['codec']}; "
        f"what is personal: {a['personal']}. Every figure is of the same {a['alone']['episodes']} episodes: each "
        "client's own arm, camera and objects, every region of the task as often."
    )
    section.table(
        [
            {
                "data": name,
                "success": f"{row['success_rate']:.1%}",
                "95 %": f"{row['interval_95'][0]:.0%} … {row['interval_95'][1]:.0%}",
                "where each works most": "–" if row["own_share"] is None else f"{row['own_share']:.1%}",
            }
            for name, row in ways
        ]
    )
    return section


def _rounds(a: Mapping[str, Any]) -> Section:
    section = Section("Rounds", anchor="rounds")
    rows = a["history"]
    numbers = np.array([row["round"] for row in rows])
    losses = [np.nan if row["loss"] is None else row["loss"] for row in rows]
    section.figure(
        draw.lines(numbers, [("", losses)], x_label="round", y_label="loss of the clients", height=2.2),
        "Loss by round",
        "Mean over the updates that came in a round.",
    )
    section.table(
        [
            {
                "round": row["round"],
                "s": f"{row['seconds']:.0f}",
                "deadline, s": f"{row['deadline_s']:.0f}",
                "began": row["started"],
                "came": row["arrived"],
                "of them late": row["late"],
                "died": row["dead"],
                "refused": "; ".join(f"{n} × {why}" for why, n in row["refused"].items()),
                "counted": "too few" if row["void"] else row["counted"],
                "kB": f"{(row['up'] + row['down']) / 1e3:,.0f}",
            }
            for row in rows
        ],
        folded="all rounds",
    )
    return section


def _clients(a: Mapping[str, Any]) -> Section:
    section = Section("Clients", anchor="clients")
    section.text(f"Regions are equal parts of the range of {a['split']}.", "note")
    of = a["alone"]["episodes"] // a["clients"]
    section.table(
        [
            {
                "client": k,
                **{f"region {j + 1}": f"{share:.0%}" for j, share in enumerate(a["shares"][k])},
                "examples": a["examples"][k],
                **{
                    name: f"{row['successes'][k]} of {of}"
                    for name, row in (("alone", a["alone"]), ("federated", a), ("pooled", a["pooled"]))
                },
                "": "sent what is wrong" if k in a["liars"] else "",
            }
            for k in range(a["clients"])
        ]
    )
    return section
