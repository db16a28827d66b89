"""Write the results of a run as one Markdown file without pictures, such as RESULTS.md.

Everything in it comes from the tables and records of the run, so the same run gives the same bytes: no date, no time
and no folder of the machine is in it.
"""

import re
from pathlib import Path

from fusionlib.config import PROFILES
from fusionlib.experiments.claims import CLAIMS, PEOPLE, RULE, compare, found
from fusionlib.experiments.methods import OURS
from fusionlib.experiments.suite import WEIGHTS
from fusionlib.peers.recipes import ARCHITECTURE_ONLY, architecture_only
from fusionlib.peers.sources import SOURCES
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import write_atomically
from fusionlib.viewer.report import contents
from fusionlib.visualization.saved_tables import escape, markdown_comparison, markdown_rows, markdown_table, read_table
from fusionlib.visualization.table_export import difference_text

MARK = "<!-- written by python -m fusionlib results -->"  # distinguishes such a file from others
NAME = "RESULTS.md"
#: The paper's tables: title, name of their files or, where it ends in _, its beginning, and what they are made from.
TABLES = (("Table 1: fusion on LLVIP", "05_table_LLVIP", "test pairs of LLVIP"),
          ("Table 2: fusion on M3FD", "05_table_M3FD", "test pairs of M3FD"),
          ("Table 3: fusion on MSRS", "05_table_MSRS", "test pairs of MSRS"),
          ("Fusion on other data sets", "05_table_", "test pairs of other data sets"),
          ("Table 4: detection of people", "06_table4", "labelled pairs"),
          ("Table 5: medical images", "08_table5_", "medical images, or phantoms"),
          ("Table 6: fusion in the ablations", "07_table6", "labelled pairs"),
          ("Table 7: detection in the ablations", "07_table7", "labelled pairs"))  # fmt: skip
DETECTION = ("06_table4", "07_table7")  # whose columns may be of several detectors
MAIN = ("mAP@.5:.95", "R@P.9")  # measures of the sentences on people
FOLDERS = re.compile(r"(?<![\w.~-])(?:~|[A-Za-z]:)?[/\\](?:[^\s,/\\]+[/\\])*")  # of a path, up to the name of the file


def write_results(folder: str | Path, out: str | Path = "", problems: list[str] | None = None) -> Path:
    """Write what a run has found: data, the paper's claims beside what was found, tables 1 to 7, settings and versions.

    Args:
        folder: of the run, with the executed notebooks, such as data/runs/small.
        out: a file that ends in .md: a new one, or one that this function has written; empty: <folder>/RESULTS.md.
        problems: a list to which a sentence is added for each file of the run that could not be read.

    Returns the path of the file. Raises FusionError for a folder without executed notebooks, and for another `out`.
    """
    run = contents.read(folder)
    out = Path(out).expanduser() if out else contents.own(run, run.folder / NAME)
    if out.suffix != ".md" or (out.exists() and not _is_ours(out)):
        raise FusionError(f"{out}: expected the name of a new file that ends in .md, or of one that this command has "
                          "written, found another; give another name with --out")
    tables = _read_tables(run)
    parts = [MARK, "# Results", *_about(run), "## In short", *_people(run, tables),
             "## The paper's claims, and what was found", *_claims(run, tables), "## Data", *_data(run),
             *_tables(run, tables), "## Methods without numbers", _left_out(tables), "## Settings and versions",
             *_settings(run)]  # fmt: skip
    write_atomically(out, ("\n\n".join(parts) + "\n").encode("utf-8", "backslashreplace"))
    if problems is not None:
        problems += run.problems
    return out


def _is_ours(path):
    return path.is_file() and path.read_text(encoding="utf-8", errors="replace").startswith(MARK)


