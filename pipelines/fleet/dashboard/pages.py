"""The pages of a fleet's dashboard, from its registry: HTML out, nothing served here."""

import time
import urllib.parse
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from pipelines.fleet.registry.records import EpisodeRecord
from pipelines.fleet.registry.registry import Registry
from pipelines.fleet.status import OFFLINE_AFTER, status
from pipelines.page import Section, page
from pipelines.robot_page import LIVE_CSS, STATES
from sim2real.statistics import wilson_interval

REFRESH = 10
"""Seconds after which a page loads itself anew."""

NEWEST = 50
"""Episodes of one list."""

EXTRA_CSS = """
.map { display: flex; flex-wrap: wrap; gap: 1.2rem 2rem; } .map h3 { margin: 0 0 .4rem; }
.robots { display: flex; flex-wrap: wrap; gap: .35rem; max-width: 46rem; }
.robots a { text-decoration: none; font-size: .82rem; padding: .22rem .6rem; border-radius: 6px; background: #e9edf1;
  color: var(--ink); border: 1px solid transparent; } .robots a.good { background: #e2f0e7; color: var(--good); }
.robots a.bad { background: #f7e5e0; color: var(--bad); } .robots a.warn { background: #f8eedb; color: var(--warn); }
.robots a.away { background: #fff; color: var(--soft); border-color: var(--line); }
.robots a.candidate { border-color: var(--accent); box-shadow: inset 0 0 0 1px var(--accent); }
td svg { display: block; } video { max-width: 100%; border-radius: 6px; background: #000; }
.note b { font-weight: 560; color: var(--ink); }
"""


def overview(registry: Registry, now: float | None = None) -> str:
    """The first page: who is where and how, success with intervals, rollouts under way, newest episodes."""
    answer = status(registry, now)
    return _page(
        "Fleet",
        f"{len(answer['robots'])} robots, {sum(robot['online'] for robot in answer['robots'])} online; "
        f"{answer['episodes']:,} episodes.",
        [
            _map(answer),
            *_rollouts_under_way(registry, answer),
            _policies(answer),
            _sites(registry),
            _robots(answer),
            _episodes(registry, newest(registry)),
            _audit(answer),
        ],
    )


def newest(registry: Registry, robot: str | None = None, policy: str | None = None) -> list[EpisodeRecord]:
    """The newest episodes first."""
    last = registry.last_episode()
    # Ids grow with arrival, so the newest are near the end; of one robot they may be farther back.
    after = max(0, last - NEWEST) if robot is None and policy is None else 0
    return registry.episodes(robot=robot, policy=policy, after=after)[-NEWEST:][::-1]


def _map(answer: Mapping[str, Any]) -> Section:
    section = Section("Robots by site and state", anchor="robots", link="Robots")
    stable = answer["aliases"].get("stable")
    sites: dict[str, list[str]] = {}
    for robot in answer["robots"]:
        kind = STATES.get(robot["state"], "") if robot["online"] else "away"
        if robot["wanted"] not in (None, stable):
            kind += " candidate"
        said = f"{robot['name']}: {robot['state']}" + ("" if robot["online"] else f", {_seen(robot)}")
        sites.setdefault(robot["site"] or "no site told", []).append(
            f'<a class="{kind}" href="/robot/{_url(robot["name"])}" title="{escape(said)}">{escape(robot["name"])}</a>'
        )
    if not sites:
        section.text("No robot is enrolled yet: sim2real fleet enroll NAME", "note")
        return section
    section.blocks.append(
        '<div class="map">'
        + "".join(
            f'<div><h3>{escape(site)}</h3><div class="robots">{"".join(robots)}</div></div>'
            for site, robots in sorted(sites.items())
        )
        + "</div>"
    )
    counts: dict[str, int] = {}
    for robot in answer["robots"]:
        counts[robot["state"]] = counts.get(robot["state"], 0) + 1
    section.text(
        ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in sorted(counts.items()))
        + ". White: not heard for 10 s, which is no failure; framed: has a candidate.",
        "note",
    )
    return section


def _rollouts_under_way(registry: Registry, answer: Mapping[str, Any]) -> list[Section]:
    found = []
    for row in answer["rollouts"][:3]:
        record = registry.rollout(row["id"])
        section = Section(
            f"Rollout {record.id}: {record.state}", anchor=f"rollout-{record.id}", link="Rollout"
        )
        _stages(section, record.progress, record.plan)
        section.blocks.append(f'<p><a href="/rollout/{record.id}">More about this rollout</a></p>')
        found.append(section)
        if record.state not in ("running", "waiting"):
            break
    return found


