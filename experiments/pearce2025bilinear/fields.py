"""The tables of the page: published, here ±, difference."""

from __future__ import annotations

from reporting import Row, Spread, markdown
from tables import CHECKPOINT, HOSVD, MASKS, RANDOM, Tables, column, orders, where

Line = dict[str, object]


def fields(t: Tables, settings: dict) -> dict[str, str]:
    """Every field of runs.md."""
    numbers = orders(t)
    found = {
        "settings": settings_table(settings),
        "claims": claims(t, numbers),
        "similarity": similarity_table(t),
        "across": across_table(t["across"]),
        "truncation": truncation_table(t["truncation"]),
        "masks": mask_table(t["masks"]),
        "sparsity": sparsity_table(t["sparsity"]),
        "augment": augment_table(t["augment"]),
        "challenge": challenge_table(t["challenge"]),
        "gates": gate_table(t["gates"], t["gates by hand"]),
        "cases": case_table(t["cases"]),
        "noises": noise_text(t["sparsity"]),
        "sparsity_words": sparsity_words(numbers),
        "minutes": f"{sum(float(r['cpu']) for r in networks(t)) / 60:.0f}",
        "count": str(len(networks(t))),
        "mnist": f"{100 * numbers['mnist 512 test']:.2f}",
        "fashion": f"{100 * numbers['fashion 512 test']:.2f}",
    }
    return found


def networks(t: Tables) -> list[Row]:
    """Every trained network once: figures share some."""
    seen: dict[tuple, Row] = {}
    for name, rows in t.items():
        if name.startswith("networks "):
            for r in rows:
                seen[tuple(v for k, v in r.items() if k not in ("figure",))] = r
    return list(seen.values())


def line(figure: str, what: str, published: float | str, here: float, spread: str = "") -> Line:
    """A row of the table of claims."""
    known = isinstance(published, float)
    return {
        "figure": figure,
        "what": what,
        "published": f"{published:.4g}" if known else published,
        "here": f"{here:.3f}{spread}" if abs(here) < 1 else f"{here:.2f}{spread}",
        "difference": f"{round(here - published, 3) + 0.0:+.3f}" if known else "",
    }


def claims(t: Tables, numbers: dict[str, float]) -> str:
    """One line a number that the paper states."""
    lines = [
        line("3", "eigenvalues a side above a tenth of the largest", "about 10",
             numbers["mnist eigenvalues above a tenth"]),
    ]  # fmt: skip
    for k in (1, 2):
        lines += [
            line("17, 18", f"HOSVD {k}, {word}", HOSVD[f"{name} {k}"], numbers[f"hosvd {name} {k}"])
            for name, word in (("singular", "singular value"), ("top", "largest eigenvalue"))
        ]
    for kind, j in (("dense", 0), ("outer", 2)):
        row = where(t["masks"], masks=kind, strength=0.3)[0]
        for i, what in enumerate(("accuracy", "as digit")):
            word = {"accuracy": "accuracy", "as digit": "called the digit"}[what]
            spread = f" ± {float(row[f'{what} error']):.3f}"
            lines.append(line("7", f"{kind} mask of std .3: {word}", MASKS[0.3][j + i],
                              float(row[what]), spread))  # fmt: skip
            spread = f" ± {float(row[f'random {what} error']):.3f}"
            lines.append(line("7", f"{kind}, permuted: {word}", RANDOM[kind][i],
                              float(row[f"random {what}"]), spread))  # fmt: skip
    for row in where(t["masks"], masks="checkpoint", strength=0.3):
        for what, word in (("accuracy", "accuracy"), ("as digit", "called the digit")):
            spread = f" ± {float(row[f'{what} error']):.3f}"
            name = f"dense, a public reproduction's network: {word}"
            lines.append(line("7", name, CHECKPOINT[what], float(row[what]), spread))
    return markdown(lines)


# ---------------------------------------------------------------- figures 5A, 5B, 20


def similarity_table(t: Tables) -> str:
    """First eigenvectors between seeds by size: each way of counting, ± over the outputs."""
    rows, lines = where(t["agreement"], rank=1), []
    for size in dict.fromkeys(r["hidden"] for r in rows):
        mine, row = where(rows, hidden=size), {}
        row["hidden"] = size
        row["published"] = "0.8 to 0.9"
        for head, order, pairs in (
            ("counted as published", "negative", "with_self"),
            ("true pairs, most negative", "negative", "distinct"),
            ("true pairs, largest", "positive", "distinct"),
            ("true pairs, largest of either sign", "magnitude", "distinct"),
        ):
            r = where(mine, order=order, pairs=pairs)[0]
            row[head] = f"{float(r['cosine']):.3f} ± {float(r['deviation']):.3f}"
        tests = where(t["truncation"], hidden=size, kept=0, space="hidden")
        row["test accuracy, %"] = Spread.of([100 * float(r["whole"]) for r in tests]).text()
        lines.append(row)
    return markdown(lines)


