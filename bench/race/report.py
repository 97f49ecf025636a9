# SPDX-License-Identifier: Apache-2.0
"""The race's results: as a structure for --json, and as the tables that are printed.

results: {backing: {workload name: {path name: [sample, one for each round]}}}
"""

from race import aims, backings, figures, fio

# Each becomes a figure: median, lowest, highest, spread.
QUANTITIES = ["iops", "bytes_per_s", "server_cpu_s_per_mop", "client_cpu_s_per_mop", "machine_cpu_s_per_mop",
              "p50_us", "p99_us", "p99_9_us"]


def throughput(samples):
    return figures.Figure([sample["iops"] for sample in samples])


def ratios(rows, path, spread_limit):
    """Against each reference that ran: {column: a number, or the word that says why not}."""
    found = {column: backings.reference(path, column) for column in backings.REFERENCES}
    return {column: figures.ratio(throughput(rows[path]), throughput(rows[other]), spread_limit)
            for column, other in found.items() if other in rows}


def columns_of(rows):
    """Of the references, those that any of these rows has."""
    return [column for column in backings.REFERENCES
            if any(backings.reference(path, column) in rows for path in rows)]


def figure_of(samples, quantity):
    values = [sample[quantity] for sample in samples]
    if None in values:
        return None
    figure = figures.Figure(values)
    return {"median": figure.median, "min": figure.lowest, "max": figure.highest, "spread": figure.spread}


def as_structure(head, results, spread_limit, judged):
    races = []
    for backing, loads in results.items():
        for load, rows in loads.items():
            for path, samples in rows.items():
                races.append({"backing": backing, "workload": load, "path": path, "rounds": samples,
                              "figures": {q: figure_of(samples, q) for q in QUANTITIES},
                              "ratios": ratios(rows, path, spread_limit)})
    return {"head": head, "rows": races, "aims": judged}


def ratio_text(value):
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.2f}"


def number_text(value):
    """Three digits that mean something; never an exponent."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def row_cells(rows, columns, load, path, spread_limit):
    samples = rows[path]
    scale = fio.MIB if load.unit == "MiB/s" else 1000
    quantity = "bytes_per_s" if load.unit == "MiB/s" else "iops"
    speed = figures.Figure([sample[quantity] / scale for sample in samples])
    against = ratios(rows, path, spread_limit)
    cells = [path, number_text(speed.median), f"{number_text(speed.lowest)}-{number_text(speed.highest)}",
             f"{speed.spread:.2f}"]
    cells += [ratio_text(against.get(column)) for column in columns]
    for name in ["server_cpu_s_per_mop", "client_cpu_s_per_mop", "p50_us", "p99_us", "p99_9_us"]:
        figure = figure_of(samples, name)
        cells.append(number_text(figure and figure["median"]))
    return cells


def table_lines(table):
    """The lines of a table, an empty one before it; first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*table)]
    yield ""
    for row in table:
        yield "  ".join([row[0].ljust(widths[0]), *(c.rjust(width) for c, width in zip(row[1:], widths[1:]))])


def head_lines(head):
    yield (f"bdfs race: {head['size_bytes'] // fio.MIB} MiB files, {head['rounds']} rounds of {head['runtime_ms']} ms "
           f"after {head['warmup_ms']} ms to warm up; medians")
    yield (f"{head['kernel']}, {head['cores']} cores, load {head['load_1min']:.2f} at start, "
           f"steal {head['steal_percent']:.1f} %; {head['filesystem']}")
    yield "; ".join(head["versions"].values())
    yield (f"/x: median throughput over x's, refused where (max - min) / median is above {head['spread_limit']} on "
           "either side; s/M: CPU seconds per million operations")
    for backing, rows in head["left_out"].items():
        for path, why in rows.items():
            yield f"{backing} {path}: left out: {why}"


def header_cells(backing, load, columns):
    return [f"{backing} {load.name}", load.unit, "min-max", "spread", *(f"/{column}" for column in columns),
            "server s/M", "client s/M", "p50 us", "p99 us", "p99.9 us"]


def aim_lines(judged):
    table = [["aim", "against", "backing", "workload", "at least", "ratio", "verdict"]]
    table += [[aim["path"], aim["against"], aim["backing"], aim["workload"], f"{aim['aim']:.2f}",
               ratio_text(aim["ratio"]), aim["verdict"]] for aim in judged]
    return table_lines(table) if judged else []


def text(head, results, spread_limit, judged):
    """Everything for people, as one string."""
    lines = list(head_lines(head))
    for backing, loads in results.items():
        for name, rows in loads.items():
            load, columns = fio.workload(name), columns_of(rows)
            lines += table_lines([header_cells(backing, load, columns),
                                  *(row_cells(rows, columns, load, path, spread_limit) for path in rows)])
    lines += aim_lines(judged)
    return "\n".join(lines)