def _stages(section: Section, progress: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
    if not progress:
        section.text("Nobody has looked at it yet; the hub does, every few seconds.", "note")
        return
    if progress.get("reason"):
        section.text(progress["reason"])
    rows = []
    for i, size in enumerate(progress["sizes"]):
        stage = progress["stages"][i] if i < len(progress["stages"]) else None
        whole = stage["groups"]["all"] if stage else None
        now = " (now)" if progress["stage"] == i else ""
        rows.append(
            {
                "stage": f"{i + 1}{now}",
                "robots": size,
                "verdict": stage["verdict"] if stage else "not begun",
                "candidate": _rate(whole["candidate"]) if whole else "",
                "stable, beside it": _rate(whole["stable"]) if whole else "",
            }
        )
    section.table(rows)
    if progress["stage"] is not None and (missing := progress["stages"][-1]["reason"]):
        section.text(f"Stage {len(progress['stages'])}: {missing}.")
    curve = progress["stages"][-1]["curve"] if progress["stages"] else []
    if len(curve) > 1:
        section.blocks.append(_curve(curve))
        section.text(
            f"The test of stage {len(progress['stages'])}, looked at after every episode: evidence that the candidate "
            "is not worse (blue; at the upper line it is decided, if every group agrees), and that it is worse "
            "(red; at the upper line the rollout has failed).",
            "note",
        )


def _curve(curve: Sequence[Sequence[float]], width: int = 640, height: int = 190) -> str:
    """The test's two curves over episodes, as an inline SVG; 1 is decided."""
    left, bottom, top = 46, 28, 10
    last = max(curve[-1][0], 1)
    low = min(-1.0, min(min(point[1], point[2]) for point in curve))
    low = max(low, -3.0)
    high = max(1.15, max(point[1] for point in curve) * 1.05, max(point[2] for point in curve) * 1.05)

    def x(episodes: float) -> float:
        return left + (width - left - 8) * episodes / last

    def y(value: float) -> float:
        return top + (height - top - bottom) * (high - max(value, low)) / (high - low)

    def line(at: int, color: str) -> str:
        points = " ".join(f"{x(point[0]):.1f},{y(point[at]):.1f}" for point in curve)
        return f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.8"/>'

    ticks = "".join(
        f'<text x="{x(value):.0f}" y="{height - 10}" text-anchor="middle">{value:.0f}</text>'
        for value in (0, last / 2, last)
    )
    bars = "".join(
        f'<line x1="{left}" x2="{width - 8}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="{color}" '
        f'stroke-dasharray="{dash}"/><text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{label}</text>'
        for value, label, color, dash in ((1, "decided", "#5b6773", "4 3"), (0, "0", "#e3e7ec", "none"))
    )
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" width="{width}" style="max-width:100%" role="img" '
        'aria-label="evidence over episodes" font-size="11" fill="#5b6773">'
        f"{bars}{ticks}{line(1, '#1f6f8b')}{line(2, '#b5482f')}</svg>"
        "<figcaption>Episodes with the candidate in this stage.</figcaption></figure>"
    )


def _policies(answer: Mapping[str, Any]) -> Section:
    rows = [
        (
            f'<a href="/policy/{policy["digest"]}">{escape(policy["name"])}</a> '
            + "".join(f'<span class="state">{escape(alias)}</span> ' for alias in policy["aliases"]),
            policy["successes"],
            policy["judged"],
            f"{policy['interventions']}",
            f"{policy['safety_events']}",
        )
        for policy in answer["policies"]
    ]
    return _success_by("policy", rows, "policies", "Policies", "None is published yet.")


def _sites(registry: Registry) -> Section:
    rows = [
        (escape(name or "no site told"), row[2], row[1], f"{row[3]}", f"{row[4]}")
        for name, row in sorted(registry.counts_by("site").items())
    ]
    return _success_by("site", rows, "sites", "Sites", "No episodes yet.")


def _robots(answer: Mapping[str, Any]) -> Section:
    rows = [
        (
            f'<a href="/robot/{_url(robot["name"])}">{escape(robot["name"])}</a>',
            robot["successes"],
            robot["judged"],
            f"{robot['interventions']}",
            f"{robot['safety_events']}",
        )
        for robot in answer["robots"]
    ]
    return _success_by("robot", rows, "success", "Success", "None is enrolled yet.")


def _success_by(
    what: str, rows: Sequence[tuple[str, int, int, str, str]], anchor: str, link: str, none: str
) -> Section:
    section = Section(f"Success by {what}", anchor=anchor, link=link)
    section.blocks.append(_rates(what, rows) if rows else f'<p class="note">{none}</p>')
    return section


