"""What Galley's runs must reach, and what they should, on two quiet cores."""

Figures = dict[str, dict[str, float]]

TIMES = {"one step": (12, 7), "chain of 100": (600, 400), "fan of 100": (240, 160)}
"""Milliseconds: what is required, and the goal."""

RATES = {"Galley on SQLite": (80, 115), "Galley on Postgres": (55, 80)}
"""Runs of five steps a second in the burst: what is required, and the goal."""

PREFECT = 100
DBOS = (1.2, 1.6)


def judge(name: str, figures: Figures) -> list[str]:
    """One line for each bar of Galley on a database."""
    lines = []
    for work, (required, goal) in TIMES.items():
        found = figures[work]["median_ms"]
        verdict = _verdict(found <= required, found <= goal)
        lines.append(f"{work} {found:.1f} ms (required {required}, goal {goal}): {verdict}")
    found, (required, goal) = figures["burst"]["runs_s"], RATES[name]
    verdict = _verdict(found >= required, found >= goal)
    lines.append(f"burst {found:.0f} runs/s (required {required}, goal {goal}): {verdict}")
    return lines


def judge_peers(name: str, figures: Figures, peers: dict[str, Figures]) -> list[str]:
    """One line for each bar that a peer of the same run sets."""
    lines = []
    rate = figures["burst"]["runs_s"]
    for peer, theirs in peers.items():
        if peer == "prefect":
            ratios = {w: theirs[w]["median_ms"] / figures[w]["median_ms"] for w in TIMES}
            ratios["burst"] = rate / theirs["burst"]["runs_s"]
            for work, ratio in ratios.items():
                verdict = _verdict(ratio >= PREFECT, ratio >= PREFECT)
                lines.append(f"{work} {ratio:.0f} times Prefect (required {PREFECT}): {verdict}")
        elif peer.startswith("dbos") and ("Postgres" in peer) == ("Postgres" in name):
            best = max(theirs[work]["runs_s"] for work in ("burst", "burst, queued"))
            ratio, (required, goal) = rate / best, DBOS
            verdict = _verdict(ratio >= required, ratio >= goal)
            told = f"burst {ratio:.2f} times {peer} (required {required}, goal {goal})"
            lines.append(f"{told}: {verdict}")
    return lines


def _verdict(is_required: bool, is_goal: bool) -> str:
    if is_goal:
        return "met"
    return "short of the goal" if is_required else "SHORT OF WHAT IS REQUIRED"
