"""What a cell costs and brings over its life: the figures of an owner, for N draws at once."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.costs import finance
from pipelines.costs.cell import (
    VARIABLE,
    Costs,
    Values,
    Work,
    costs,
    saving_per_item,
    success_rate,
    teaching,
    work,
)
from pipelines.costs.units import Quantity, quantity, total

Array = NDArray[np.float64]

POINT = 0.01
"""One point of success."""


@dataclass(frozen=True)
class Economics:
    """A cell over its life, (N,) each unless said otherwise; money in USD, years from the start."""

    did: Work
    spent: Costs
    life: Array
    parts: Mapping[str, Array]
    """(N, Y + 1) USD by part and year, year 0 the start."""
    flows: Array
    """(N, Y + 1) what the saved work brings, less all costs."""
    tco: Array
    items: Array
    """Successful items over the life."""
    npv: Array
    irr: Array
    payback: Array
    cost_per_item: Array
    levelised: Array
    """USD per item, both discounted."""
    break_even: Array
    """Items over the life at which what they save pays for everything, undiscounted."""
    break_even_yearly: Array
    """Items a year at which the net present value is zero."""
    saving: Array
    """USD per item."""


def economics(x: Values, strategy: str) -> Economics:
    """Everything about a bought cell."""
    did = work(x)
    spent = costs(x, did, strategy)
    life, rate = x["life"].to("year"), x["discount"].to("share/year")
    inside = finance.year_parts(life)
    years = inside.shape[1] - 1
    ends = finance.last_year(life, years)
    parts: dict[str, Array] = {}
    start = np.eye(1, years + 1)
    for amounts, measured, when in (
        (spent.once, "USD", start),
        (spent.yearly, "USD/year", inside),
        (spent.end, "USD", ends),
    ):
        for part, amount in amounts.items():
            parts[part] = parts.get(part, 0.0) + amount.to(measured)[:, None] * when
    by_year = np.sum(list(parts.values()), axis=0)
    per_year = did.items.to("item/year")
    saving = saving_per_item(x).to("USD/item")
    flows = (saving * per_year)[:, None] * inside - by_year
    factors = finance.discount_factors(rate, years)
    annuity = (inside * factors).sum(axis=1)
    tco, items = by_year.sum(axis=1), per_year * life
    variable = sum(spent.yearly[part].to("USD/year") for part in VARIABLE)
    fixed = sum(amount.to("USD/year") for part, amount in spent.yearly.items() if part not in VARIABLE)
    once, end = total(spent.once).to("USD"), total(spent.end).to("USD")
    with np.errstate(divide="ignore", invalid="ignore"):
        margin = saving - variable / per_year
        paid = np.where(margin > 0, once + fixed * life + end, np.inf) / np.where(margin > 0, margin, 1.0)
        paid_yearly = np.where(
            margin > 0, once + fixed * annuity + end * (ends * factors).sum(axis=1), np.inf
        ) / np.where(margin > 0, margin * annuity, 1.0)
        cost_per_item = tco / items
        levelised = (by_year * factors).sum(axis=1) / (per_year * annuity)
    return Economics(
        did=did,
        spent=spent,
        life=life,
        parts=parts,
        flows=flows,
        tco=tco,
        items=items,
        npv=finance.present_value(flows, rate),
        irr=finance.internal_rate(flows),
        payback=finance.payback(flows),
        cost_per_item=cost_per_item,
        levelised=levelised,
        break_even=np.maximum(paid, 0.0),
        break_even_yearly=np.maximum(paid_yearly, 0.0),
        saving=saving,
    )


def net_present_value(x: Values, strategy: str, *, rented: bool = False) -> Array:
    """(N,) USD, what `economics` gives, without its parts: many times faster."""
    return _worth(x, strategy, rented)[0]


def worth_and_cost(x: Values, strategy: str) -> tuple[Array, Array]:
    """(N,) net present value and total cost of ownership, USD."""
    return _worth(x, strategy, False)


def _worth(x: Values, strategy: str, rented: bool) -> tuple[Array, Array]:
    did = work(x)
    spent = costs(x, did, strategy, rented=rented)
    life, rate = np.atleast_1d(x["life"].to("year")), np.atleast_1d(x["discount"].to("share/year"))
    once, yearly = total(spent.once).to("USD"), total(spent.yearly).to("USD/year")
    end = total(spent.end).to("USD") if spent.end else 0.0
    saving = (saving_per_item(x) * did.items).to("USD/year")
    annuity, last = _annuity(life, rate)
    return -once + (saving - yearly) * annuity - end * last, once + yearly * life + end


def _annuity(life: Array, rate: Array) -> tuple[Array, Array]:
    """(N,) the present value of one dollar a year over the lives, and of one at their end."""
    inside = finance.year_parts(life)
    years = inside.shape[1] - 1
    factors = finance.discount_factors(rate, years)
    return (inside * factors).sum(axis=1), (finance.last_year(life, years) * factors).sum(axis=1)


def with_success(x: Values, success: Array | float) -> Values:
    """The same cell with another success in daily work."""
    return {**x, "success": quantity(success), "success_loss": quantity(0.0)}


def point_of_success(x: Values, strategy: str) -> Array:
    """(N,) USD of net present value that one more point of success brings (one less, where there is none above)."""
    found = success_rate(x).value
    above = np.minimum(found + POINT, 1.0)
    more, less = (with_success(x, value) for value in (above, above - POINT))
    return net_present_value(more, strategy) - net_present_value(less, strategy)


def cost_per_task(x: Values, strategy: str) -> Array:
    """(N,) USD."""
    return total(teaching(x, strategy)).to("USD/task")


def more_demonstrations(x: Values, strategy: str, batches: int) -> Array:
    """(N,) USD that `batches` more batches of demonstrations of every task bring in net present value, less what they
    cost. Failures fall towards their floor as a power of the number of demonstrations."""
    per_task = x["demos"] / (x["demos_factor"] if strategy != "demonstrations" else 1.0)
    if strategy == "fleet":
        effort = x["fleet_equivalent"] * x["fleet_attention"]
    else:
        effort = x["demo_time"]
    added = x["batch"] * float(batches)
    ratio = ((per_task + added) / per_task).value
    failed, floor = 1.0 - success_rate(x).value, x["failure_floor"].value
    failed = np.minimum(failed, floor + (failed - floor) * ratio ** -x["learning_exponent"].value)
    price = (added * effort * x["wage"] + x["training_hours"] * x["compute"] * float(batches)) * x["tasks"]
    better = net_present_value(with_success(x, 1.0 - failed), strategy)
    return better - net_present_value(x, strategy) - price.to("USD")


def with_robots(x: Values, robots: int) -> Values:
    """The same cell with another number of robots."""
    return {**x, "robots": Quantity(np.asarray(float(robots)), x["robots"].powers)}