def _rates(what: str, rows: Sequence[tuple[str, int, int, str, str]]) -> str:
    """A table of successes with their intervals drawn. The first cell is HTML."""
    body = "".join(
        f'<tr><td>{first}</td><td class="number">{won:,} of {of:,}</td><td>{_interval(won, of)}</td>'
        f'<td class="number">{interventions}</td><td class="number">{safety}</td></tr>'
        for first, won, of, interventions, safety in rows
    )
    return (
        f'<div class="table"><table><tr><th>{what}</th><th class="number">succeeded</th>'
        '<th>0 % to 100 %, with the 95 % interval</th><th class="number">interventions</th>'
        f'<th class="number">safety events</th></tr>{body}</table></div>'
    )


def _interval(won: int, of: int, width: int = 260) -> str:
    """A success rate with Wilson's interval, as an inline SVG."""
    if not of:
        return '<span class="note">no judged episode</span>'
    low, high = wilson_interval(won, of)
    return (
        f'<svg width="{width + 60}" height="18" role="img" aria-label="{won / of:.0%}, {low:.0%} to {high:.0%}">'
        f'<rect x="0" y="6" width="{width}" height="6" rx="3" fill="#e9edf1"/>'
        f'<rect x="{width * low:.1f}" y="6" width="{max(width * (high - low), 2):.1f}" height="6" fill="#8fb7c6"/>'
        f'<rect x="{width * won / of - 1.5:.1f}" y="2" width="3" height="14" fill="#1f6f8b"/>'
        f'<text x="{width + 8}" y="13" font-size="12" fill="#1d2733">{won / of:.0%}</text></svg>'
    )


def _episodes(registry: Registry, episodes: Sequence[EpisodeRecord]) -> Section:
    section = Section("Newest episodes", anchor="episodes", link="Episodes")
    if not episodes:
        section.text("None has arrived yet.", "note")
        return section
    names = {policy.digest: policy.name for policy in registry.policies()}
    body = "".join(
        f'<tr><td><a href="/episode/{one.id}">{one.id}</a></td>'
        f'<td><a href="/robot/{_url(one.robot)}">{escape(one.robot)}</a></td>'
        f"<td>{escape(one.task[:40])}</td><td>{escape(names.get(one.policy or '', (one.policy or 'none')[:12]))}</td>"
        f"<td>{_verdict(one.success)}</td><td class='number'>{one.seconds:.1f} s</td>"
        f"<td class='number'>{one.interventions}</td><td class='number'>{one.safety_events}</td>"
        f"<td>{_when(one.time)}</td></tr>"
        for one in episodes
    )
    section.blocks.append(
        '<div class="table"><table><tr><th>episode</th><th>robot</th><th>task</th><th>policy</th><th>result</th>'
        '<th class="number">took</th><th class="number">interventions</th><th class="number">safety events</th>'
        f"<th>when (UTC)</th></tr>{body}</table></div>"
    )
    return section


def _audit(answer: Mapping[str, Any]) -> Section:
    section = Section("")
    broken = answer["audit"]["broken_at"]
    if broken is None:
        section.text(f"The audit log has {answer['audit']['entries']:,} entries and is whole.", "note")
    else:
        section.blocks.append(
            f'<p class="bad">The audit log is not whole: entry {broken} is not what was written.</p>'
        )
    return section


def robot(registry: Registry, name: str, now: float | None = None) -> str:
    """The page of one robot. Raises UserError for one that is not enrolled."""
    record = registry.robot(name)
    answer = next(row for row in status(registry, now)["robots"] if row["name"] == name)
    section = Section("")
    kind = STATES.get(answer["state"], "") if answer["online"] else ""
    section.blocks.append(
        f'<p><span class="state {kind}">{escape(answer["state"].replace("_", " "))}</span> '
        f'<span class="note">{_seen(answer)}</span></p>'
    )
    rates = _rates(
        "robot",
        [
            (
                escape(name),
                answer["successes"],
                answer["judged"],
                str(answer["interventions"]),
                str(answer["safety_events"]),
            )
        ],
    )
    section.blocks.append(rates)
    section.facts(
        {
            "site": record.site,
            "firmware": record.firmware,
            "camera": record.camera,
            "runs": record.policy,
            "is to run": answer["wanted"],
            "goes back by itself": record.rule,
            "asked to stop": answer["stop"],
            **{f"says: {key}": value for key, value in list(record.details.items())[:20]},
        },
        "What is known of it",
    )
    section.text(
        "Joints, cameras and the emergency stop of the arm are on the robot's own page: `deploy --view browser` there.",
        "note",
    )
    return _page(name, "A robot of the fleet.", [section, _episodes(registry, newest(registry, robot=name))])


