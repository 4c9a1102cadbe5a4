"""Writes report.html with two plots. `work`, `auc`, `late_after_min` and `flights` are parameters."""

import html
import io
from pathlib import Path

import duckdb
import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

carriers = duckdb.sql(f"SELECT * FROM read_parquet('{work}/carriers.parquet')").fetchall()
hours = duckdb.sql(
    f"SELECT hour, origin, late_percent FROM read_parquet('{work}/hours.parquet')"
    " WHERE flights >= 100 ORDER BY hour"
).fetchall()


def as_svg(figure):
    text = io.StringIO()
    figure.savefig(text, format="svg", bbox_inches="tight")
    plt.close(figure)
    return text.getvalue()[text.getvalue().index("<svg") :]


figure, axes = plt.subplots(figsize=(7, 4.5))
names = [row[0] for row in reversed(carriers)]
axes.barh(names, [row[2] or 0 for row in reversed(carriers)], color="#2a6f97")
axes.set_xlabel(f"arrive more than {late_after_min} minutes late (%)")
by_airline = as_svg(figure)

figure, axes = plt.subplots(figsize=(7, 3.5))
for origin in sorted({row[1] for row in hours}):
    points = [(hour, late) for hour, place, late in hours if place == origin]
    axes.plot(*zip(*points, strict=True), marker="o", label=origin)
axes.set_xlabel("hour of departure")
axes.set_ylabel("late (%)")
axes.legend(frameon=False)
by_hour = as_svg(figure)

lines = "".join(
    f"<tr><td>{html.escape(str(name))}<td>{count:,}<td>{late}<td>{median}<td>{cancelled:,}"
    for name, count, late, median, cancelled in carriers
)
page = f"""<!doctype html><html lang="en"><meta charset="utf-8">
<title>Flights out of New York, 2013</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse}}td,th{{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ddd}}
td:first-child,th:first-child{{text-align:left}}svg{{max-width:100%;height:auto}}</style>
<h1>Flights out of New York, 2013</h1>
<p>{int(flights):,} flights. The model tells late from punctual flights with an AUC of {auc}.</p>
<h2>By airline</h2>{by_airline}
<h2>By hour of departure</h2>{by_hour}
<h2>Numbers</h2>
<table><tr><th>airline<th>flights<th>late (%)<th>median delay (min)<th>cancelled{lines}</table></html>
"""
Path(work, "report.html").write_text(page, encoding="utf-8")
LOGGER.info("wrote report.html (%d bytes)", len(page))
