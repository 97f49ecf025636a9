# SPDX-License-Identifier: Apache-2.0
"""The race's results: as a structure for --json, and as the table on standard output.

results: {backing: {workload name: {path name: [sample, one for each round]}}}
"""

from race import backings, figures, fio

# Each becomes a figure: median, lowest, highest, spread.
QUANTITIES = ["iops", "bytes_per_s", "server_cpu_s_per_mop", "client_cpu_s_per_mop", "machine_cpu_s_per_mop",
              "p50_us", "p99_us", "p99_9_us"]


def throughput(samples):
    return figures.Figure([sample["iops"] for sample in samples])


def ratios(rows, backing, path, spread_limit):
    """Against each reference of the backing that ran: a number, or the word that says why not."""
    return {reference: figures.ratio(throughput(rows[path]), throughput(rows[reference]), spread_limit)
            for reference in backings.REFERENCES[backing] if reference in rows and reference != path}


def figure_of(samples, quantity):
    values = [sample[quantity] for sample in samples]
    if None in values:
        return None
    figure = figures.Figure(values)
    return {"median": figure.median, "min": figure.lowest, "max": figure.highest, "spread": figure.spread}


def as_structure(head, results, spread_limit):
    races = []
    for backing, loads in results.items():
        for load, rows in loads.items():
            for path, samples in rows.items():
                races.append({"backing": backing, "workload": load, "path": path, "rounds": samples,
                              "figures": {q: figure_of(samples, q) for q in QUANTITIES},
                              "ratios": ratios(rows, backing, path, spread_limit)})
    return {"head": head, "rows": races}


def ratio_text(value):
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.2f}"


def number_text(value):
    """Three digits that mean something; never an exponent."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def row_cells(rows, backing, load, path, spread_limit):
    samples = rows[path]
    scale = fio.MIB if load.unit == "MiB/s" else 1000
    quantity = "bytes_per_s" if load.unit == "MiB/s" else "iops"
    speed = figures.Figure([sample[quantity] / scale for sample in samples])
    against = ratios(rows, backing, path, spread_limit)
    cells = [path, number_text(speed.median), f"{number_text(speed.lowest)}-{number_text(speed.highest)}",
             f"{speed.spread:.2f}"]
    cells += [ratio_text(against.get(reference)) for reference in backings.REFERENCES[backing]]
    for name in ["server_cpu_s_per_mop", "client_cpu_s_per_mop", "p50_us", "p99_us", "p99_9_us"]:
        figure = figure_of(samples, name)
        cells.append(number_text(figure and figure["median"]))
    return cells


def table_lines(tables):
    """The lines of several tables with equal columns, an empty line before each; first column to the
    left, the others to the right."""
    every_row = [row for table in tables for row in table]
    widths = [max(map(len, column)) for column in zip(*every_row)]
    for table in tables:
        yield ""
        for row in table:
            yield "  ".join([row[0].ljust(widths[0]), *(c.rjust(width) for c, width in zip(row[1:], widths[1:]))])


def print_head(head):
    print(f"bdfs race: {head['size_bytes'] // fio.MIB} MiB files, {head['rounds']} rounds of {head['runtime_ms']} ms "
          f"after {head['warmup_ms']} ms to warm up; medians")
    print(f"{head['kernel']}, {head['cores']} cores, load {head['load_1min']:.2f} at start, "
          f"steal {head['steal_percent']:.1f} %; {head['filesystem']}")
    print("; ".join(head["versions"].values()))
    print(f"/x: median throughput over x's, refused where (max - min) / median is above {head['spread_limit']} on "
          "either side; s/M: CPU seconds per million operations")


def header_cells(backing, load):
    return [f"{backing} {load.name}", load.unit, "min-max", "spread",
            *(f"/{reference}" for reference in backings.REFERENCES[backing]),
            "server s/M", "client s/M", "p50 us", "p99 us", "p99.9 us"]


def print_table(head, results, spread_limit):
    print_head(head)
    for backing, loads in results.items():
        tables = []
        for name, rows in loads.items():
            load = fio.workload(name)
            tables.append([header_cells(backing, load),
                           *(row_cells(rows, backing, load, path, spread_limit) for path in rows)])
        print("\n".join(table_lines(tables)))
