"""The page of one robot: joints, cameras, supervisor, gate's interventions, emergency stop. Of one that is looked at
live, and of one that a fleet's hub knows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from pipelines.page import CSS, Section

STATES: Mapping[str, str] = {
    "running": "good",
    "degraded": "warn",
    "retreating": "warn",
    "fault_hold": "bad",
    "limp_fault": "bad",
    "estop": "bad",
    "lost": "bad",
}
"""What a supervisor's state means at a glance; those that are not named are neutral."""

LIVE_CSS = """
:root { --warn: #b07514; }
.state { display: inline-block; padding: .1rem .7rem; border-radius: 99px; background: #e9edf1; font-weight: 600; }
.state.good { background: #e2f0e7; color: var(--good); } .state.bad { background: #f7e5e0; color: var(--bad); }
.state.warn { background: #f8eedb; color: var(--warn); }
.joints td { vertical-align: middle; } .joints svg { display: block; }
.stop button { font: 650 1.05rem/1 inherit; font-family: inherit; color: #fff; background: #b5281f; border: 0;
  border-radius: 8px; padding: .9rem 1.6rem; cursor: pointer; } .stop button:disabled { background: #b9c1c9; }
.stop { display: flex; gap: 1.2rem; align-items: center; flex-wrap: wrap; margin: 1rem 0; } .stop p { margin: 0; }
.cameras { display: flex; flex-wrap: wrap; gap: 1rem; } .cameras img { max-width: 100%; width: 30rem; height: auto;
  border-radius: 6px; background: #e9edf1; display: block; }
.stale { opacity: .45; } .gone { background: #f7e5e0; color: var(--bad); padding: .6rem 1rem; border-radius: 8px; }
.gone[hidden] { display: none; }
.chips { display: flex; flex-wrap: wrap; gap: .35rem; } .chips a { text-decoration: none; color: inherit; }
a { color: var(--accent); }
"""


@dataclass(frozen=True)
class JointState:
    """One joint as it is shown: rad (m where it slides), load as a share of full duty, °C. None: not known."""

    name: str
    position: float
    lower: float
    upper: float
    executed: float | None = None
    requested: float | None = None
    load: float | None = None
    temperature: float | None = None
    slides: bool = False


@dataclass(frozen=True)
class RobotState:
    """One robot as it is now. age: seconds since this was so. interventions: what the gate did, by name."""

    name: str
    state: str
    fault: str = ""
    joints: Sequence[JointState] = ()
    interventions: Mapping[str, int] = field(default_factory=dict)
    clipped: int = 0
    rejected: int = 0
    age: float = 0.0


def live(robot: RobotState) -> str:
    """The part of the page that changes, as HTML."""
    status = Section("")
    kind = STATES.get(robot.state, "")
    status.blocks.append(
        f'<p><span class="state {kind}">{escape(robot.state.replace("_", " "))}</span>'
        + (f' <span class="bad">{escape(robot.fault.replace("_", " "))}</span>' if robot.fault else "")
        + (f' <span class="note">as of {robot.age:.0f} s ago</span>' if robot.age > 2 else "")
        + "</p>"
    )
    joints = Section("Joints")
    joints.blocks.append(_joints(robot.joints))
    joints.text(
        "● where the joint is, │ the goal that was sent, ┆ the goal that the policy asked for.", "note"
    )
    gate = Section("What the gate did")
    gate.tiles(
        [(f"{robot.clipped:,}", "", "commands changed"), (f"{robot.rejected:,}", "", "commands refused")]
    )
    rows = [
        {"reason": name.replace("_", " "), "cycles": count}
        for name, count in sorted(robot.interventions.items(), key=lambda item: -item[1])
        if count
    ]
    if rows:
        gate.table(rows)
    else:
        gate.text("Nothing had to be changed so far.", "note")
    return status.html() + joints.html() + gate.html()


