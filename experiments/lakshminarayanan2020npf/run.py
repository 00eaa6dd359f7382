"""Reproduces the tables of "Neural Path Features and Neural Path Kernel" (2020).

    python experiments/lakshminarayanan2020npf/run.py --small
    python experiments/lakshminarayanan2020npf/run.py --full
    python experiments/lakshminarayanan2020npf/run.py --full --part conv --device cuda
    python experiments/lakshminarayanan2020npf/run.py --page

--small takes a minute, writes nothing into the repository and ends with 1 if the order of the
regimes is another one. --full trains what was published and writes `results`; a run that was cut
goes on from its checkpoints in --work. --page makes page and pictures of what lies in `results`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
PARTS = ("mnist", "alignment", "conv")


def main(arguments: list[str] | None = None) -> int:
    """0 if every check holds."""
    from command_line import begun, command

    parser = command(
        __doc__,
        small="minutes; asserts the order",
        full="as published; writes results",
        page="page and pictures of the results",
    )
    parser.add_argument("--part", choices=PARTS, action="append", help="only this; may be repeated")
    parser.add_argument("--device", default="cpu", help="of the convolutional nets: cpu, cuda")
    parser.add_argument("--work", type=Path, help="folder of the checkpoints")
    parser.add_argument("--so-far", action="store_true", help="mnist: only read the checkpoints")
    parser.add_argument("--threads", type=int, default=1)
    asked, config, _ = begun(parser, arguments, HERE)

    import experiment

    if asked.page:
        return experiment.page(asked.out)
    parts = asked.part or ["mnist", "alignment"]
    work = asked.work or Path(tempfile.gettempdir()) / "gatewise-npf"
    settings = experiment.Settings(
        config, asked.small, asked.device, work, asked.so_far, asked.threads, asked.out
    )
    return experiment.run(parts, settings)


if __name__ == "__main__":
    sys.exit(main())
