"""The paper whose method this is, as model cards cite it."""

from __future__ import annotations

import textwrap


PAPER = {
    "title": "PACED: Distillation and On-Policy Self-Distillation at the Frontier of Student Competence",
    "id": "2603.11178",
    # docstyle-ignore
    "citation": textwrap.dedent("""\
        @article{xu2026paced,
            title        = {{PACED: Distillation and On-Policy Self-Distillation at the Frontier of Student
                            Competence}},
            author       = {Xu and Sang and Zhou and He and Wang},
            year         = 2026,
            eprint       = {arXiv:2603.11178},
        }"""),
}