def _read_tables(run):
    """{name: table, or None if its files cannot be read} of the run's tables, those of the paper's data sets first."""
    names, tables = sorted(path.stem for path in (run.folder / "figures").glob("*.csv")), {}
    for name in [name for _, wanted, _ in TABLES for name in names if _is_named(name, wanted)]:
        if name not in tables:
            try:
                paths = [contents.own(run, run.folder / "figures" / f"{name}{end}") for end in (".csv", ".html")]
                tables[name] = read_table(paths[0].with_suffix(""))
            except FusionError as error:
                run.problems.append(str(error))
                tables[name] = None
    return tables


def _is_named(name, wanted):
    return name == wanted or (wanted.endswith("_") and name.startswith(wanted))


def _about(run):
    done = [notebook for notebook in run.notebooks if notebook.state == "done"]
    said = [f"Profile {escape(run.profile())}", f"{len(done)} of {len(run.notebooks)} notebooks done",
            run.feedback and f"answers about the images by {escape(run.feedback)}"]
    yield ("Made by `python -m fusionlib results` from the tables and records of a run; no number or answer is "
           f"written by hand. {'; '.join(filter(None, said))}.")
    if lines := [f"- {escape(notebook.name)}: {escape(notebook.message if notebook in done else notebook.state)}"
                 for notebook in run.notebooks if notebook not in done or notebook.message]:
        yield "\n".join(lines)


def _people(run, tables):
    """What the suite is for, in the words that the README repeats."""
    if (table := tables.get("06_table4")) is None:
        yield _missing(run, "06", "labelled pairs", "06_table4" in tables)
        return
    compared, lines, judges = compare(table, PEOPLE), [], set()
    for measure in table.attrs["higher_is_better"]:
        name, _, judge = measure.partition(" ")
        judges.add(judge)
        sources = {other: table.loc[other, (measure, "mean")] for other, each in compared.index if each == measure}
        if name in MAIN and sources:
            best = max(sources, key=sources.get)
            row, ours = compared.loc[(best, measure)], table.loc[OURS, (measure, "mean")]
            lines.append(f"- {name} by {_detector(run, judge)}: {ours:.3f} in the refined images, {sources[best]:.3f} "
                         f"in {best} alone, the better source: {row['verdict']} ({difference_text(row, 3)})")
    size = re.search(r"n = (.+? people)", table.attrs["caption"])
    yield (f"How well people are found in {escape(size[1]) if size else 'the test images'}, with the 95 % interval of "
           "the difference, and p after Holm's correction for all comparisons of table 4:")
    yield "\n".join(lines) or "Nothing to compare: the sources or the refined images have no numbers."
    if judges == {""}:
        yield "No detector that was in no loss is in this run: `--set held_out_detector=FILE` adds one."


def _claims(run, tables):
    yield f"{RULE} Intervals are over scenes where these have several images. Claims are in our words."
    rows, details = [["", "claim", "by", "better", "worse", "inconclusive", "found", "whose"]], []
    for number, claim in enumerate(CLAIMS, 1):
        whose, before = "the paper's" if claim.of_paper else "ours", len(rows)
        names = iter([(str(number), claim.words)])  # in the first row of the claim
        details.append(f"### {number}. {claim.words}")
        for name, table in tables.items():
            if table is None or not any(_is_named(name, wanted) for wanted in claim.tables):
                continue
            compared = compare(table, claim)
            measures = compared.index.get_level_values("measure")
            judges = [measure.partition(" ")[2] if name in DETECTION else "" for measure in measures]
            for judge in dict.fromkeys(judges):
                verdicts = list(compared["verdict"][[each == judge for each in judges]])
                counts = [str(verdicts.count(word)) for word in ("better", "worse", "inconclusive")]
                rows.append([*next(names, ("", "")), _by(run, name, judge), *counts, found(verdicts), whose])
            if judges:
                details += [f"{claim.row} minus the other, {_by(run, name, None)}:",
                            markdown_comparison(compared, table)]
        if len(rows) == before:
            rows.append([str(number), claim.words, *"––––", found([]), whose])
            details.append("Nothing to compare: the tables are not in this run, or no other row has numbers.")
    yield markdown_rows(rows)
    yield from details