def across_table(rows: list[Row]) -> str:
    """First eigenvectors of each size against the largest's, both ways of counting."""
    sizes = sorted({int(r["hidden"]) for r in rows})
    lines = []
    for size in sizes:
        row: Line = {"hidden": size}
        for order, word in (("negative", "most negative"), ("positive", "largest")):
            r = where(rows, order=order, hidden=sizes[-1], other=size)[0]
            row[f"{word}, seeds r ≤ s"] = f"{float(r['script']):.3f}"
            row[f"{word}, r < s"] = f"{float(r['distinct']):.3f}"
        lines.append(row)
    return markdown(lines)


def truncation_table(rows: list[Row], kept=(1, 2, 3, 5, 8, 10, 15, 20, 30)) -> str:
    """Points of test accuracy lost, ± over seeds."""
    lines = []
    for size, space in dict.fromkeys((r["hidden"], r["space"]) for r in rows):
        row: Line = {"hidden": f"{size}" if space == "hidden" else f"{size}, weighted by data"}
        for k in kept:
            mine = where(rows, hidden=size, space=space, kept=k)
            lost = Spread.of([100 * (float(r["whole"]) - float(r["accuracy"])) for r in mine])
            row[f"{k}"] = f"{round(lost.mean, 2) + 0.0:.2f} ± {lost.deviation:.2f}"
        lines.append(row)
    return markdown(lines)


# ---------------------------------------------------------------- figure 7


def mask_table(rows: list[Row], strengths=(0.05, 0.1, 0.15, 0.2, 0.25, 0.3)) -> str:
    """Accuracy under the masks, ± standard error over thirty."""
    lines = []
    for s in strengths:
        told, row = MASKS[s], {"std": f"{s:g}"}
        for kind, j in (("dense", 0), ("outer", 2)):
            mine = where(rows, masks=kind, strength=s)[0]
            here, error = float(mine["accuracy"]), float(mine["accuracy error"])
            row[f"{kind}, published"] = f"{told[j]:.3f}"
            row[f"{kind}, here"] = f"{here:.3f} ± {error:.3f}"
            row[f"{kind}: difference"] = f"{here - told[j]:+.3f}"
            row[f"{kind}, permuted"] = f"{float(mine['random accuracy']):.3f}"
        other = where(rows, masks="outer, std of outer pixels", strength=s)[0]
        row["outer, std over the outer pixels"] = f"{float(other['accuracy']):.3f}"
        steep = where(rows, masks="gradient", strength=s)[0]
        row["dense, margin gradient"] = f"{float(steep['accuracy']):.3f}"
        lines.append(row)
    return markdown(lines)


# ---------------------------------------------------------------- figures 4, 13, 14, 19


def sparsity_table(rows: list[Row]) -> str:
    """The corners of the grid, ± over the rest of it where a mean is taken."""
    lines = []
    noises, decays = (sorted({float(r[n]) for r in rows}) for n in ("noise", "decay"))
    for name, ends in (("noise", noises), ("decay", decays)):
        word = {"noise": "input noise", "decay": "weight decay"}[name]
        for end in (ends[0], ends[-1]):
            mine = where(rows, **{name: end})
            row: Line = {"": f"{word} {end:g}"}
            for head, what, digits in (
                ("eigenvalues, (L1/L2)²", "rank", 1),
                ("pixels of the first, (L1/L2)²", "pixels first", 0),
                ("of the five most negative", "pixels negative", 0),
                ("share on outer pixels", "edge", 3),
                ("test accuracy", "test", 4),
            ):
                row[head] = Spread.of(list(column(mine, what))).text(digits)
            lines.append(row)
    return markdown(lines)


def noise_text(rows: list[Row]) -> str:
    """Accuracy by noise at the largest decay."""
    most = max(float(r["decay"]) for r in rows)
    mine = sorted(where(rows, decay=most), key=lambda r: float(r["noise"]))
    return ", ".join(f"{100 * float(r['test']):.1f} % at {float(r['noise']):g}" for r in mine)


def sparsity_words(n: dict[str, float]) -> str:
    """What noise and weight decay do here, in a sentence each."""
    noise = f"noise changes the first eigenvector's pixels by {n['noise raises pixels first']:+.0f}"
    noise += f" and the eigenvalues by {n['noise raises rank']:+.1f}"
    decay = f"weight decay changes the eigenvalues by {n['decay raises rank']:+.1f}"
    decay += f" and the pixels by {n['decay raises pixels first']:+.0f}"
    return f"Here {noise}; {decay}."