def policy(registry: Registry, digest: str) -> str:
    """The page of one policy. Raises UserError for one that there is not."""
    record = registry.policy(digest)
    section = Section("")
    counts = registry.counts()["policy"].get(record.digest, (0, 0, 0, 0, 0))
    section.blocks.append(
        _rates("policy", [(escape(record.name), counts[2], counts[1], str(counts[3]), str(counts[4]))])
    )
    section.facts(
        {
            "digest": record.digest,
            "task": record.task,
            "robot": record.robot,
            "published": f"{_when(record.created)} by {record.publisher}",
            **{key: value for key, value in record.lineage.items() if value},
        },
        "Where it comes from",
    )
    return _page(
        record.name, f"A policy for {record.task}.",
        [section, _episodes(registry, newest(registry, policy=record.digest))],
    )  # fmt: skip


def rollout(registry: Registry, number: int) -> str:
    """The page of one rollout. Raises UserError for one that there is not."""
    record = registry.rollout(number)
    section = Section("Stages")
    _stages(section, record.progress, record.plan)
    groups = Section("Groups")
    if record.progress.get("stages"):
        bar = record.progress["stages"][-1]["log_evidence_to_pass"]
        groups.text("Each site, firmware and camera on its own, at the newest stage that has begun.", "note")
        found = record.progress["stages"][-1]["groups"]
        groups.table(
            [
                {
                    "group": name,
                    "candidate": _rate(group["candidate"]),
                    "stable, beside it": _rate(group["stable"]),
                    "may be worse by": f"{group['delta']:.0%}",
                    "shown": f"{min(max(group['log_evidence_not_worse'] / bar, 0), 1):.0%}",
                }
                for name, group in found.items()
            ]
        )
    facts = Section("")
    facts.facts(
        {
            "candidate": record.policy,
            "stable": record.baseline,
            "begun": _when(record.created),
            **{"ended": _when(record.ended) if record.ended else None},
            **dict(record.plan.get("rules", {})),
        },
        "Rules",
    )
    return _page(
        f"Rollout {number}: {record.state}", "A policy on its way to all robots.", [section, groups, facts]
    )


def episode(registry: Registry, number: int, joints: Sequence[Section], videos: Sequence[str]) -> str:
    """The page of one episode, with what its run left behind. Raises UserError for one that there is not."""
    record = registry.episode(number)
    section = Section("")
    section.facts(
        {
            "robot": record.robot,
            "task": record.task,
            "policy": record.policy,
            "success": record.success,
            "judged by": record.judge,
            "took": f"{record.seconds:.1f} s",
            "interventions": record.interventions,
            "safety events": record.safety_events,
            "when": _when(record.time),
            **{str(key): value for key, value in list(record.details.items())[:20]},
        },
        "What was told of it",
    )
    section.blocks[-1] = section.blocks[-1].replace("<details>", "<details open>")
    shown = list(joints)
    if videos:
        pictures = Section("Video")
        pictures.blocks += [
            f'<figure><video controls muted preload="metadata" src="{escape(url)}"></video></figure>'
            for url in videos
        ]
        shown.insert(0, pictures)
    if not shown:
        missing = Section("Joints and video")
        missing.text(
            "This episode's run is not on this machine. Start the dashboard with --runs DIR, the folder that has one "
            "folder of runs per robot.",
            "note",
        )
        shown.append(missing)
    return _page(f"Episode {number}", f"Of {record.robot}.", [section, *shown], refresh=False)


def _page(title: str, lead: str, sections: Sequence[Section], refresh: bool = True) -> str:
    html = page(title, lead, sections, f"As of {_when(time.time())} UTC.")
    head = f"<style>{LIVE_CSS}{EXTRA_CSS}</style><link rel='icon' href='data:,'>"
    if refresh:
        head += f'<meta http-equiv="refresh" content="{REFRESH}">'
    home = "" if title == "Fleet" else '<p><a href="/">Fleet</a></p>'
    return html.replace("</head>", f"{head}</head>", 1).replace("<header>", f"{home}<header>", 1)


def _rate(row: Mapping[str, Any]) -> str:
    if not row["episodes"]:
        return "none yet"
    low, high = row["interval_95"]
    return f"{row['successes']} of {row['episodes']} ({low:.0%} to {high:.0%})"


def _verdict(success: bool | None) -> str:
    if success is None:
        return '<span class="note">not judged</span>'
    return '<span class="good">success</span>' if success else '<span class="bad">failure</span>'


def _seen(row: Mapping[str, Any]) -> str:
    age = row["last_seen_s"]
    if age is None:
        return "never heard"
    return "heard just now" if age < OFFLINE_AFTER else f"last heard {age / 60:.0f} min ago"


def _when(moment: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(moment))
    except (OverflowError, ValueError, OSError):
        return "?"


def _url(text: str) -> str:
    return urllib.parse.quote(text, safe="")