def _by(run, name, judge):
    """What a table says something by: its data set, or a detector; `judge` None: by all of its detectors."""
    if name in DETECTION:
        return "people" if judge is None else f"people, by {_detector(run, judge)}"
    return "image quality" if name == "07_table6" else escape(name.split("_", 2)[2])


def _data(run):
    yield ("Pairs of an infrared and a visible image. A scene is a place or a drive, of medical images a head; none "
           "both trains and tests, unless it is the only one of its data set.")
    yield _rows(contents.data_rows(run))
    if left_out := {name: len(manifest["left_out"]) for name, manifest in run.manifests.items()
                    if manifest.get("left_out")}:  # fmt: skip
        yield f"Files that could not be read and are left out: {', '.join(f'{n} by {k}' for k, n in left_out.items())}."


def _tables(run, tables):
    shown = set()
    for title, wanted, needed in TABLES:
        there = [name for name in tables if _is_named(name, wanted) and name not in shown]
        shown.update(there)
        yield f"## {title}"
        if not there:
            yield _missing(run, wanted[:2], needed)
        for name in there:
            yield _missing(run, name[:2], needed, True) if tables[name] is None else markdown_table(tables[name])


def _missing(run, number, needed, damaged=False):
    profile = run.profile() if run.profile() in PROFILES else "small"
    profile = "small" if number == "05" and PROFILES[profile].scenes_train else profile  # its data sets are real ones
    data = "" if PROFILES[profile].scenes_train else " --data-root DIR"
    what = "Its files in this run cannot be read" if damaged else "Not in this run"
    return f"{what}. Made from {needed} by `python -m fusionlib run --profile {profile}{data} --only {number}`."


def _left_out(tables):
    notes = {}
    for table in filter(lambda table: table is not None, tables.values()):
        for method in table.index[(table["", "n"] == 0) & ~table.index.str.endswith(", retrained")]:
            notes.setdefault(method, table[""].iloc[:, 0][method])
    return "\n".join(f"- {_why(*each)}" for each in notes.items()) or "None."


def _why(method, note):
    source = SOURCES.get(method)
    if note != "no weights" or source is None:
        return f"{escape(method)}{f' ({escape(note)})' * bool(note)}: not all of the test pairs could be fused"
    if method in ARCHITECTURE_ONLY:
        return escape(architecture_only(method))
    official = f"no weights in this run; the official ones are at {source.weights}"
    return f"{escape(method)}: {escape(official if source.weights else source.paper)}"


def _settings(run):
    rows = contents.changed_rows(run)
    for row in rows:
        row["given"] = Path(row["given"]).name if row["setting"] in WEIGHTS else FOLDERS.sub("", row["given"])
    yield f"Settings other than those of the profile {escape(run.profile())}: {len(rows) or 'none'}."
    if rows:
        yield _rows(rows)
    versions = [f"{name} {' or '.join(values)}" for name, values in contents.by_value(run, "versions").items()]
    yield f"Versions: {escape(', '.join(versions)) or 'not recorded'}."
    digests = [f"{name} {str(record.get('fingerprint'))[:12]}" for name, record in run.stages.items()
               if record and "/" not in name]  # fmt: skip
    yield f"Fingerprints of stages, over settings, data and code: {escape(', '.join(digests)) or 'not recorded'}."


def _detector(run, judge):
    """A held-out detector by its name, or with "" the one in the loss."""
    if judge:
        return f"{escape(judge)} (in no loss)"
    settings = run.stages.get("04_text_dfh", {}).get("profile") or vars(PROFILES.get(run.profile(), PROFILES["paper"]))
    return f"{escape(Path(str(settings.get('detector'))).stem)} (in the loss)"


def _rows(rows):
    return markdown_rows([list(rows[0]), *([str(value) or "–" for value in row.values()] for row in rows)]) if rows \
        else "Not recorded in this run."