def augment_table(rows: list[Row]) -> str:
    """Without noise and with the most: accuracy, and how the first eigenvectors lie."""
    noises = sorted({float(r["noise"]) for r in rows})
    lines = []
    for kind, level in dict.fromkeys((r["kind"], float(r["level"])) for r in rows):
        words = {
            "none": "none",
            "rotation": f"turned up to {level:g}°",
            "blur": f"blur σ {level:g}",
        }
        row: Line = {"augmentation": words.get(kind, f"moved up to {28 * level:.1f} pixels")}
        for n in (noises[0], noises[-1]):
            r = where(rows, kind=kind, level=level, noise=n)[0]
            word = f"noise {n:g}"
            row[f"accuracy, {word}"] = f"{100 * float(r['test']):.1f}"
            row[f"pixels, {word}"] = f"{float(r['pixels first']):.0f}"
            row[f"outer share, {word}"] = f"{float(r['edge']):.3f}"
            row[f"smooth, {word}"] = f"{float(r['smooth']):.2f}"
        lines.append(row)
    return markdown(lines)


# ---------------------------------------------------------------- figure 6, 15, 16, gates


def challenge_table(rows: list[Row]) -> str:
    """What the paper says, and the numbers here."""
    n = {str(r["name"]): float(r["value"]) for r in rows}
    told = {
        "one large positive eigenvalue, the rest about 0": (
            f"{n['first eigenvalue']:.3f}; next {n['second eigenvalue']:.3f}, "
            f"most negative {n['most negative eigenvalue']:.3f}"
        ),
        "its eigenvector alone solves the task": (
            f"{100 * n['accuracy of the first alone']:.2f} % with a threshold; the network "
            f"{100 * n['test accuracy']:.2f} %, always the larger class "
            f"{100 * n['share of the larger class']:.2f} %"
        ),
        "the bias contributes negatively": (
            f"{n['what biases add on the mean']:+.2f} to True - False on the mean test image"
        ),
        "the eigenvector shows the target": f"cosine in pixels {n['cosine to the target']:.2f}",
    }
    return markdown([{"published": k, "here": v} for k, v in told.items()])


def case_table(rows: list[Row]) -> str:
    """The three largest terms of a logit."""
    return markdown(
        [
            {
                "test row": r["row"],
                "label": r["label"],
                "answer": r["answer"],
                "logit of": r["output"],
                "logit": f"{float(r['logit']):.2f}",
                "three largest terms": ", ".join(
                    f"{float(r[f'term {k}']):+.2f}" for k in (1, 2, 3)
                ),
            }
            for r in rows
        ]
    )


def gate_table(rows: list[Row], hand: list[Row]) -> str:
    """Learnt forms against those by hand, ± over seeds."""
    lines = []
    for gate, hidden in dict.fromkeys((r["gate"], r["hidden"]) for r in rows):
        mine = where(rows, gate=gate, hidden=hidden)
        lines.append(
            {
                "gate of all six pairs of four inputs": f"{gate.upper()}, {hidden} hidden",
                "cosine to the form by hand": Spread.of(list(column(mine, "cosine"))).text(4),
                "largest entry off": Spread.of(list(column(mine, "error"))).text(3),
                "eigenvalues, (L1/L2)²": Spread.of(list(column(mine, "rank"))).text(2),
                "loss": f"{column(mine, 'loss').mean():.1e}",
            }
        )
    errors = ", ".join(f"{r['gate']} {float(r['error']):g}" for r in hand)
    return (
        markdown(lines) + f"\n\nBy hand, with biases: largest error on the truth table: {errors}."
    )


def settings_table(c: dict) -> str:
    """Where the kept results' settings are less than the published ones."""
    lines = []
    for figure in c["paper"]:
        if figure == "all":
            continue
        here, told = ({**c[k]["all"], **c[k][figure]} for k in ("full", "paper"))
        changed = [n for n in {**told, **here} if here.get(n) != told.get(n) and n != "all"]
        lines.append(
            {
                "figures": {"eigenvectors": "2B, 3, 15 to 18", "masks": "7", "challenge": "6",
                            "similarity": "5A, 5B, 20", "sparsity": "4, 19",
                            "augment": "13, 14"}[figure],
                "published": "; ".join(f"{n} {told.get(n)}" for n in changed) or "all",
                "here": "; ".join(f"{n} {here.get(n)}" for n in changed) or "as published",
                "steps, published and here": f"{steps(told)} and {steps(here)}",
            }
        )  # fmt: skip
    return markdown(lines).replace("[", "").replace("]", "")


def steps(c: dict) -> int:
    """Of AdamW, over 60,000 rows."""
    return c["passes"] * (60_000 // c["batch"])
