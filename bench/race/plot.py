# SPDX-License-Identifier: Apache-2.0
"""The race as a picture: one chart for each backing and workload, a bar for each path (median), with a line from its
lowest to its highest round. gnuplot draws it, as SVG; without it there is no picture, and that is said.
"""

import shutil
import subprocess

from race import figures, fio

COLUMNS = 2
CHART_WIDTH, CHART_HEIGHT = 520, 300


class PlotError(Exception):
    """There is no picture."""


def check():
    if not shutil.which("gnuplot"):
        raise PlotError("a plot needs gnuplot (Debian: gnuplot-nox, Fedora: gnuplot-minimal)")


def chart(number, backing, load, rows):
    """The lines of gnuplot for one chart."""
    quantity, scale = ("bytes_per_s", fio.MIB) if load.unit == "MiB/s" else ("iops", 1000)
    yield f"$data{number} << END"
    for path, samples in rows.items():
        figure = figures.Figure([sample[quantity] / scale for sample in samples])
        yield f'"{path}" {figure.median:.4f} {figure.lowest:.4f} {figure.highest:.4f}'
    yield "END"
    yield f'set title "{backing}: {load.name}"'
    yield f'set ylabel "{load.unit}"'
    yield (f"plot $data{number} using 0:2:xtic(1) with boxes linecolor rgb '#5b8db8' notitle, "
           f"$data{number} using 0:2:3:4 with yerrorbars pointtype 0 linecolor rgb '#303030' notitle")


def script(results, output):
    charts = [(backing, fio.workload(name), rows) for backing, loads in results.items() for name, rows in loads.items()]
    lines = -(-len(charts) // COLUMNS)
    yield f"set terminal svg noenhanced size {CHART_WIDTH * COLUMNS},{CHART_HEIGHT * lines} font 'sans,11' background 'white'"
    yield f"set output '{str(output).replace(chr(39), chr(39) * 2)}'"
    yield "set style fill solid 0.8"
    yield "set boxwidth 0.7"
    yield "set yrange [0:*]"
    yield "set xrange [-0.7:*]"
    yield "set offsets 0, 0.7, 0, 0"
    yield "set xtics rotate by -35"
    yield "set grid ytics"
    yield f"set multiplot layout {lines},{COLUMNS}"
    for number, (backing, load, rows) in enumerate(charts):
        yield from chart(number, backing, load, rows)
    yield "unset multiplot"


def draw(results, output):
    check()
    done = subprocess.run(["gnuplot"], input="\n".join(script(results, output)) + "\n", capture_output=True, text=True,
                          check=False)
    if done.returncode:
        raise PlotError(f"gnuplot: {done.stderr.strip()[:600]}")