def robot_page(
    robot: RobotState,
    *,
    cameras: Sequence[str] = (),
    stop: str = "",
    token: str = "",
    nonce: str = "",
    lead: str = "",
) -> str:
    """The whole page. stop: where its button goes, with `token`; nonce: of the script that keeps it up to date.

    Without JavaScript the page loads itself anew, once a second.
    """
    button = ""
    if stop:
        pressed = " disabled" if "estop" in (robot.state, robot.fault) else ""
        button = (
            f'<form class="stop" method="post" action="{escape(stop)}">'
            f'<input type="hidden" name="token" value="{escape(token)}">'
            f"<button{pressed}>Emergency stop</button>"
            '<p class="note">The arm brakes as hard as its limits allow, and holds. This is software: it is no '
            "substitute for a switch in the power supply.</p></form>"
        )
    pictures = ""
    if cameras:
        section = Section("Cameras")
        section.blocks.append(
            '<div class="cameras">'
            + "".join(
                f'<figure><img src="/camera/{i}.jpg" alt="camera {escape(name)}" data-camera="{i}">'
                f"<figcaption>{escape(name)}</figcaption></figure>"
                for i, name in enumerate(cameras)
            )
            + "</div>"
        )
        pictures = section.html()
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(robot.name)}</title><link rel="icon" href="data:,"><style>{CSS}{LIVE_CSS}</style>'
        '<noscript><meta http-equiv="refresh" content="1"></noscript></head><body><main>'
        f'<header><h1>{escape(robot.name)}</h1><p class="lead">{escape(lead)}</p></header>'
        '<p class="gone" id="gone" hidden>No answer: the run has ended, or its view has.</p>'
        f'{button}<div id="live">{live(robot)}</div>{pictures}</main>'
        + (f'<script nonce="{nonce}">{SCRIPT}</script>' if nonce else "")
        + "</body></html>\n"
    )


SCRIPT = """
"use strict";
const part = document.getElementById("live"), gone = document.getElementById("gone");
const button = document.querySelector(".stop button");
async function refresh() {
  try {
    const answer = await fetch("/live");
    if (!answer.ok) throw new Error(answer.status);
    part.innerHTML = await answer.text();
    gone.hidden = true; part.classList.remove("stale");
    if (button) button.disabled = answer.headers.get("X-Stopped") === "True";
  } catch (error) { gone.hidden = false; part.classList.add("stale"); }
  setTimeout(refresh, 250);
}
setTimeout(refresh, 250);
for (const image of document.querySelectorAll("img[data-camera]")) {
  const next = () => { image.src = "/camera/" + image.dataset.camera + ".jpg?" + Date.now(); };
  image.addEventListener("load", () => setTimeout(next, 150));
  image.addEventListener("error", () => setTimeout(next, 1000));
}
"""


def _joints(joints: Sequence[JointState]) -> str:
    if not joints:
        return '<p class="note">Nothing has been read from the arm yet.</p>'
    rows = "".join(
        f"<tr><td>{escape(joint.name)}</td><td>{_track(joint)}</td><td class='number'>{_reading(joint)}</td>"
        f"<td class='number'>{'–' if joint.load is None else f'{joint.load:+.0%}'}</td>"
        f"<td class='number'>{'–' if joint.temperature is None else f'{joint.temperature:.0f} °C'}</td></tr>"
        for joint in joints
    )
    return (
        '<div class="table joints"><table><tr><th>joint</th><th>within its limits</th>'
        f"<th class='number'>position</th><th class='number'>load</th><th class='number'>heat</th></tr>{rows}"
        "</table></div>"
    )


def _reading(joint: JointState) -> str:
    return f"{1000 * joint.position:.1f} mm" if joint.slides else f"{57.29577951 * joint.position:.1f}°"


def _track(joint: JointState, width: int = 300) -> str:
    """A joint's range as a line, with where it is and where it is to go."""

    def x(value: float) -> float:
        share = (value - joint.lower) / max(joint.upper - joint.lower, 1e-9)
        return 8 + (width - 16) * min(max(share, 0.0), 1.0)

    marks = ""
    if joint.requested is not None:
        marks += (
            f'<line x1="{x(joint.requested):.1f}" x2="{x(joint.requested):.1f}" y1="2" y2="20" stroke="#d98e32" '
            'stroke-width="2" stroke-dasharray="3 2"/>'
        )
    if joint.executed is not None:
        marks += (
            f'<line x1="{x(joint.executed):.1f}" x2="{x(joint.executed):.1f}" y1="3" y2="19" stroke="#1d2733" '
            'stroke-width="2"/>'
        )
    return (
        f'<svg width="{width}" height="22" role="img" aria-label="{escape(joint.name)} {_reading(joint)}">'
        f'<line x1="8" x2="{width - 8}" y1="11" y2="11" stroke="#dbe1e7" stroke-width="6" stroke-linecap="round"/>'
        f'{marks}<circle cx="{x(joint.position):.1f}" cy="11" r="5.5" fill="#1f6f8b"/></svg>'
    )
